// The Gantt chart: a log's nodes on a canvas. A frame costs about as much as it has pixels, however many nodes there are.

const GUTTER = 46, AXIS = 22; // CSS pixels left of the rows and above them
const LEAST_ROW = 3, MOST_ROW = 60;
const HIGHEST = 4096; // CSS pixels of a canvas, as browsers have a limit
const MOST_IN_PIXEL = 16; // nodes looked at to colour a pixel that holds many

class Gantt {
  constructor(models, changed) {
    this.models = models;
    this.changed = changed;
    this.canvas = document.getElementById("gantt");
    this.viewport = document.getElementById("viewport");
    this.spacer = document.getElementById("spacer");
    this.overview = document.getElementById("overview");
    this.pick = null;
    this.log = null;
    this.inks = inks(models);
  }

  show(log) {
    this.log = log;
    this.pick = null;
    this.from = 0;
    this.to = log.span;
    this.viewport.scrollTop = 0;
    this.tall = Math.min(Math.max(Math.floor(560 / log.rows), LEAST_ROW), 28);
    this.resize();
    this.draw();
  }

  resize() {
    if (!this.log) return;
    const content = AXIS + this.tall * this.log.rows + 1;
    this.spacer.style.height = "0";
    this.canvas.style.height = `${content}px`;
    const height = Math.min(content, this.viewport.clientHeight || content, HIGHEST);
    this.canvas.style.height = `${height}px`;
    this.spacer.style.height = `${content - height}px`;
    this.later();
  }

