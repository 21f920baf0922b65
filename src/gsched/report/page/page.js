// Brings the page to life: tabs, the Gantt chart with what is picked in it, and what pointers are told.

(() => {
  const { models, labels } = JSON.parse(document.getElementById("shown").textContent);
  const tip = document.getElementById("tip"), find = selector => [...document.querySelectorAll(selector)];
  find("figure.chart > svg").forEach(svg => readable(svg, tip));
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = find("details:not([open])");
    folded.forEach(part => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach(part => { part.open = false; }));
  if (!labels.length) return;
  document.documentElement.classList.add("scripted");
  find(".tabs, #schedule").forEach(element => { element.hidden = false; });
  const picked = document.getElementById("picked"), gantt = new Gantt(models, changed), logs = new Map();
  const seconds = ticks => `${number(ticks * gantt.log.unit)} s`;
  listen(gantt, describe, tip);

  function describe(node) {
    const { log } = gantt, begin = log.begin[node], start = begin + log.load[node], wait = log.wait ? log.wait[node] : UNKNOWN;
    const times = [
      wait === UNKNOWN ? "" : `waiting ${seconds(wait)}`, `loading ${seconds(log.load[node])}`, `executing ${seconds(log.run[node])}`,
    ];
    return [
      `${log.steps[log.step[node]]} of ${log.requests[log.request[node]]}`,
      `${models[log.model[node]]} on ${gpusOf(node)}`,
      times.filter(Boolean).join(", "),
      `executes from ${seconds(start)} to ${seconds(start + log.run[node])}`,
    ].join("\n");
  }

  function gpusOf(node) {
    const { log } = gantt, parts = [];
    for (const bar of log.ofRequest[log.request[node]]) if (log.node[bar] === node) {
      const [first, last] = [log.row[bar], log.row[bar] + log.size[bar] - 1].map(row => (log.gpus ? log.gpus[row] : row));
      parts.push(first === last ? first : `${first} to ${last}`);
    }
    const server = log.server && log.rows > log.server ? `, server ${Math.floor(parseInt(parts[0], 10) / log.server)}` : "";
    return `GPU${parts.length > 1 || /to/.test(parts[0]) ? "s" : ""} ${parts.join(", ")}${server}`;
  }

  function changed(pick) {
    keys.forEach((button, model) => button.setAttribute("aria-pressed", Boolean(pick && pick.model === model)));
    if (!pick || pick.request === undefined) {
      picked.textContent = pick ? `All nodes of ${models[pick.model]}` : "";
      return;
    }
    const { log } = gantt, nodes = [...new Set(log.ofRequest[pick.request].map(bar => log.node[bar]))];
    nodes.sort((a, b) => log.begin[a] - log.begin[b]);
    const ends = nodes.map(node => log.begin[node] + log.load[node] + log.run[node]);
    const steps = nodes.slice(0, 12).map(node => `${log.steps[log.step[node]]} on ${gpusOf(node)}`);
    const more = nodes.length > 12 ? `, and ${nodes.length - 12} more` : "";
    picked.textContent = `Request ${log.requests[pick.request]}: ${steps.join("; ")}${more}; done at ${seconds(largest(ends))}`;
  }

  // Makes the key's entries buttons.
  const keys = find("#schedules > .key li").map((item, model) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(...item.childNodes);
    button.addEventListener("click", () => {
      if (gantt.log) gantt.choose(gantt.pick && gantt.pick.model === model ? null : { model });
    });
    item.append(button);
    return button;
  });

  const form = document.getElementById("find");
  form.addEventListener("submit", event => {
    event.preventDefault();
    const wanted = form.elements.request.value.trim(), request = gantt.log ? gantt.log.requests.indexOf(wanted) : -1;
    if (request >= 0 && gantt.log.ofRequest[request].length) {
      gantt.choose({ request });
      gantt.reveal(request);
    } else picked.textContent = `There is no request ${wanted} here`;
  });

  const tabs = find(".tabs button");
  function select(index) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === index);
      tab.tabIndex = i === index ? 0 : -1;
    });
    document.getElementById("schedule").setAttribute("aria-labelledby", `tab${index}`);
    find(".panel").forEach((panel, i) => panel.classList.toggle("current", i === index));
    if (!logs.has(index)) logs.set(index, unpack(document.getElementById(`log${index}`).textContent));
    gantt.show(logs.get(index));
    changed(null);
  }
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => select(i));
    tab.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (i + step + tabs.length) % tabs.length;
      tabs[next].focus();
      select(next);
    });
  });

  // Paper is light and finer than a screen.
  const paper = on => {
    document.documentElement.classList.toggle("paper", on);
    gantt.inks = inks(models);
    gantt.resize();
    gantt.draw(on ? 2 : undefined);
  };
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => gantt.recolour());
  new ResizeObserver(() => gantt.resize()).observe(gantt.viewport);
  select(0);
})();
