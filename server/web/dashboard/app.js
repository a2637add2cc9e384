// The page: asks the server every second, shows the answers, and tells when there are none.

import * as api from "/static/api.js";
import { Chart } from "/static/charts.js";
import { Controls } from "/static/controls.js";
import { fillCluster } from "/static/cluster.js";
import { fillFacts, fillReplay, fillTable, GamePage, Rates } from "/static/games.js";
import { showErrors, showWarnings } from "/static/trouble.js";
import { evaluated, evaluationNote, History, isChange } from "/static/series.js";
import { CHARTS, EVALUATION, ownCharts, PAUSED, withParts } from "/static/specs.js";
import { clock, count, duration, element, number, percent, there, when, written } from "/static/text.js";

const EVERY_MS = 1000;
const HISTORY_EVERY_MS = 30_000;
const START_EVERY_MS = 3000; // until this start of the server is on record
const POINTS = 600;
const STALE_S = 15;
const LIVE_ROWS = 1200;

const by = (id) => document.getElementById(id);

const page = {
  state: null,
  games: [],
  history: null,
  historyAsked: 0,
  live: [],
  heard: null,
  lost: false,
  rates: new Rates(),
  charts: [],
  game: null,
  errorsShown: 0,
};

const controls = new Controls(() => {
  page.historyAsked = 0;
  return refresh();
});

/** Charts that are not there yet; optional ones come when one of their lines has a number, those of
 * parts when it is known which there are. */
function buildCharts() {
  const own = ownCharts(Object.keys(page.state?.row ?? {}));
  for (const place of document.querySelectorAll("[data-charts]")) {
    for (const spec of [...CHARTS[place.dataset.charts], ...(own[place.dataset.charts] ?? [])]) {
      const wanted = spec.optional ? spec.lines.some(({ key }) => there(page.state?.last[key])) : !spec.parts || page.state;
      if (!wanted || page.charts.some((chart) => chart.spec.id === spec.id)) continue;
      const chart = new Chart(withParts(spec, Object.keys(page.state?.row ?? {})));
      page.charts.push(chart);
      place.append(chart.figure);
    }
  }
}

/** Ask, and show. */
async function refresh() {
  try {
    const known = page.history?.starts.some(({ launch }) => launch === page.state?.run.launch);
    const old = Date.now() - page.historyAsked > (known ? HISTORY_EVERY_MS : START_EVERY_MS);
    const [state, games, history] = await Promise.all([api.state(), api.games(), old ? api.history(POINTS) : null]);
    if (state.row.errors && state.row.errors !== page.errorsShown) {
      showErrors(by("errors"), await api.errors());
      page.errorsShown = state.row.errors;
    }
    page.state = state;
    page.games = games;
    page.heard = Date.now() / 1000;
    if (history) {
      page.history = new History(history, page.live);
      page.historyAsked = Date.now();
    }
    takeRow(state.row);
    page.rates.take(games);
    found();
    show();
  } catch (error) {
    lose(error);
  }
}

/** New rows are kept whole; the server thins out older ones. */
function takeRow(row) {
  if (!there(row?.time) || row.time === page.live.at(-1)?.time) return;
  page.history.append(row);
  page.live.push(row);
  if (page.live.length > LIVE_ROWS) page.live.shift();
}

async function loop() {
  if (!document.hidden) await refresh();
  setTimeout(loop, EVERY_MS);
}

// The connection.

function lose(error) {
  page.lost = true;
  page.historyAsked = 0; // what was missed meanwhile
  const since = page.heard ? `The numbers below are from ${when(page.heard)}.` : "No data yet.";
  const why = error instanceof api.ServerError ? `The server answered with an error: ${error.message}.` : "No connection to the server.";
  const text = `${why} ${since} Retrying every second.`;
  if (by("lost").textContent !== text) by("lost").textContent = text;
  by("lost").hidden = false;
  document.body.classList.add("lost");
  status("lost", page.heard ? `no connection since ${clock(page.heard)}` : "no connection");
  document.title = "No connection – understudy";
}

function found() {
  page.lost = false;
  by("lost").hidden = true;
  by("lost").textContent = "";
  document.body.classList.remove("lost");
}

function status(is, text) {
  const place = by("status");
  place.dataset.is = is;
  if (place.textContent !== text) place.textContent = text;
}

// What there is to see.

function show() {
  const { state, games } = page;
  const row = state.row ?? {};
  by("run-name").textContent = state.run.name;
  by("run-game").textContent = state.run.game ?? "no game yet";
  by("catch").hidden = !state.run.websocket_port || ![null, "catch"].includes(state.run.game);
  const age = there(row.time) ? state.time - row.time : null; // by the server's clock alone
  if (age !== null && age > STALE_S) status("stale", `no new data since ${when(row.time)}`);
  else if (state.loading) status("stale", state.loading);
  else if (state.degraded) status("stale", state.degraded);
  else if (state.paused) status("paused", "training paused");
  else if (state.evaluating) status("live", "live, evaluating");
  else status("live", games.length ? "live" : "live, no games");
  document.title = `${state.run.name} – understudy`;
  by("footer").textContent = `understudy ${state.run.version ?? ""}, on ${state.run.device ?? "?"}${state.run.preset ? `, preset ${state.run.preset}` : ""}. Started ${when(state.run.started)}.`;
  if (page.game) {
    page.game.show(games.find((game) => String(game.session) === page.game.session), page.rates);
    return;
  }
  showTiles(row, state.degraded ? "–" : "none yet");
  showWarnings(by("warnings"), state.warnings ?? []);
  showRestarts(row, state.restarts ?? []);
  showEvaluation(by("evaluation-note"), state);
  fillTable(games, state.run.start_hint);
  fillCluster(state.nodes ?? []);
  fillReplay(by("replay"), row);
  controls.show(state);
  showCharts();
  showEvents();
}

