// A figure for each chart: uPlot panels, a key with the newest numbers, and the numbers as a table.
//
// No line is told from another by its color alone: each has its own dashes, and its name stands at
// its end.

import uPlot from "/static/vendor/uplot/uPlot.esm.js";
import { extent, scale } from "/static/series.js";
import { clock, count, duration, element, number, there, when } from "/static/text.js";

const DASHES = [[], [9, 3], [2, 3], [9, 3, 2, 3]];
const STEPS_S = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800];
const STEPS = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();
const LINE_PX = 13;
const AXIS_PX = 44;
const SVG = "http://www.w3.org/2000/svg";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const font = () => `${Math.round(12 * devicePixelRatio)}px system-ui, sans-serif`;

/** The points that no line leads to, where only lines are drawn. */
function lonely(plot, at, shown) {
  if (shown) return null;
  const values = plot.data[at];
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (there(values[i]) && !there(values[i - 1]) && !there(values[i + 1])) found.push(i);
  }
  return found.length ? found : null;
}

/** A line as it is drawn, for the key. */
function sample(line, at) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 28 10");
  svg.setAttribute("class", `sample ${line.color}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", "M1 5H27");
  path.setAttribute("stroke-dasharray", DASHES[line.dash ?? at].join(" "));
  svg.append(path);
  if (line.marker) {
    const mark = document.createElementNS(SVG, line.marker === "square" ? "rect" : "circle");
    const place = line.marker === "square" ? { x: 11, y: 2, width: 6, height: 6 } : { cx: 14, cy: 5, r: 3.5 };
    for (const [name, value] of Object.entries(place)) mark.setAttribute(name, value);
    svg.append(mark);
  }
  return svg;
}

/** One chart. `spec`: id, title, unit, lines [{key, name, color, dash, marker, empty}], pair (a panel
 * for each line, on one scale), zero (the scale begins at zero), fixed ([low, high]), by ("frames":
 * its x is frames, not running time), optional (there is no chart while no line has a number),
 * learnt (there are no numbers while nothing is learnt), empty (what is said when there is no number
 * at all). */
export class Chart {
  constructor(spec) {
    this.spec = spec;
    this.data = [[], ...spec.lines.map(() => [])];
    this.rows = [];
    this.history = null;
    this.marks = [];
    this.marked = null;
    this.plots = [];
    this.at = null;
    this.figure = this.build();
    this.figure.chart = this;
    this.seen = false;
    this.observer = new ResizeObserver(() => this.fit());
    for (const place of this.places) this.observer.observe(place);
  }

  build() {
    const { id, title, unit, lines, pair } = this.spec;
    this.toggle = element("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": `${id}-numbers`, "aria-label": `Numbers: ${title}` }, "Numbers");
    this.toggle.addEventListener("click", () => this.flip());
    this.outputs = lines.map(() => element("span", { class: "value" }));
    const key = (line, at) =>
      element("span", { class: "item" }, sample(line, at), element("span", { class: "name" }, line.name), " ", this.outputs[at]);
    this.places = (pair ? lines : [null]).map(() => element("div", { class: "plot" }));
    this.notes = this.places.map(() => element("p", { class: "none", hidden: true }));
    const panels = this.places.map((place, at) =>
      element("div", { class: "panel" }, pair ? key(lines[at], at) : null, element("div", { class: "frame" }, place, this.notes[at])),
    );
    this.reading = element("p", { class: "reading" });
    this.numbers = element("div", { id: `${id}-numbers`, class: "numbers", hidden: true, tabindex: "0", role: "region", "aria-label": `Numbers of ${title}` });
    return element(
      "figure",
      { id: `chart-${id}`, class: pair ? "chart pair" : "chart", "aria-labelledby": `${id}-title` },
      element("div", { class: "caption" }, element("h3", { id: `${id}-title` }, title, unit ? element("span", { class: "unit" }, ` ${unit}`) : null), this.toggle),
      pair ? null : element("div", { class: "key" }, ...lines.map(key)),
      element("div", { class: "plots" }, ...panels),
      this.reading,
      this.numbers,
    );
  }

  /** Show these numbers. `data`: x and a column for each line; `rows`: the row of `history` that each
   * point is of, null for a gap, where the x is running time; `marked`: for each line the points that
 * have markers (all); `empty`: said in place of the spec's. */
  show(data, { rows = null, history = null, marks = [], marked = null, empty = null } = {}) {
    this.data = data;
    this.rows = rows;
    this.history = history;
    this.marks = marks;
    this.marked = marked;
    this.empty = empty ?? this.spec.empty;
    this.limits = this.spec.fixed ?? scale(extent(data.slice(1)) ?? [0, 1], this.spec.zero);
    if (!this.plots.length) this.plots = this.places.map((place, at) => new uPlot(this.options(at), this.part(at), place));
    else this.plots.forEach((plot, at) => plot.setData(this.part(at)));
    this.label();
    if (!this.numbers.hidden) this.tabulate();
  }

  /** The columns of one panel. */
  part(at) {
    return this.spec.pair ? [this.data[0], this.data[at + 1]] : this.data;
  }

  lines(at) {
    return this.spec.pair ? [this.spec.lines[at]] : this.spec.lines;
  }

  options(panel) {
    const { by, pair, lines } = this.spec;
    const byTime = !by || by === "seconds";
    const ink = () => color("ink-soft");
    const axis = { stroke: ink, font: "12px system-ui, sans-serif", grid: { stroke: () => color("grid"), width: 1 }, ticks: { show: false } };
    return {
      width: this.width(this.places[panel]),
      height: this.height(),
      legend: { show: false },
      padding: [16, pair ? 18 : this.endRoom(), 0, pair && panel ? 18 : 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 }, ...(by ? {} : { sync: { key: "run", setSeries: false } }) },
      scales: {
        x: { time: false, range: (_, low, high) => (there(low) && high > low ? [low, high] : [(low ?? 0) - 0.5, (low ?? 0) + 0.5]) },
        y: { range: () => this.limits },
      },
      axes: [
        { ...axis, size: 24, gap: 4, space: 70, values: (_, ticks) => ticks.map(byTime ? duration : brief), incrs: byTime ? STEPS_S : STEPS },
        { ...axis, show: !(pair && panel), size: AXIS_PX, gap: 6, space: 34, values: (_, ticks) => ticks.map(brief) },
      ],
      series: [
        {},
        ...this.lines(panel).map((line, n) => {
          const at = pair ? panel : n;
          const stroke = () => color(line.color);
          return {
            label: line.name,
            stroke,
            width: 2,
            dash: DASHES[line.dash ?? at],
            spanGaps: Boolean(line.marker),
            points: line.marker
              ? { show: true, size: 9, stroke, fill: () => color("card"), width: 2, filter: () => this.marked?.[at] ?? null, ...(line.marker === "square" ? { paths: squares } : {}) }
              : { size: 5, stroke, fill: stroke, filter: lonely },
          };
        }),
      ],
      hooks: {
        draw: [(plot) => this.drawMarks(plot), (plot) => (pair || lines.length < 2 ? null : this.drawNames(plot))],
        setCursor: [(plot) => this.read(plot)],
      },
    };
  }

  width(place) {
    return Math.max(80, Math.floor(place.clientWidth));
  }

  height() {
    return 180;
  }

  /** Room for the names at the ends of the lines, in pixels. */
  endRoom() {
    if (this.spec.lines.length < 2) return 18;
    return 14 + Math.max(...this.spec.lines.map((line) => (line.short ?? line.name).length)) * 6.6;
  }

  fit() {
    this.plots.forEach((plot, at) => {
      const width = this.width(this.places[at]);
      if (width !== plot.width) plot.setSize({ width, height: this.height() });
    });
  }

  /** Draw anew: other colors hold. */
  redraw() {
    for (const plot of this.plots) plot.redraw(true);
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    const letters = [];
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.font = font();
    ctx.textAlign = "center";
    ctx.textBaseline = "alphabetic";
    ctx.strokeStyle = ctx.fillStyle = color("ink-soft");
    for (const { x, letter } of this.marks) {
      const left = plot.valToPos(x, "x", true);
      if (!(left >= bbox.left && left <= bbox.left + bbox.width)) continue;
      ctx.setLineDash((letter === "R" ? [6, 3, 1, 3] : [1, 3]).map((n) => n * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bbox.top + bbox.height);
      ctx.stroke();
      if (letters.every((other) => Math.abs(left - other) >= LINE_PX * devicePixelRatio)) {
        ctx.fillText(letter, left, bbox.top - 4 * devicePixelRatio);
        letters.push(left);
      }
    }
    ctx.restore();
  }

  /** The name of each line at its end, pushed apart where they would cover each other. */
  drawNames(plot) {
    const { ctx, bbox } = plot;
    const step = LINE_PX * devicePixelRatio;
    const names = this.spec.lines
      .map((line, at) => {
        const last = this.data[at + 1].findLast(there);
        return last === undefined ? null : { text: line.short ?? line.name, color: line.color, y: plot.valToPos(last, "y", true) };
      })
      .filter((name) => name !== null)
      .sort((a, b) => a.y - b.y);
    names.forEach((name, at) => {
      if (at) name.y = Math.max(name.y, names[at - 1].y + step);
    });
    const over = (names.at(-1)?.y ?? 0) - (bbox.top + bbox.height);
    if (over > 0) {
      names.at(-1).y -= over;
      for (let at = names.length - 2; at >= 0; at--) names[at].y = Math.min(names[at].y, names[at + 1].y - step);
    }
    ctx.save();
    ctx.font = font();
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    for (const name of names) {
      ctx.fillStyle = color(name.color);
      ctx.fillText(name.text, bbox.left + bbox.width + 6 * devicePixelRatio, name.y);
    }
    ctx.restore();
  }

  /** The cursor is somewhere, or gone: the key has the numbers there, or the newest. */
  read(plot) {
    this.at = plot.cursor.idx ?? null;
    this.label();
  }

  label() {
    const at = this.at !== null && this.at < this.data[0].length ? this.at : null;
    this.spec.lines.forEach((line, n) => {
      const column = this.data[n + 1];
      const value = at === null ? column.findLast(there) : column[at];
      this.outputs[n].textContent = at !== null && !there(value) ? "none" : number(value);
    });
    this.reading.textContent = at === null ? "" : this.moment(at);
    this.sayNothing();
  }

  /** What the point with this index is of. */
  moment(at) {
    const x = this.data[0][at];
    if (this.spec.by) return this.spec.place ? this.spec.place(x) : `frame ${count(x)}`;
    const row = this.rows?.[at];
    if (row === null || row === undefined || !this.history) return duration(x);
    const frames = this.history.column("frames")[row];
    return `at ${duration(x)}, ${when(this.history.times[row])}${there(frames) ? `, frame ${count(frames)}` : ""}`;
  }

  /** Where there is nothing to be drawn, say so, and say it to those who do not see the lines. */
  sayNothing() {
    const { lines, pair, title } = this.spec;
    const { empty } = this;
    const has = lines.map((_, n) => this.data[n + 1].some(there));
    this.notes.forEach((note, at) => {
      const nothing = pair ? !has[at] : !has.some(Boolean);
      note.hidden = !nothing;
      const text = pair && has.some(Boolean) ? (lines[at].empty ?? empty) : empty;
      this.places[at].classList.toggle("blank", nothing);
      if (nothing && note.textContent !== text) note.textContent = text ?? "No numbers yet.";
    });
    if (this.at !== null) return;
    this.places.forEach((place, at) => {
      const said = this.lines(at).map((line) => `${line.name} ${this.outputs[pair ? at : lines.indexOf(line)].textContent}`);
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `${title}, newest: ${said.join(", ")}. The numbers are in a table below.`);
    });
  }

  flip() {
    const shown = this.numbers.hidden;
    this.numbers.hidden = !shown;
    this.toggle.setAttribute("aria-expanded", String(shown));
    if (shown) this.tabulate();
  }

  /** All points as a table, the newest first. */
  tabulate() {
    const { by, lines } = this.spec;
    const heads = by ? [this.spec.byName ?? "Frame"] : ["Time", "Frame"];
    const head = element("tr", {}, ...[...heads, ...lines.map((line) => line.name)].map((text) => element("th", { scope: "col", class: "number" }, text)));
    const body = element("tbody");
    const frames = this.history?.column("frames");
    for (let at = this.data[0].length - 1; at >= 0; at--) {
      const row = this.rows?.[at];
      if (!by && (row === null || row === undefined)) continue;
      const where = by ? [count(this.data[0][at])] : [clock(this.history.times[row]), count(frames[row])];
      const values = lines.map((_, n) => this.data[n + 1][at]);
      const cells = values.map((value) => element("td", { class: "number", "data-value": there(value) ? value : null }, there(value) ? number(value) : "–"));
      body.append(element("tr", {}, ...where.map((text) => element("td", { class: "number" }, text)), ...cells));
    }
    const scrolled = this.numbers.scrollTop;
    this.numbers.replaceChildren(element("table", {}, element("thead", {}, head), body));
    this.numbers.scrollTop = scrolled;
  }

  close() {
    this.observer.disconnect();
    for (const plot of this.plots) plot.destroy();
  }
}

/** A tick's number. */
const ticks = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const brief = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(0) : ticks.format(value));

/** Square markers, as uPlot's own round ones are made. */
function squares(plot, at, first, last, chosen) {
  const fill = new Path2D();
  const size = plot.series[at].points.size * devicePixelRatio * 0.85;
  for (let i = first; i <= last; i++) {
    const value = plot.data[at][i];
    if (!there(value) || (chosen && !chosen.includes(i))) continue;
    fill.rect(plot.valToPos(plot.data[0][i], "x", true) - size / 2, plot.valToPos(value, "y", true) - size / 2, size, size);
  }
  return { stroke: fill, fill, clip: null, flags: 3 };
}
