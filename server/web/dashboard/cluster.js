// The gateway nodes and learners of a cluster.

import { count, duration, element, there } from "/static/text.js";

const NONE = "–"; // a learner has none, or nobody knows

/** Bring the table up to date; a server on one machine has none. `nodes`: as /api/state has them. */
export function fillCluster(nodes) {
  const place = document.getElementById("cluster");
  place.hidden = document.getElementById("cluster-link").hidden = nodes.length === 0;
  const body = place.querySelector("tbody");
  nodes.forEach((node, at) => {
    const row = body.rows[at] ?? body.appendChild(newRow());
    const texts = [
      node.name,
      state(node),
      there(node.port) ? `${node.host}:${node.port}` : node.host,
      there(node.unacknowledged) ? count(node.unacknowledged) : NONE,
      there(node.weights_age_s) ? duration(node.weights_age_s) : NONE,
    ];
    texts.forEach((text, cell) => {
      if (row.cells[cell].textContent !== text) row.cells[cell].textContent = text;
    });
  });
  while (body.rows.length > nodes.length) body.deleteRow(-1);
}

const state = (node) => (node.answers ? "answers" : "away");

function newRow() {
  const number = () => element("td", { class: "number" });
  return element("tr", {}, element("th", { scope: "row" }), element("td"), element("td"), number(), number());
}