/** `none`: what stands for a number that no process tells now. */
function showTiles(row, none) {
  const told = (format, value) => (there(value) ? format(value) : none);
  fillFacts(by("tiles"), {
    Frames: count(row.frames),
    "Frames/s": number(row.frames_per_s),
    Updates: told(count, row.updates),
    "Updates/s": told(number, row.updates_per_s),
    "Updates behind": told(count, row.updates_due),
    "Games wait": told(percent, row.games_held),
    Games: told(count, row.slots),
    "Evaluation, dqn": number(row.eval_return_mean),
    "Evaluation, expert": number(row.expert_return_mean),
    Errors: [count(row.errors), row.errors ? "/#errors" : null],
  });
}

/** Restarts of processes, if any: how many, and the reason of the last one. */
function showRestarts(row, restarts) {
  const place = by("restarts");
  const counts = ["gateway", "trainer"].filter((kind) => row[`restarts_${kind}`] > 0).map((kind) => `${kind} ${row[`restarts_${kind}`]}×`);
  place.hidden = !counts.length;
  const last = restarts.at(-1);
  const why = last ? ` Last restart at ${when(last.time)}: ${last.text} (see the log).` : "";
  const text = counts.length ? `Restarts: ${counts.join(", ")}.${why}` : "";
  if (place.textContent !== text) place.textContent = text;
}

/** How far an evaluation is, and what the newest one lacks, if it is not complete. */
function showEvaluation(place, state) {
  const text = evaluationNote(state);
  place.hidden = !text;
  if (place.textContent !== text) place.textContent = text;
}

function showCharts() {
  buildCharts();
  const { history, state } = page;
  const marks = history.marks();
  const span = Number(by("span").value);
  const since = span ? (history.times.at(-1) ?? 0) - span : undefined;
  for (const chart of page.charts) {
    const { spec } = chart;
    if (spec === EVALUATION) {
      const { data, marked } = evaluated(state.evaluations ?? [], state.row?.frames ?? 0);
      chart.show(data, { marked });
    }
    else {
      const { data, rows } = history.aligned(spec.lines.map((line) => line.key), since);
      chart.show(data, { rows, history, marks, empty: state.paused && spec.learnt ? PAUSED : null });
    }
  }
}

/** Starts and changes, the newest first. */
function showEvents() {
  const { starts, changes } = page.history;
  const events = [
    ...starts.map(({ time, frames }, at) => ({ time, frames, who: "", what: at ? "Restarted" : "Started", mark: at ? "R" : "" })),
    ...changesTogether(changes),
  ].sort((a, b) => b.time - a.time);
  const key = JSON.stringify(events);
  const table = by("events");
  if (table.dataset.shown === key) return;
  table.dataset.shown = key;
  table.tBodies[0].replaceChildren(
    ...events.map(({ time, frames, who, what, mark }) =>
      element(
        "tr",
        {},
        element("td", {}, when(time)),
        element("td", { class: "number" }, there(frames) ? count(frames) : "–"),
        element("td", { class: "wide" }, who ?? ""),
        element("td", {}, what, mark ? " " : null, mark ? element("span", { class: "mark" }, mark) : null),
      ),
    ),
  );
}

/** What was changed at once is one event. */
function changesTogether(changes) {
  const events = [];
  for (const change of changes) {
    const { time, frames, who } = change;
    const last = events.at(-1);
    if (last?.time === time) last.what = `${last.what}; ${changeText(change)}`;
    else events.push({ time, frames, who, what: changeText(change), mark: isChange(change) ? "C" : "" });
  }
  return events;
}

function changeText({ key, from, to }) {
  if (key === "checkpoint") return `Checkpoint written: ${to}`;
  if (key === "evaluate") return "Evaluation requested";
  if (key === "paused") return to ? "Training paused" : "Training resumed";
  return `${key} ${written(from)} → ${written(to)}`;
}

// Which page: the run, or one of its games.

function route() {
  const found = location.pathname.match(/^\/game\/(.+)$/);
  const session = found ? decodeURIComponent(found[1]) : null;
  if (page.game && page.game.session !== session) {
    page.game.close();
    page.game = null;
  }
  by("run-page").hidden = session !== null;
  by("game-page").hidden = session === null;
  if (session !== null && !page.game) page.game = new GamePage(by("game-page"), session);
  if (page.state) show();
}

function follow(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || !(to.pathname === "/" || to.pathname.startsWith("/game/"))) return;
  if (to.pathname === location.pathname && to.hash) return; // the browser's own
  event.preventDefault();
  history.pushState(null, "", to);
  route();
  if (page.game) {
    scrollTo(0, 0);
    page.game.title.focus();
  } else if (to.hash) by(to.hash.slice(1))?.scrollIntoView();
  else scrollTo(0, 0);
}

function redraw() {
  for (const chart of page.charts) chart.redraw();
  page.game?.redraw();
}

buildCharts();
route();
addEventListener("popstate", route);
document.addEventListener("click", follow);
by("span").addEventListener("change", () => page.history && showCharts());
document.addEventListener("visibilitychange", () => document.hidden || refresh());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
loop();