  later() {
    if (this.waiting || !this.log) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  recolour() {
    this.inks = inks(this.models);
    this.later();
  }

  get width() { return Math.max(this.canvas.clientWidth - GUTTER, 1); }
  timeAt(x) { return this.from + (x - GUTTER) / this.width * (this.to - this.from); }
  leftOf(time) { return GUTTER + (time - this.from) / (this.to - this.from) * this.width; }

  zoom(factor, around = (this.from + this.to) / 2) {
    const { span } = this.log;
    const wanted = Math.min(Math.max((this.to - this.from) * factor, Math.min(20, span)), span);
    const share = (around - this.from) / (this.to - this.from);
    this.move(around - share * wanted, wanted);
  }

  move(from, length = this.to - this.from) {
    this.from = Math.min(Math.max(from, 0), this.log.span - length);
    this.to = this.from + length;
    this.later();
  }

  stretch(factor, y = this.viewport.clientHeight / 2) {
    const row = (this.viewport.scrollTop + y - AXIS) / this.tall;
    this.tall = Math.min(Math.max(this.tall * factor, LEAST_ROW), MOST_ROW);
    this.resize();
    this.viewport.scrollTop = row * this.tall - y + AXIS;
  }

  draw(scale = window.devicePixelRatio || 1) {
    if (!this.log || !this.canvas.clientWidth) return;
    const began = performance.now(), { canvas, log } = this;
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const ink = this.inks, context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = css(ink.ground);
    context.fillRect(0, 0, width, height);
    const left = Math.round(GUTTER * scale), top = Math.round(AXIS * scale);
    const labels = width > left && height > top ? this.bars(context, left, top, scale, ink) : [];
    context.setTransform(scale, 0, 0, scale, 0, 0);
    this.stops(context, ink);
    this.outline(context, ink);
    this.texts(context, labels, ink);
    this.frame(context, ink);
    this.window(ink);
    this.viewport.dataset.from = this.from * log.unit;
    this.viewport.dataset.to = this.to * log.unit;
    canvas.dataset.ms = performance.now() - began;
  }

  // Draws all bars into an image, a row at a time; returns which bars have room for a name.
  bars(context, left, top, scale, ink) {
    const wide = context.canvas.width - left, high = context.canvas.height - top, { log } = this;
    if (!this.image || this.image.width !== wide || this.image.height !== high)
      this.image = context.createImageData(wide, high);
    const pixels = new Uint32Array(this.image.data.buffer), scroll = this.viewport.scrollTop;
    pixels.fill(pixel(ink.ground));
    const line = new Uint32Array(wide), seam = new Uint32Array(wide), labels = [];
    const last = Math.min(Math.ceil((scroll + high / scale) / this.tall), log.rows);
    for (let row = Math.floor(scroll / this.tall); row < last; row++) {
      const y0 = Math.max(Math.round((row * this.tall - scroll) * scale), 0);
      const y1 = Math.min(Math.round(((row + 1) * this.tall - scroll) * scale), high);
      const gap = Math.max(Math.round(Math.min(this.tall / 8, 1.5) * scale), this.tall > LEAST_ROW ? 1 : 0);
      const ends = log.server && log.rows > log.server && ((log.gpus ? log.gpus[row] : row) + 1) % log.server === 0;
      line.fill(pixel(ink.lane));
      seam.fill(pixel(ends ? ink.border : ink.ground));
      const loads = this.row(row, line, seam, ink, scale, labels);
      for (let y = y0; y < y1 - gap; y++) {
        pixels.set(line, y * wide);
        if (this.tall >= 6) for (const [a, b, stripe] of loads)
          for (let x = a + (((5 * scale) - (a + y) % Math.round(5 * scale)) | 0); x < b; x += Math.round(5 * scale))
            for (let k = 0; k < scale && x + k < b; k++) pixels[y * wide + x + k] = stripe;
      }
      for (let y = Math.max(y1 - Math.max(gap, ends ? 1 : 0), y0); y < y1; y++) pixels.set(seam, y * wide);
    }
    context.putImageData(this.image, left, top);
    return labels;
  }

  // Colours the pixels of one row and of the seam below it; returns where it loads.
  row(row, line, seam, ink, scale, labels) {
    const { log, from } = this, wide = line.length, perTick = wide / (this.to - from), loads = [];
    const high = log.first[row + 1];
    let at = firstWhere(log.first[row], high, i => log.until[i] > from);
    while (at < high) {
      const bar = log.bar[at], node = log.node[bar], begin = log.begin[node];
      const x0 = (begin - from) * perTick;
      if (x0 >= wide) break;
      const xs = x0 + log.load[node] * perTick, x1 = xs + log.run[node] * perTick;
      if (x1 - x0 < 1.5) {
        at = this.crowd(at, high, Math.max(Math.floor(x0), 0), line, perTick, ink);
        continue;
      }
      at++;
      const [colours, dark] = this.lit(node) ? ink.lit : ink.dim, model = log.model[node];
      const a = Math.max(Math.round(x0), 0), s = Math.min(Math.max(Math.round(xs), a), wide);
      const b = Math.min(Math.max(Math.round(x1) - (x1 - x0 > 5 * scale ? 1 : 0), s), wide);
      line.fill(pixel(dark[model]), a, s);
      line.fill(pixel(colours[model]), s, b);
      if (row < log.row[bar] + log.size[bar] - 1) {
        seam.fill(pixel(dark[model]), a, s);
        seam.fill(pixel(colours[model]), s, b);
      }
      if (s - a > 3 * scale) loads.push([a, s, pixel(mix(dark[model], colours[model], 0.75))]);
      if (b - s > 40 * scale && this.tall * log.size[bar] >= 13 && row === log.row[bar]) labels.push([bar, s / scale, b / scale]);
    }
    return loads;
  }

  // Colours one pixel by the longest of the short bars in it, as strongly as they fill it; returns the next bar.
  crowd(at, high, x, line, perTick, ink) {
    const { log } = this, next = this.from + (x + 1) / perTick, most = Math.min(high, at + MOST_IN_PIXEL);
    let filled = 0, longest = -1, chosen = -1, i = at;
    for (; i < most; i++) {
      const node = log.node[log.bar[i]], length = log.load[node] + log.run[node];
      if (log.begin[node] >= next || (i > at && length * perTick >= 1.5)) break;
      filled += length;
      const rank = length + (this.pick && this.lit(node) ? log.span : 0);
      if (rank > longest) [longest, chosen] = [rank, node];
    }
    if (i === most && i < high) i = firstWhere(i, high, k => log.begin[log.node[log.bar[k]]] >= next);
    const colours = (this.lit(chosen) ? ink.lit : ink.dim)[log.load[chosen] > log.run[chosen] ? 1 : 0];
    const share = i - at > most - at ? 1 : Math.min(Math.max(filled * perTick, 0.25), 1);
    if (x < line.length) line[x] = pixel(mix(ink.lane, colours[log.model[chosen]], share));
    return Math.max(i, at + 1);
  }

  lit(node) {
    const { pick, log } = this;
    return !pick || (pick.model === undefined ? log.request[node] === pick.request : log.model[node] === pick.model);
  }

  box(row, size, begin, end) {
    const y = AXIS + row * this.tall - this.viewport.scrollTop, x = Math.max(this.leftOf(begin), GUTTER);
    return [x, y, Math.max(Math.min(this.leftOf(end), GUTTER + this.width) - x, 0), size * this.tall];
  }

  inPlot(context, draw) {
    context.save();
    context.beginPath();
    context.rect(GUTTER, AXIS, this.width, this.canvas.clientHeight - AXIS);
    context.clip();
    draw();
    context.restore();
  }

  stops(context, ink) {
    this.inPlot(context, () => {
      context.strokeStyle = context.fillStyle = css(ink.quiet);
      for (const stop of this.log.stops) for (const row of stop.rows) {
        const [begin, end] = [stop.begin, stop.end].map(seconds => seconds / this.log.unit);
        const [x, y, wide, high] = this.box(row, 1, begin, end);
        if (end < this.from || begin > this.to || y > this.canvas.clientHeight || y + high < AXIS) continue;
        context.globalAlpha = 0.45;
        context.fillRect(x, y, Math.max(wide, 2), high - 1);
        context.globalAlpha = 1;
        context.beginPath();
        for (let step = -high; step < wide && step < this.width + high; step += 7) {
          context.moveTo(x + Math.max(step, 0), y + high - 1 - Math.max(-step, 0));
          context.lineTo(x + Math.min(step + high, wide), y + Math.max(step + high - wide, 0));
        }
        context.stroke();
      }
    });
  }

  outline(context, ink) {
    const { pick, log } = this;
    if (!pick || pick.request === undefined) return;
    this.inPlot(context, () => {
      context.strokeStyle = css(ink.ink);
      context.lineWidth = 1.6;
      for (const bar of log.ofRequest[pick.request]) {
        const node = log.node[bar], begin = log.begin[node], end = begin + log.load[node] + log.run[node];
        if (end < this.from || begin > this.to) continue;
        const [x, y, wide, high] = this.box(log.row[bar], log.size[bar], begin, end);
        context.strokeRect(x, y, Math.max(wide - 1, 1.5), Math.max(high - 1.5, 1));
      }
    });
  }

  texts(context, labels, ink) {
    const { log } = this;
    context.font = '11px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
    context.textBaseline = "middle";
    context.textAlign = "left";
    this.inPlot(context, () => {
      for (const [bar, a, b] of labels) {
        const node = log.node[bar], room = Math.floor((b - a - 8) / 6.2), name = log.steps[log.step[node]];
        const y = AXIS + (log.row[bar] + log.size[bar] / 2) * this.tall - this.viewport.scrollTop;
        context.fillStyle = this.lit(node) ? this.inks.letters[log.model[node]] : css(ink.quiet);
        context.fillText(name.length > room ? `${name.slice(0, room - 1)}\u2026` : name, GUTTER + a + 4, y);
      }
    });
  }

  frame(context, ink) {
    const { log } = this, scroll = this.viewport.scrollTop, high = this.canvas.clientHeight;
    context.font = '11px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
    context.fillStyle = css(ink.quiet);
    context.strokeStyle = css(ink.quiet);
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "center";
    const step = roundStep((this.to - this.from) * log.unit / Math.max(this.width / 90, 2));
    for (let i = Math.ceil(this.from * log.unit / step); i * step <= this.to * log.unit * (1 + 1e-12); i++) {
      const x = Math.round(this.leftOf(i * step / log.unit)) + 0.5;
      context.globalAlpha = 0.22;
      context.beginPath(); context.moveTo(x, AXIS); context.lineTo(x, high); context.stroke();
      context.globalAlpha = 1;
      const text = `${number(i * step, step < 1 ? Math.ceil(-Math.log10(step)) : 0)} s`;
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(x, GUTTER + this.width - half - 1), AXIS / 2);
    }
    context.textAlign = "right";
    const every = Math.ceil(13 / this.tall), nice = [1, 2, 4, 8, 16, 32, 64].find(n => n >= every) || every;
    for (let row = Math.floor(scroll / this.tall); row < log.rows; row++) {
      const y = AXIS + (row + 0.5) * this.tall - scroll;
      if (y > high - 4) break;
      if (row % nice === 0 && y >= AXIS) context.fillText(log.gpus ? log.gpus[row] : row, GUTTER - 6, y);
    }
    context.textAlign = "left";
    context.fillText("GPU", 3, AXIS / 2);
  }

