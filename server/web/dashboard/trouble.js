// What is wrong: warnings that hold, and connections that ended in an error. Texts may have words of a
// client in them: they are texts here, never markup.

import { count, element, when } from "/static/text.js";

/** The warnings that hold, each with its cure, since when, and how often. */
export function showWarnings(place, warnings) {
  place.hidden = !warnings.length;
  const list = place.querySelector("ul");
  const items = warnings.map(({ text, cure, since, times }) => [text, cure, `since ${when(since)}${times > 1 ? `, ${count(times)} times` : ""}`]);
  const key = JSON.stringify(items);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(
    ...items.map(([text, cure, held]) =>
      element("li", {}, element("strong", {}, sentence(text)), " ", element("span", {}, sentence(cure)), " ", element("span", { class: "note" }, `(${held})`)),
    ),
  );
}

/** Connections that ended in an error: of each address and error the newest, and how often. */
export function showErrors(place, failures) {
  place.querySelector(".none").hidden = failures.length > 0;
  place.querySelector(".scroll").hidden = !failures.length;
  place.querySelector("tbody").replaceChildren(
    ...failures.map(({ code, peer, client, session, message, first, last, times }) =>
      element(
        "tr",
        {},
        element("td", {}, when(last)),
        element("td", { class: "whose" }, client || "no name", element("span", { class: "note" }, session ? `${peer}, session ${session}` : peer)),
        element("td", { class: "what" }, element("code", {}, code), element("span", { class: "note" }, message)),
        element("td", { class: "number", title: `since ${when(first)}` }, count(times)),
      ),
    ),
  );
}

/** With a capital letter, unless it begins with a name such as reward.weights, and a full stop. */
const sentence = (text) => text.replace(/^[a-z]+(?![\w.])/, (word) => word.charAt(0).toUpperCase() + word.slice(1)).replace(/[^.!?]$/, "$&.");
