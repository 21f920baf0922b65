// Pointers, wheel and keys on the Gantt chart; what a pointer on the other charts is told.

function place(tip, text, x, y) {
  tip.textContent = text;
  tip.hidden = !text;
  if (!text) return;
  const { offsetWidth: wide, offsetHeight: high } = tip, { clientWidth, clientHeight } = document.documentElement;
  const left = x + 14 + wide > clientWidth ? Math.max(x - 14 - wide, 4) : x + 14;
  tip.style.transform = `translate(${Math.min(left, Math.max(clientWidth - wide - 4, 0))}px,${
    y + 14 + high > clientHeight ? Math.max(y - 14 - high, 4) : y + 14}px)`;
}

function listen(gantt, describe, tip) {
  const { viewport, canvas, overview } = gantt, held = new Map();
  let moved = 0;
  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const perPixel = () => (gantt.to - gantt.from) / gantt.width;

  viewport.addEventListener("wheel", event => {
    if (!gantt.log || !(event.ctrlKey || document.activeElement === viewport)) return;
    const [x, y] = at(event);
    if (event.shiftKey) gantt.stretch(Math.exp(-(event.deltaY || event.deltaX) / 300), y);
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) gantt.move(gantt.from + event.deltaX * perPixel());
    else gantt.zoom(Math.exp(event.deltaY / (event.ctrlKey && !Number.isInteger(event.deltaY) ? 80 : 300)), gantt.timeAt(x));
    event.preventDefault();
  }, { passive: false });

  viewport.addEventListener("pointerdown", event => {
    if (!gantt.log || event.button) return;
    const [x, y] = at(event);
    if (x > canvas.clientWidth) return; // the scroll bar
    if (!held.size) moved = 0;
    held.set(event.pointerId, [x, y]);
    if (event.pointerType === "mouse") place(tip, "", 0, 0);
  });
  viewport.addEventListener("pointermove", event => {
    if (!gantt.log) return;
    const [x, y] = at(event), before = held.get(event.pointerId);
    if (!before) return event.pointerType === "mouse" ? hover(event, x, y) : undefined;
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
    moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (moved > 4) {
      viewport.classList.add("drag");
      if (viewport.isConnected && event.isTrusted) viewport.setPointerCapture(event.pointerId);
      if (others.length === 1) {
        const [[other]] = others, was = Math.max(Math.abs(before[0] - other), 12), is = Math.max(Math.abs(x - other), 12);
        gantt.zoom(was / is, gantt.timeAt((x + other) / 2));
      } else {
        gantt.move(gantt.from - (x - before[0]) * perPixel());
        if (event.pointerType === "mouse") viewport.scrollTop -= y - before[1];
      }
    }
    held.set(event.pointerId, [x, y]);
  });
  const release = event => {
    const clicked = held.delete(event.pointerId) && moved <= 4 && event.type === "pointerup";
    if (!held.size) viewport.classList.remove("drag");
    if (!clicked) return;
    const [x, y] = at(event), node = gantt.nodeAt(x, y), request = node < 0 ? null : gantt.log.request[node];
    const same = gantt.pick && gantt.pick.request === request;
    gantt.choose(request === null || same ? null : { request });
    if (event.pointerType !== "mouse") hover(event, x, y);
  };
  viewport.addEventListener("pointerup", release);
  viewport.addEventListener("pointercancel", release);
  addEventListener("scroll", () => place(tip, "", 0, 0), { passive: true });
  viewport.addEventListener("pointerleave", () => place(tip, "", 0, 0));
  viewport.addEventListener("scroll", () => { place(tip, "", 0, 0); gantt.later(); });

  function hover(event, x, y) {
    const node = gantt.nodeAt(x, y), stop = node < 0 ? gantt.stopAt(x, y) : null;
    viewport.style.cursor = node < 0 ? "" : "pointer";
    place(tip, node < 0 ? (stop ? `Not to be had: ${stop.reason}` : "") : describe(node), event.clientX, event.clientY);
  }

  const keys = {
    "+": () => gantt.zoom(1 / 1.5), "=": () => gantt.zoom(1 / 1.5), "-": () => gantt.zoom(1.5), 0: () => all(),
    ArrowLeft: () => gantt.move(gantt.from - (gantt.to - gantt.from) / 8),
    ArrowRight: () => gantt.move(gantt.from + (gantt.to - gantt.from) / 8),
    ArrowUp: () => { viewport.scrollTop -= 3 * gantt.tall; }, ArrowDown: () => { viewport.scrollTop += 3 * gantt.tall; },
    Home: () => gantt.move(0), End: () => gantt.move(gantt.log.span),
    t: () => gantt.stretch(1.4), f: () => gantt.stretch(1 / 1.4), Escape: () => gantt.choose(null),
  };
  const all = () => { gantt.from = 0; gantt.to = gantt.log.span; gantt.later(); };
  viewport.addEventListener("keydown", event => {
    const act = keys[event.key] || keys[event.key.toLowerCase()];
    if (!act || !gantt.log || event.ctrlKey || event.metaKey || event.altKey) return;
    act();
    event.preventDefault();
  });
  const buttons = { in: "+", out: "-", left: "ArrowLeft", right: "ArrowRight", reset: "0", taller: "t", flatter: "f" };
  for (const button of document.querySelectorAll(".tools [data-do]"))
    button.addEventListener("click", () => gantt.log && keys[buttons[button.dataset.do]]());

  const jump = event => {
    const box = overview.getBoundingClientRect(), share = (event.clientX - box.left - GUTTER) / (box.width - GUTTER);
    gantt.move(share * gantt.log.span - (gantt.to - gantt.from) / 2);
  };
  overview.addEventListener("pointerdown", event => { overview.setPointerCapture(event.pointerId); jump(event); });
  overview.addEventListener("pointermove", event => event.buttons && jump(event));
}

