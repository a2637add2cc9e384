// The connected games: the table of all, and the page of one.

import { Chart } from "/static/charts.js";
import { count, duration, element, number, percent, there, when } from "/static/text.js";

const REMEMBERED = 600;
const NO_RETURN = "none yet";

/** How fast a game plays; nobody knows while its gateway does not report. */
const rate = (game) => (there(game.frames_per_s) ? number(game.frames_per_s) : "–");

const share = (game) => {
  const all = game.frames_dqn + game.frames_expert;
  return all ? game.frames_expert / all : null;
};
const address = (game) => `/game/${encodeURIComponent(game.session)}`;

/** Rates of the games since this page was opened, by session. */
export class Rates {
  constructor() {
    this.seen = new Map();
    this.begin = Date.now() / 1000;
  }

  take(games) {
    const now = Date.now() / 1000;
    for (const game of games) {
      const points = this.seen.get(String(game.session)) ?? [];
      points.push([now, game.frames_per_s ?? null]);
      if (points.length > REMEMBERED) points.shift();
      this.seen.set(String(game.session), points);
    }
    for (const [session, points] of this.seen) {
      if (now - points.at(-1)[0] > 3600) this.seen.delete(session);
    }
  }

  of(session) {
    return this.seen.get(String(session)) ?? [];
  }
}

/** Bring the table up to date. Rows stay the same elements, so that the focus stays where it is.
 * `hint`: how to start a game of this run, as text and command. */