  // Draws the strip above the chart: how busy the GPUs are over the whole time, and which part is shown.
  window(ink) {
    const strip = this.overview, scale = window.devicePixelRatio || 1, { busy } = this.log;
    const wide = strip.clientWidth, high = strip.clientHeight;
    if (!wide) return;
    [strip.width, strip.height] = [Math.round(wide * scale), Math.round(high * scale)];
    const context = strip.getContext("2d"), x = share => GUTTER + share * (wide - GUTTER);
    context.scale(scale, scale);
    context.fillStyle = css(ink.lane);
    context.fillRect(GUTTER, 0, wide - GUTTER, high);
    context.fillStyle = css(mix(ink.lane, ink.quiet, 0.55));
    busy.forEach((share, i) => {
      const tall = Math.min(share, 1) * (high - 2);
      context.fillRect(x(i / busy.length), high - tall, (wide - GUTTER) / busy.length + 0.5, tall);
    });
    const a = x(this.from / this.log.span), b = x(this.to / this.log.span);
    context.fillStyle = css(ink.ground);
    context.globalAlpha = 0.65;
    context.fillRect(GUTTER, 0, a - GUTTER, high);
    context.fillRect(b, 0, wide - b, high);
    context.globalAlpha = 1;
    context.strokeStyle = css(ink.ink);
    context.strokeRect(a + 0.5, 0.5, Math.max(b - a - 1, 2), high - 1);
  }

