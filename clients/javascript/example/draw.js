/** What is on the canvases. Colours are those of style.css. */

import { PADDLE, RADIUS } from "./catch.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

export function drawBoard(canvas, board) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  at(context, board, 0, 0, canvas.width);
}

/** Side by side. */
export function drawBoards(canvas, boards) {
  const context = canvas.getContext("2d");
  const side = canvas.width / boards.length;
  context.clearRect(0, 0, canvas.width, canvas.height);
  boards.forEach((board, i) => at(context, board, i * side, 0, side));
  context.strokeStyle = colour("--line");
  context.lineWidth = 2;
  for (let i = 1; i < boards.length; i += 1) line(context, i * side, 0, i * side, canvas.height);
}

const MOVERS = { dqn: "--dqn", expert: "--script", person: "--person" };
const RING_MS = 450;

function at(context, board, left, top, side) {
  const x = (value) => left + value * side;
  const y = (value) => top + value * side;
  const circle = (atX, atY, radius) => {
    context.beginPath();
    context.arc(x(atX), y(atY), radius * side, 0, 2 * Math.PI);
  };
  context.save();
  context.beginPath();
  context.rect(left, top, side, side);
  context.clip();
  context.fillStyle = colour("--ink");
  circle(board.x, board.y, RADIUS);
  context.fill();
  context.fillStyle = colour(MOVERS[board.mover]);
  const height = 0.03 * side;
  context.beginPath();
  context.roundRect(x(board.paddle - PADDLE.half), y(PADDLE.y), 2 * PADDLE.half * side, height, height / 2);
  context.fill();
  // What became of the last ball: a ring that grows and fades.
  const age = board.last ? (performance.now() - board.last.at) / RING_MS : 1;
  if (age < 1) {
    context.globalAlpha = 1 - age;
    context.strokeStyle = colour(board.last.caught ? "--person" : "--bad");
    context.lineWidth = 0.012 * side;
    circle(board.last.x, PADDLE.y, RADIUS + 0.12 * age);
    context.stroke();
  }
  context.restore();
}

/** Shares from 0 to 1, the newest at the right. */
export function drawCurve(canvas, shares) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const [left, right, top, bottom] = [110, 20, 26, 26];
  const y = (share) => top + (1 - share) * (height - top - bottom);
  context.clearRect(0, 0, width, height);
  context.font = "24px system-ui, 'DejaVu Sans', sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.lineWidth = 2;
  for (const share of [0, 0.5, 1]) {
    context.strokeStyle = colour("--line");
    line(context, left, y(share), width - right, y(share));
    context.fillStyle = colour("--soft");
    context.fillText(`${100 * share} %`, left - 12, y(share));
  }
  const shown = shares.slice(-200);
  const x = (i) => left + (i * (width - left - right)) / Math.max(1, shown.length - 1);
  context.strokeStyle = colour("--dqn");
  context.lineWidth = 5;
  context.lineJoin = "round";
  context.beginPath();
  shown.forEach((share, i) => context.lineTo(x(i), y(share)));
  context.stroke();
}

function line(context, x, y, toX, toY) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(toX, toY);
  context.stroke();
}