// Lets a pointer on a chart of lines or layers read their values back from what is drawn.
function readable(svg, tip) {
  const wide = svg.viewBox.baseVal.width, [left, right, top, bottom] = svg.dataset.plot.split(" ").map(Number);
  const scale = (text, from, to) => {
    const [low, high, log] = text.split(" ").map(Number);
    return at => {
      const share = (at - from) / (to - from), linear = log > low ? 1 : 0;
      if (!log) return low + share * (high - low);
      const decades = share * (Math.log10(high / log) + linear) - linear;
      return decades >= 0 ? log * 10 ** decades : log + decades * (log - low);
    };
  };
  const xOf = scale(svg.dataset.x, left, right), yOf = scale(svg.dataset.y, bottom, top);
  const curves = [...svg.querySelectorAll("[data-name]")].map(path => ({
    name: path.dataset.name, layer: path.classList.contains("layer"), points: corners(path.getAttribute("d")),
  }));
  const dots = [...svg.querySelectorAll("circle")];
  if (!curves.length) return;
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cross.setAttribute("class", "cross");
  svg.append(cross);
  const leave = () => { cross.removeAttribute("d"); place(tip, "", 0, 0); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", event => {
    if (event.target.tagName === "circle") return leave();
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * wide;
    if (x < left || x > right) return leave();
    if (dots.length) return place(tip, beside(dots, x), event.clientX, event.clientY);
    cross.setAttribute("d", `M${x} ${top}V${bottom}`);
    const tops = curves.map(curve => yOf(level(curve, x)));
    const values = curves.map((curve, i) => tops[i] - (curve.layer && i + 1 < curves.length ? tops[i + 1] : 0));
    const told = curves.map(({ name }, i) => [values[i], `${name}: ${short(values[i])}`]);
    told.sort((a, b) => b[0] - a[0]);
    const more = told.length > 12 ? `\n\u2026 and ${told.length - 12} more` : "";
    place(tip, `at ${short(xOf(x))}\n${told.slice(0, 12).map(([, text]) => text).join("\n")}${more}`, event.clientX, event.clientY);
  });
}

// What is told of the points that are nearest in x, the highest first.
function beside(dots, x) {
  const at = dot => Number(dot.getAttribute("cx")), high = dot => Number(dot.getAttribute("cy"));
  const nearest = dots.reduce((a, b) => (Math.abs(at(b) - x) < Math.abs(at(a) - x) ? b : a));
  const told = dots.filter(dot => at(dot) === at(nearest)).sort((a, b) => high(a) - high(b));
  return told.map(dot => dot.textContent).filter(Boolean).join("\n");
}

function corners(path) {
  const points = [];
  let x = 0, y = 0;
  for (const [, letter, first, second] of path.matchAll(/([MLHV])([-\d.]+)(?: ([-\d.]+))?/g)) {
    if (letter === "V") y = Number(first); else x = Number(first);
    if (second !== undefined) y = Number(second);
    points.push([x, y, letter === "L"]);
  }
  return points;
}

// The height of a curve: what it last stood at, or between two points of a polyline.
function level({ points }, x) {
  const next = firstWhere(0, points.length, i => points[i][0] > x), [x0, y0] = points[Math.max(next - 1, 0)];
  if (next === 0 || next === points.length || !points[next][2]) return y0;
  const [x1, y1] = points[next];
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

function short(value) {
  return Math.abs(value) >= 100 ? number(value, 0) : Number(value.toPrecision(2)).toLocaleString("en-US");
}