  // The node at a place of the canvas, or the nearest within a few pixels; -1 where there is none.
  nodeAt(x, y) {
    const { log } = this, row = Math.floor((y - AXIS + this.viewport.scrollTop) / this.tall);
    if (x < GUTTER || y < AXIS || row < 0 || row >= log.rows) return -1;
    const time = this.timeAt(x), slack = 3 * (this.to - this.from) / this.width, high = log.first[row + 1];
    let best = -1, distance = slack;
    for (let i = firstWhere(log.first[row], high, k => log.until[k] >= time - slack); i < high; i++) {
      const node = log.node[log.bar[i]], begin = log.begin[node], end = begin + log.load[node] + log.run[node];
      if (begin > time + slack) break;
      const off = Math.max(begin - time, time - end, 0);
      if (off <= distance) [best, distance] = [node, off];
      if (!off) break;
    }
    return best;
  }

  stopAt(x, y) {
    const row = Math.floor((y - AXIS + this.viewport.scrollTop) / this.tall);
    const [before, after] = [x + 3, x - 3].map(near => this.timeAt(near) * this.log.unit);
    return this.log.stops.find(stop => stop.rows.includes(row) && stop.begin <= before && after <= stop.end);
  }

  choose(pick) {
    this.pick = pick;
    this.changed(pick);
    this.later();
  }

  // Shows the whole of a request, with some room around it.
  reveal(request) {
    const { log } = this, bars = log.ofRequest[request];
    if (!bars.length) return;
    const ends = bars.map(bar => log.begin[log.node[bar]] + log.load[log.node[bar]] + log.run[log.node[bar]]);
    const from = smallest(bars.map(bar => log.begin[log.node[bar]])), length = largest(ends) - from;
    const room = Math.min(Math.max(length * 1.3, 20), log.span);
    this.move(from + length / 2 - room / 2, room);
    const rows = bars.map(bar => log.row[bar]), { scrollTop, clientHeight } = this.viewport;
    const y = AXIS + smallest(rows) * this.tall;
    if (y < scrollTop + AXIS || y > scrollTop + clientHeight - this.tall) this.viewport.scrollTop = y - clientHeight / 3;
  }
}