export function fillTable(games, hint) {
  const place = document.getElementById("games-table");
  const body = place.querySelector("tbody");
  const none = document.getElementById("no-games");
  none.hidden = games.length > 0;
  for (const [kind, text] of [["span", hint.text], ["code", hint.command]]) {
    const part = none.querySelector(kind);
    if (part.textContent !== text) part.textContent = text;
  }
  place.hidden = games.length === 0;
  const rows = new Map([...body.rows].map((row) => [row.dataset.session, row]));
  games.forEach((game, at) => {
    const session = String(game.session);
    const row = rows.get(session) ?? newRow(game);
    rows.delete(session);
    const values = {
      role: game.role,
      rate: rate(game),
      frames: count(game.frames),
      expert: share(game) === null ? NO_RETURN : percent(share(game)),
      episodes: count(game.episodes),
      last: there(game.last_return) ? number(game.last_return) : NO_RETURN,
      connected: duration(game.connected_s),
    };
    for (const [name, text] of Object.entries(values)) {
      const cell = row.querySelector(`[data-cell=${name}]`);
      if (cell.textContent !== text) cell.textContent = text;
    }
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
  for (const row of rows.values()) row.remove();
}

function newRow(game) {
  const cell = (name, kind = "number") => element("td", { "data-cell": name, class: kind });
  const session = `session ${game.session}`;
  return element(
    "tr",
    { "data-session": game.session },
    element("th", { scope: "row" }, element("a", { href: address(game), "aria-label": `${game.client}, ${session}` }, game.client)),
    element("td", { class: "wide" }, String(game.session)),
    cell("role", "wide"),
    cell("rate"),
    cell("frames", "number wide"),
    cell("expert"),
    cell("episodes", "number wide"),
    cell("last"),
    cell("connected", "number wide"),
  );
}

/** What the replay holds, as a bar and in words. */
export function fillReplay(place, row) {
  const { buffer_dqn: dqn, buffer_expert: expert, buffer_total: total, buffer_fill: fill } = row;
  const parts = [
    ["dqn", dqn, "dqn"],
    ["expert", expert, "expert"],
  ];
  fillBar(place, parts, total, "steps", "The replay is empty.", there(fill) ? `${count(total)} steps, ${percent(fill)} of the capacity` : "");
}

/** A bar of parts, told apart by pattern and by words. */
function fillBar(place, parts, total, unit, nothing, note = "") {
  if (!place.firstChild) {
    place.append(element("div", { class: "share", "aria-hidden": "true" }), element("ul", { class: "legend" }), element("p", { class: "note" }));
    for (const [name, , kind] of parts) {
      place.children[0].append(element("span", { class: kind }));
      place.children[1].append(element("li", {}, element("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), `${name} `, element("span", { class: "value" })));
    }
  }
  const [bar, legend, text] = place.children;
  const some = there(total) && total > 0;
  bar.hidden = legend.hidden = !some;
  text.textContent = some ? note : nothing;
  parts.forEach(([, value], at) => {
    const part = some && there(value) ? value / total : 0;
    bar.children[at].style.flexGrow = String(part);
    legend.children[at].querySelector(".value").textContent = `${percent(part)} (${count(value ?? 0)} ${unit})`;
  });
}

/** The page of one game. */
export class GamePage {
  constructor(place, session) {
    this.session = session;
    this.title = element("h1", { tabindex: "-1" }, `Session ${session}`);
    this.gone = element("p", { class: "note", role: "status" });
    this.facts = element("dl", { class: "facts" });
    this.played = element("div", {});
    this.rate = new Chart({
      id: "game-rate",
      title: "Frames",
      unit: "per second, since this page was opened",
      empty: "No frames yet.",
      zero: true,
      by: "seconds",
      byName: "Seconds",
      place: (x) => `at ${duration(x)}`,
      lines: [{ name: "frames/s", color: "third" }],
    });
    this.returns = new Chart({
      id: "game-returns",
      title: "Returns",
      unit: "last episodes",
      empty: "No episode has ended yet.",
      by: "episodes",
      byName: "Episode",
      place: (x) => `episode ${count(x)}`,
      lines: [{ name: "return", color: "dqn", marker: "circle" }],
    });
    place.replaceChildren(
      element("p", {}, element("a", { href: "/#games" }, "← All games")),
      this.title,
      this.gone,
      this.facts,
      element("h2", {}, "Frames by actor"),
      this.played,
      element("div", { class: "charts" }, this.rate.figure, this.returns.figure),
    );
  }

  /** `game`: as /api/games has it, undefined when it is gone. */
  show(game, rates) {
    const points = rates.of(this.session);
    this.rate.show([points.map(([time]) => time - rates.begin), points.map(([, rate]) => rate)]);
    if (!game) {
      const last = points.at(-1);
      const text = last ? `This game has disconnected. Last seen at ${when(last[0])}.` : "No connected game has this session number.";
      if (this.gone.textContent !== text) this.gone.textContent = text;
      return;
    }
    this.gone.textContent = "";
    this.title.textContent = `${game.client}`;
    const facts = {
      Session: String(game.session),
      Game: game.game,
      Role: game.role,
      "Frames/s": rate(game),
      Frames: count(game.frames),
      Episodes: count(game.episodes),
      "Last return": there(game.last_return) ? number(game.last_return) : NO_RETURN,
      Slots: count(game.slots),
      Connected: duration(game.connected_s),
      Address: game.peer,
      Gateway: count(game.gateway),
    };
    fillFacts(this.facts, facts);
    fillBar(
      this.played,
      [
        ["dqn", game.frames_dqn, "dqn"],
        ["expert", game.frames_expert, "expert"],
      ],
      game.frames_dqn + game.frames_expert,
      "frames",
      "No frames yet.",
    );
    const returns = game.recent_returns ?? [];
    const first = (game.episodes ?? returns.length) - returns.length + 1;
    this.returns.show([returns.map((_, at) => first + at), returns]);
  }

  redraw() {
    this.rate.redraw();
    this.returns.redraw();
  }

  close() {
    this.rate.close();
    this.returns.close();
  }
}

/** Bring a list of facts up to date. A fact is a text, or a text and where its link leads. */
export function fillFacts(list, facts) {
  for (const [name, value] of Object.entries(facts)) {
    const [text, href] = [value].flat();
    let fact = list.querySelector(`[data-fact="${name}"]`);
    if (!fact) {
      fact = element("div", { "data-fact": name }, element("dt", {}, name), element("dd"));
      list.append(fact);
    }
    const place = fact.lastChild;
    if (place.textContent === text && (place.querySelector("a")?.getAttribute("href") ?? null) === (href ?? null)) continue;
    place.replaceChildren(href ? element("a", { href }, text) : text);
  }
}
