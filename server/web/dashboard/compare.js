// The page that compares runs: those beside the run of this server, some of them chosen. The address
// says which, so it can be passed on.

import * as api from "/static/api.js";
import { Chart } from "/static/charts.js";
import { count, element, number, size, there, when } from "/static/text.js";

const EVERY_MS = 30_000;
const AGAIN_MS = 1500; // while the server reads for somebody else
const COLORS = ["dqn", "expert", "third", "fourth"];
const NAME_LETTERS = 14;

const SPECS = {
  evaluation: { title: "Evaluation", unit: "mean return of the network alone", marker: "circle", empty: "No evaluation yet." },
  episode_return_mean: { title: "Training return", unit: "mean of 100 episodes", empty: "No episode has ended yet." },
};

const by = (id) => document.getElementById(id);

const page = { runs: [], most: 8, chosen: [], curve: "", charts: [], drawn: "", shown: false, timer: null };

/** Each run has its own color and dashes: of eight, no two have both. */
const look = (at) => ({ color: COLORS[at % COLORS.length], dash: (at + Math.floor(at / COLORS.length)) % COLORS.length });

const cut = (name) => (name.length > NAME_LETTERS ? `${name.slice(0, NAME_LETTERS - 1)}…` : name);

/** Ask until the server has time for it. */
async function patiently(ask) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof api.ServerError) || error.status !== 503) throw error;
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
}

async function refresh() {
  clearTimeout(page.timer);
  try {
    const listed = await patiently(api.runs);
    page.runs = listed.runs;
    page.most = listed.most;
    by("folder").textContent = listed.folder;
    by("most").textContent = count(listed.most);
    page.chosen = page.chosen.filter((name) => page.runs.some((run) => run.name === name)); // one may be gone
    if (!page.chosen.length && !page.shown) choose();
    page.shown = true;
    showRuns();
    await compare();
    by("lost").hidden = true;
  } catch (error) {
    const why = error instanceof api.ServerError ? `The server answered with an error: ${error.message}.` : "No connection to the server.";
    by("lost").textContent = `${why} The page tries again in ${EVERY_MS / 1000} seconds.`;
    by("lost").hidden = false;
  }
  page.timer = setTimeout(() => (document.hidden ? null : refresh()), EVERY_MS);
}

/** Where the address names none: the run of this server, and the newest one of the others. */
function choose() {
  const served = page.runs.filter((run) => run.served);
  const others = page.runs.filter((run) => !run.served);
  page.chosen = [...served, ...others].slice(0, 2).map((run) => run.name);
}

function showRuns() {
  const full = page.chosen.length >= page.most;
  by("runs")
    .querySelector("tbody")
    .replaceChildren(
      ...page.runs.map((run) => {
        const chosen = page.chosen.includes(run.name);
        const box = element("input", { type: "checkbox", name: run.name, checked: chosen, disabled: full && !chosen });
        box.addEventListener("change", () => toggle(run.name, box.checked));
        return element(
          "tr",
          {},
          element("th", { scope: "row", title: run.init_from ? `began with the weights of ${run.init_from}` : null }, element("label", { class: "choice" }, box, run.name, run.served ? " (this run)" : null)),
          element("td", {}, run.game ?? "–"),
          element("td", { title: run.problem || null }, run.problem ? `${run.state}, damaged` : run.state),
          element("td", { class: "number" }, dash(run.frames, count)),
          element("td", { class: "number" }, dash(run.best, number)),
          element("td", { class: "number wide" }, dash(run.expert, number)),
          element("td", { class: "number wide" }, size(run.disk_bytes)),
          element("td", { class: "wide" }, dash(run.time, when)),
        );
      }),
    );
}

const dash = (value, text) => (there(value) ? text(value) : "–");

async function toggle(name, chosen) {
  page.chosen = chosen ? [...page.chosen, name] : page.chosen.filter((each) => each !== name);
  keepAddress();
  const focused = document.activeElement?.name;
  showRuns();
  if (focused) document.getElementsByName(focused)[0]?.focus();
  await draw();
}

/** Compare, and tell where that fails. */
async function draw() {
  try {
    await compare();
  } catch (error) {
    by("lost").textContent = error.message;
    by("lost").hidden = false;
  }
}

async function compare() {
  const asked = JSON.stringify([page.chosen, page.curve]);
  const curves = [...Object.keys(SPECS), ...(page.curve ? [page.curve] : [])];
  const found = page.chosen.length ? await patiently(() => api.compare(page.chosen, curves)) : { runs: [], curves: {}, settings: {} };
  if (asked !== JSON.stringify([page.chosen, page.curve])) return; // another choice was made meanwhile
  showCurves(found, asked);
  showSettings(found);
}

function showCurves({ runs, curves }, asked) {
  if (page.drawn !== asked) {
    for (const chart of page.charts) chart.close();
    page.charts = Object.keys(curves).map((name) => new Chart(specOf(name, runs)));
    by("curves").querySelector(".charts").replaceChildren(...page.charts.map((chart) => chart.figure));
    page.drawn = asked;
  }
  Object.values(curves).forEach((lines, at) => page.charts[at].show(...together(lines)));
}

function specOf(name, runs) {
  const { marker, ...spec } = SPECS[name] ?? { title: name, empty: "No numbers yet." };
  const lines = runs.map((run, at) => ({ name: run.label, short: cut(run.label), marker, ...look(at) }));
  return { id: name.replaceAll("_", "-"), by: "frames", hold: true, ...spec, lines };
}

/** The curves as columns along the frames of all of them, and which points of each are its own. */
function together(curves) {
  const x = [...new Set(curves.flatMap((curve) => curve.map(([frames]) => frames)))].sort((a, b) => a - b);
  const place = new Map(x.map((frames, at) => [frames, at]));
  const columns = curves.map((curve) => {
    const column = new Array(x.length).fill(null);
    for (const [frames, value] of curve) column[place.get(frames)] = value;
    return column;
  });
  const marked = curves.map((curve) => curve.map(([frames]) => place.get(frames)));
  return [[x, ...columns], { marked }];
}

function showSettings({ runs, settings }) {
  const rows = Object.entries(settings);
  by("no-settings").hidden = rows.length > 0 || runs.length < 2;
  const place = by("settings").querySelector(".scroll");
  place.hidden = !rows.length;
  const head = ["Setting", ...runs.map((run) => run.label)];
  place.querySelector("thead").replaceChildren(element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text))));
  place.querySelector("tbody").replaceChildren(
    ...rows.map(([key, values]) =>
      element("tr", {}, element("th", { scope: "row" }, element("code", {}, key)), ...values.map((value) => element("td", {}, value ?? "?"))),
    ),
  );
}

// The address.

function keepAddress() {
  const query = new URLSearchParams(page.chosen.map((name) => ["run", name]));
  if (page.curve) query.set("curve", page.curve);
  history.replaceState(null, "", `/compare?${query}`);
}

function readAddress() {
  const query = new URLSearchParams(location.search);
  page.chosen = query.getAll("run");
  page.curve = query.get("curve") ?? "";
}

async function offerCurves() {
  const { row } = await api.state();
  const names = Object.keys(row).filter((name) => name !== "time" && !(name in SPECS));
  by("curve").append(...names.map((name) => element("option", { value: name, selected: name === page.curve }, name)));
}

readAddress();
by("curve").addEventListener("change", () => {
  page.curve = by("curve").value;
  keepAddress();
  draw();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.charts.forEach((chart) => chart.redraw()));
offerCurves().catch(() => null);
refresh();
