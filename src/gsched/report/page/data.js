"use strict";
// A log as the page holds it, and numbers and colours as the page shows them.

const UNKNOWN = 2 ** 32 - 1;

function unpack(text) {
  const log = JSON.parse(text);
  for (const [name, [size, packed]] of Object.entries(log.columns)) {
    const raw = atob(packed), bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    log[name] = new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[size](bytes.buffer);
  }
  return indexed(log);
}

// Adds, for each row, its bars by their begin and the latest end so far; for each request, its bars.
function indexed(log) {
  const bars = log.node.length, order = Uint32Array.from({ length: bars }, (_, i) => i);
  const begin = bar => log.begin[log.node[bar]];
  order.sort((a, b) => begin(a) - begin(b));
  log.first = new Uint32Array(log.rows + 1);
  log.ofRequest = log.requests.map(() => []);
  for (let bar = 0; bar < bars; bar++) {
    for (let row = log.row[bar]; row < log.row[bar] + log.size[bar]; row++) log.first[row + 1]++;
    log.ofRequest[log.request[log.node[bar]]].push(bar);
  }
  for (let row = 0; row < log.rows; row++) log.first[row + 1] += log.first[row];
  const next = log.first.slice(), members = log.first[log.rows];
  log.bar = new Uint32Array(members);
  log.until = new Float64Array(members);
  for (const bar of order) {
    const node = log.node[bar], end = log.begin[node] + log.load[node] + log.run[node];
    for (let row = log.row[bar]; row < log.row[bar] + log.size[bar]; row++) {
      const at = next[row]++;
      log.bar[at] = bar;
      log.until[at] = at > log.first[row] ? Math.max(log.until[at - 1], end) : end;
    }
  }
  log.span = Math.max(log.makespan / log.unit, 1);
  log.busy = profile(log, 480);
  return log;
}

// The share of GPU time in use in each of some bins.
function profile(log, bins) {
  const level = new Float64Array(bins + 1), part = new Float64Array(bins + 1), width = log.span / bins;
  for (let bar = 0; bar < log.node.length; bar++) {
    const node = log.node[bar], size = log.size[bar], begin = log.begin[node];
    for (const [time, sign] of [[begin, size], [begin + log.load[node] + log.run[node], -size]]) {
      const bin = Math.min(Math.floor(time / width), bins - 1);
      part[bin] += sign * (bin + 1 - time / width);
      level[bin + 1] += sign;
    }
  }
  let open = 0;
  return Array.from({ length: bins }, (_, bin) => (open += level[bin], (open + part[bin]) / log.rows));
}

// Of very many numbers, which Math.min and Math.max do not take as arguments.
const smallest = numbers => numbers.reduce((a, b) => Math.min(a, b));
const largest = numbers => numbers.reduce((a, b) => Math.max(a, b));

// The first of positions low to high for which `test` holds; it must hold for all after it.
function firstWhere(low, high, test) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle; else low = middle + 1;
  }
  return low;
}

function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find(factor => factor * power >= raw * (1 - 1e-9)) * power;
}

function number(value, digits = value >= 1000 ? 0 : value >= 10 ? 1 : 2) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const rgb = text => {
  const hex = text.trim().slice(1), wide = hex.length < 6 ? [...hex].map(c => c + c).join("") : hex;
  return [0, 2, 4].map(at => parseInt(wide.slice(at, at + 2), 16));
};
const mix = (a, b, share) => a.map((value, i) => Math.round(value + (b[i] - value) * share));
const pixel = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const css = parts => `rgb(${parts.join(",")})`;

// What the chart draws with, as the page's style has it now; paper is light.
function inks(models) {
  const style = getComputedStyle(document.documentElement), get = name => rgb(style.getPropertyValue(name));
  const [ground, lane, ink, quiet] = ["--ground", "--lane", "--ink", "--quiet"].map(get);
  const colours = models.map((_, i) => get(`--m${i}`));
  const loading = colours.map(colour => mix(colour, [0, 0, 0], 0.45));
  const faded = list => list.map(colour => mix(colour, lane, 0.82));
  return {
    ground, lane, ink, quiet, border: mix(quiet, ground, 0.35), lit: [colours, loading], dim: [faded(colours), faded(loading)],
    letters: colours.map(([r, g, b]) => (0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000" : "#fff")),
  };
}
