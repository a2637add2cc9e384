/** The page: boards that play on one connection, and a person who may take one over. */

import { Client, DQN, EXPERT, Reconnected, RUNNING, ServerError } from "../understudy.js";
import { Board, GAME, LEFT, RIGHT, STAY } from "./catch.js";
import { drawBoard, drawBoards, drawCurve } from "./draw.js";

const SLOTS = 5;
const TICK_MS = 33;
const BALLS = 50;

const $ = (id) => document.getElementById(id);
const boards = Array.from({ length: SLOTS }, () => new Board());
const results = [];
const curve = [];
const count = { frames: 0, episodes: 0, dqn: 0, moves: 0 };
const held = new Set();

let person = false;
let run = 0;

/** Where games connect: this page's server, or the one of ?server=ws://host:port. */
async function address() {
  const asked = new URLSearchParams(location.search).get("server");
  if (asked) return asked;
  const { run: about } = await (await fetch("/api/state")).json();
  if (!about.websocket_port) {
    throw new Error("this server has no port for browsers: start it with --server.websocket_port 7780");
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.hostname}:${about.websocket_port}`;
}

/** Play until another run begins or something stops it. */
async function play() {
  const mine = (run += 1);
  const current = () => mine === run;
  let client = null;
  say("connecting", "waiting");
  $("trouble").hidden = true;
  try {
    client = await Client.connect(await address(), {
      ...GAME,
      slots: SLOTS,
      role: $("exam").checked ? "eval" : "train",
      token: $("token").value || null,
      onTrouble: (problem) => current() && say(problem.message, "waiting"),
    });
    boards.forEach((board) => board.reset({ scattered: true }));
    while (current()) {
      say($("exam").checked ? "exam" : "training", "playing");
      await round(client);
    }
  } catch (error) {
    if (current()) stopped(error);
  } finally {
    client?.close();
  }
}

/** One frame of every board. */
async function round(client) {
  const began = performance.now();
  try {
    // While a person plays the others rest, so that nobody's frames keep the person waiting.
    const playing = person ? boards.slice(0, 1) : boards;
    await Promise.all(playing.map((board, slot) => move(client, board, slot)));
  } catch (error) {
    if (!(error instanceof Reconnected)) throw error;
    boards.forEach((board) => board.reset({ scattered: true })); // the episodes were cut
  }
  const fast = $("fast").checked && !person;
  const rest = fast ? 0 : TICK_MS - (performance.now() - began);
  if (rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
}

async function move(client, board, slot) {
  const mine = slot === 0 && person;
  const { obs, reward, status, took } = board;
  const wish = mine ? chosen() : null;
  // A script does not recommend beside a person.
  const advised = !mine && $("script").checked && status === RUNNING;
  const expert = advised ? [board.advice] : null;
  const answer = await client.act({ slot, obs, reward, status, expert, took });
  count.frames += 1;
  if (answer.action !== null) board.mover = mine ? "person" : answer.actor === DQN ? "dqn" : "expert";
  if (slot === 0) {
    who(board.mover, answer.explored);
    $("version").textContent = answer.policyVersion.toLocaleString("en");
  }
  if (answer.action === null) {
    ended(board);
    return;
  }
  // A person at the keys moves whatever the answer was, and the server is told who did.
  board.took = mine ? [[wish], EXPERT] : null;
  count.moves += 1;
  count.dqn += !mine && answer.actor === DQN;
  board.step(mine ? wish : answer.action[0]);
}

function ended(board) {
  results.push(board.reward > 0);
  board.last = { x: board.x, caught: board.reward > 0, at: performance.now() };
  count.episodes += 1;
  if (results.length > BALLS) results.shift();
  if (count.episodes % 10 === 0) curve.push(caught());
  board.reset();
}

const caught = () => results.filter(Boolean).length / results.length;

/** What the keys that are held say. */
function chosen() {
  const left = held.has("left");
  return left === held.has("right") ? STAY : left ? LEFT : RIGHT;
}

// What the page shows.

const NAMES = { dqn: "the network", expert: "the script", person: "you" };

function who(actor, explored) {
  $("who").dataset.is = actor;
  $("who").textContent = NAMES[actor] + (explored && actor === "dqn" ? ", exploring" : "");
}

function say(text, is) {
  if ($("status").textContent === text) return;
  $("status").textContent = text;
  $("status").dataset.is = is;
}

function stopped(error) {
  const wrongToken = error instanceof ServerError && error.code === "bad_token";
  say("stopped", "lost");
  $("problem").textContent = error.message;
  $("token-label").hidden = !wrongToken;
  $("trouble").hidden = false;
  (wrongToken ? $("token") : $("door").querySelector("button")).focus();
}

function takeOver(on) {
  person = on && !$("exam").checked;
  $("over").setAttribute("aria-pressed", person);
  $("over").firstChild.data = person ? "Give back " : "Take over ";
}

let before = { frames: 0, at: performance.now() };

function numbers() {
  const now = performance.now();
  const rate = (1000 * (count.frames - before.frames)) / (now - before.at);
  before = { frames: count.frames, at: now };
  $("frames").textContent = count.frames.toLocaleString("en");
  $("rate").textContent = Math.round(rate).toLocaleString("en");
  $("episodes").textContent = count.episodes.toLocaleString("en");
  $("caught").textContent = results.length ? `${Math.round(100 * caught())} %` : "–";
  $("share").textContent = count.moves ? `${Math.round((100 * count.dqn) / count.moves)} %` : "–";
  count.moves = count.dqn = 0;
  drawCurve($("curve"), curve);
}

function paint() {
  drawBoard($("board"), boards[0]);
  drawBoards($("others"), boards.slice(1));
  requestAnimationFrame(paint);
}

// What a person does.

const KEYS = { ArrowLeft: "left", a: "left", ArrowRight: "right", d: "right" };

addEventListener("keydown", (event) => {
  if (event.target.id === "token" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " ") {
    if (event.target instanceof HTMLInputElement) return; // a box that is ticked
    if (!event.repeat) takeOver(!person);
  } else if (KEYS[event.key]) {
    held.add(KEYS[event.key]);
    takeOver(true);
  } else return;
  event.preventDefault();
});
addEventListener("keyup", (event) => {
  held.delete(KEYS[event.key]);
  if (event.key === " " && event.target instanceof HTMLButtonElement) event.preventDefault();
});
addEventListener("blur", () => held.clear());

for (const side of ["left", "right"]) {
  $(side).addEventListener("pointerdown", () => {
    held.add(side);
    takeOver(true);
  });
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) {
    $(side).addEventListener(name, () => held.delete(side));
  }
}
$("over").addEventListener("click", () => takeOver(!person));
$("exam").addEventListener("change", () => {
  takeOver(false);
  for (const id of ["left", "over", "right"]) $(id).disabled = $("exam").checked;
  results.length = curve.length = 0;
  play();
});
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  play();
});
addEventListener("pagehide", () => (run += 1));

setInterval(numbers, 500);
numbers();
paint();
play();
