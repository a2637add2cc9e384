// The controls. Each action asks for confirmation in a dialog that shows what will change, and then
// shows the result.

import { control, ServerError, token } from "/static/api.js";
import { element, number, there, written } from "/static/text.js";

const by = (id) => document.getElementById(id);

export class Controls {
  /** `done`: called after something was done. */
  constructor(done) {
    this.state = null;
    this.done = done;
    this.request = null;
    by("pause").addEventListener("click", () => this.askPause());
    by("checkpoint").addEventListener("click", () => this.askCheckpoint());
    by("evaluate").addEventListener("click", () => this.askEvaluate());
    for (const form of document.querySelectorAll("form.setting")) {
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.askSetting(form);
      });
    }
    by("games-settings").addEventListener("submit", (event) => {
      event.preventDefault();
      this.askGames();
    });
    by("ask-no").addEventListener("click", () => by("ask").close());
    by("ask").querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    by("ask").addEventListener("close", () => (this.request = null));
  }

  /** The newest state of the run. */
  show(state) {
    this.state = state;
    const can = state.controls === true;
    const note = can
      ? "Each action needs a confirmation and the control token, and is recorded in the run."
      : "The controls are disabled because this server has no control token. Set server.control_token (as UNDERSTUDY_SERVER__CONTROL_TOKEN, or in a file with server.control_token_file) and restart the server.";
    write(by("controls-note"), note);
    for (const each of by("controls").querySelectorAll("button, input, textarea")) each.disabled = !can;
    write(by("pause"), state.paused ? "Resume training…" : "Pause training…");
    write(by("pause-state"), state.paused ? "Training is paused." : "Training is running.");
    for (const form of document.querySelectorAll("form.setting")) write(form.querySelector(".now"), this.now(form));
    write(by("games-json-now"), `Now: ${JSON.stringify(this.gamesSettings())}`);
  }

  gamesSettings() {
    return this.state.game_settings ?? {};
  }

  /** What a setting is now, in words. */
  now({ dataset: { key, row } }) {
    const { settings, row: numbers } = this.state;
    const [start, end] = [settings[`${key}.start`], settings[`${key}.end`]];
    const effective = there(numbers[row]) ? number(numbers[row]) : null;
    if (start === undefined) return `now ${written(settings[key] ?? effective ?? "unknown")}`;
    if (start === end && (effective === null || effective === number(start))) return `now ${written(start)}`;
    const schedule = start === end ? `set to ${written(start)}` : `schedule ${written(start)} to ${written(end)}`;
    return effective === null ? schedule : `now ${effective}, ${schedule}`;
  }

  askPause() {
    const pause = !this.state.paused;
    this.ask({
      title: pause ? "Pause training?" : "Resume training?",
      from: pause ? "training" : "paused",
      to: pause ? "paused: games go on, the network is not trained" : "training",
      yes: pause ? "Pause training" : "Resume training",
      request: { pause },
    });
  }

  askCheckpoint() {
    this.ask({ title: "Write a checkpoint now?", text: "The network, the optimizer and the counters are written to the run directory. Training goes on.", yes: "Write checkpoint", request: { checkpoint: true } });
  }

  askEvaluate() {
    this.ask({ title: "Evaluate now?", text: "The games are asked to let the network play alone, without exploration. The answer names those that can (games of `understudy play` can). Evaluation frames are not stored.", yes: "Evaluate", request: { evaluate: true } });
  }

  askSetting(form) {
    const key = form.dataset.key;
    const value = form.querySelector("input").valueAsNumber;
    const name = form.querySelector("label").textContent;
    this.ask({
      title: `Change ${name.toLowerCase()}?`,
      what: key,
      from: this.now(form).replace(/^(now|set to) /, ""),
      to: `${written(value)}, from now on`,
      yes: "Change",
      request: { set: { [key]: value } },
    });
  }

  askGames() {
    const wrong = by("games-json-wrong");
    wrong.textContent = "";
    let settings;
    try {
      settings = JSON.parse(by("games-json").value);
    } catch (error) {
      wrong.textContent = `Expected a JSON object such as {"level": 3}: ${error.message}`;
    }
    if (settings !== undefined && (typeof settings !== "object" || settings === null || Array.isArray(settings))) {
      wrong.textContent = `Expected a JSON object such as {"level": 3}, got ${JSON.stringify(settings)}.`;
    }
    if (wrong.textContent) {
      by("games-json").focus();
      return;
    }
    this.ask({
      title: "Send settings to all games?",
      from: JSON.stringify(this.gamesSettings()),
      to: JSON.stringify(settings),
      yes: "Send",
      request: { games: settings },
    });
  }

  ask({ title, text, what, from, to, yes, request }) {
    this.request = request;
    by("ask-h").textContent = title;
    by("ask-yes").textContent = yes;
    by("ask-wrong").textContent = "";
    const facts = { Setting: what, From: from, To: to };
    const list = element("dl", { class: "facts" });
    for (const [name, value] of Object.entries(facts)) {
      if (value !== undefined) list.append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
    }
    by("ask-text").replaceChildren(text ? element("p", {}, text) : list);
    this.wantToken(!token.get());
    by("ask").showModal();
    (token.get() ? by("ask-yes") : by("token")).focus();
  }

  wantToken(wanted) {
    by("ask-token").hidden = !wanted;
    by("token").required = wanted;
    by("token").value = "";
  }

  async go() {
    const bearer = token.get() || by("token").value;
    const yes = by("ask-yes");
    by("ask-wrong").textContent = "";
    yes.disabled = true;
    try {
      const answer = await control(this.request, bearer);
      token.keep(bearer);
      by("ask").close();
      this.tell(outcome(answer));
      this.done();
    } catch (error) {
      if (error instanceof ServerError && (error.status === 401 || error.status === 403)) {
        token.forget();
        this.wantToken(true);
        by("token").focus();
      }
      by("ask-wrong").textContent = error instanceof ServerError ? error.message : `The server did not answer (${error.message}). The action may or may not have been carried out.`;
    } finally {
      yes.disabled = false;
    }
  }

  /** Show the result until it is dismissed. */
  tell(text) {
    const away = element("button", { type: "button", class: "quiet" }, "Dismiss");
    away.addEventListener("click", () => by("outcome").replaceChildren());
    by("outcome").replaceChildren(element("p", {}, text.charAt(0).toUpperCase() + text.slice(1)), away);
  }
}

/** An answer of the server in words. */
function outcome(answer) {
  if (answer.changes) {
    if (!answer.changes.length) return "Nothing changed: the setting already has this value.";
    return `Changed ${answer.changes.map(({ key, from, to }) => `${key} from ${written(from)} to ${written(to)}`).join(", ")}.`;
  }
  return answer.text ?? "Done.";
}

function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
