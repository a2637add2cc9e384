// The run's numbers as columns along its running time. Pure.

/** Columns of /api/history, and the rows that were seen live: those are not thinned out. */
export class History {
  constructor(answer, live = []) {
    const when = answer.columns.indexOf("time");
    const seen = new Set(live.map((row) => row.time));
    const past = answer.rows.filter((row) => !seen.has(row[when]));
    const rows = [...past.map((row) => [row[when], (name, at) => row[at]]), ...live.map((row) => [row.time, (name) => row[name]])];
    rows.sort(([a], [b]) => a - b);
    this.columns = new Map(answer.columns.map((name, at) => [name, rows.map(([, value]) => value(name, at) ?? null)]));
    this.starts = answer.starts ?? [];
    this.changes = answer.changes ?? [];
    this.cuts = this.findCuts();
  }

  get times() {
    return this.columns.get("time");
  }

  get length() {
    return this.times.length;
  }

  column(name) {
    return this.columns.get(name) ?? new Array(this.length).fill(null);
  }

  /** Take in a row of /api/state; whether it was news. */
  append(row) {
    const last = this.times.at(-1) ?? -Infinity;
    if (!(row.time > last)) return false;
    const length = this.length;
    for (const name of Object.keys(row)) if (!this.columns.has(name)) this.columns.set(name, new Array(length).fill(null));
    for (const [name, column] of this.columns) column[length] = row[name] ?? null;
    return true;
  }

  /** For each restart, how long the server had been away. */
  findCuts() {
    const times = this.times;
    return this.starts
      .map(({ time, frames }) => ({ time, frames, last: times.findLast((t) => t < time) }))
      .filter(({ last }) => last !== undefined)
      .map(({ time, frames, last }) => ({ time, frames, away: time - last }));
  }

  /** Running time, in seconds, at a moment. The server's absence does not count. */
  running(time) {
    let from = Math.min(this.times[0] ?? time, this.starts[0]?.time ?? Infinity);
    for (const cut of this.cuts) {
      if (time >= cut.time) from += cut.away;
      else if (time > cut.time - cut.away) return cut.time - cut.away - from;
    }
    return time - from;
  }

  /** Running time and the named columns, with a gap wherever the server was started anew. `rows`
   * says which row of the history each point is; null for a gap. Only what is not older than `since`,
   * in seconds since 1970. */
  aligned(names, since = -Infinity) {
    const columns = names.map((name) => this.column(name));
    const data = [[], ...names.map(() => [])];
    const rows = [];
    const cuts = [...this.cuts];
    this.times.forEach((time, at) => {
      if (time < since) return;
      while (cuts.length && time >= cuts[0].time) {
        const x = this.running(cuts.shift().time);
        if (data[0].length) this.put(data, rows, x, null, columns);
      }
      this.put(data, rows, this.running(time), at, columns);
    });
    return { data, rows };
  }

  put(data, rows, x, at, columns) {
    data[0].push(x);
    rows.push(at);
    columns.forEach((column, n) => data[n + 1].push(at === null ? null : (column[at] ?? null)));
  }

  /** Where charts have marks: restarts and changes, by running time. */
  marks() {
    const restarts = this.cuts.map(({ time }) => ({ x: this.running(time), letter: "R" }));
    const times = [...new Set(this.changes.filter(isChange).map(({ time }) => time))];
    return [...restarts, ...times.map((time) => ({ x: this.running(time), letter: "C" }))];
  }
}

/** Whether a line of changes.jsonl is of a setting or of pausing; others say what was done once. */
export const isChange = ({ key }) => key !== "checkpoint" && key !== "evaluate";

/** Smallest and largest number in columns, null where there is none. */
export function extent(columns) {
  let [low, high] = [Infinity, -Infinity];
  for (const column of columns) {
    for (const value of column) {
      if (value === null || !Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

/** The scale for numbers between `low` and `high`: from zero if `zero`, with room around. */
export function scale([low, high], zero) {
  if (zero && low >= 0) return [0, high > 0 ? high * 1.08 : 1];
  const room = high > low ? (high - low) * 0.08 : Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** What there is to say about evaluations beside their chart: how far one is and for whom it waits, and
 * what the newest one lacks that is not complete. */
export function evaluationNote({ evaluation_note: note, evaluations }) {
  const last = evaluations?.at(-1);
  const lacks = last && (last.partial || last.expert_partial) ? `Newest ${last.text}.` : "";
  const now = note ? `${note[0].toUpperCase()}${note.slice(1)}.` : "";
  return [now, lacks].filter(Boolean).join(" ");
}

/** Student and expert by frames, of the evaluations; the expert's newest mean holds until the next.
 * `marked`: for each line, the points at which something was measured. */
export function evaluated(evaluations, frames) {
  const found = evaluations.filter((each) => !each.partial);
  const x = found.map((each) => each.frames);
  const student = found.map((each) => each.mean ?? null);
  const expert = found.map((each) => each.expert_mean ?? null);
  if (expert.some((value) => value !== null) && frames > (x.at(-1) ?? 0)) {
    x.push(frames); // the expert's line goes on to where the run is now
    student.push(null);
    expert.push(expert.at(-1));
  }
  const measured = found.map((each, at) => (each.expert_episodes > 0 ? at : -1)).filter((at) => at >= 0);
  return { data: [x, student, expert], marked: [found.map((_, at) => at), measured] };
}
