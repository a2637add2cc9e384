/** The game: a ball falls and bounces off the walls, a paddle catches it. One ball is an episode. */

import { RUNNING, TERMINATED, discrete } from "../understudy.js";

export const LEFT = 0;
export const STAY = 1;
export const RIGHT = 2;

/** What the server is told of it. */
export const GAME = {
  client: "catch-javascript/1.0",
  game: "catch",
  observation: ["float32", [4]],
  actions: [discrete("move", 3)],
};

export const PADDLE = { y: 0.9, half: 0.1 };
export const RADIUS = 0.025;

const STEP = 0.04;
const FALL = 0.02;

/** One board. Sides are from 0 to 1; (0, 0) is the upper left corner. */
export class Board {
  constructor() {
    this.reset();
  }

  /** A new ball; the paddle stays where it is. `scattered`: so that boards do not fall in step. */
  reset({ scattered = false } = {}) {
    this.paddle ??= 0.5;
    this.x = 0.1 + 0.8 * Math.random();
    this.y = 0.08 + (scattered ? 0.6 * Math.random() : 0);
    this.drift = (Math.random() < 0.5 ? -1 : 1) * (0.004 + 0.014 * Math.random());
    this.reward = 0;
    this.status = RUNNING;
    this.took = null;
    this.mover = "dqn";
  }

  /** What the network sees: four numbers around 0. */
  get obs() {
    return [2 * this.paddle - 1, 2 * this.x - 1, 2 * this.y - 1, 50 * this.drift];
  }

  /** What a simple script would do: go where the ball is. */
  get advice() {
    const away = this.x + 4 * this.drift - this.paddle;
    return Math.abs(away) < STEP ? STAY : away < 0 ? LEFT : RIGHT;
  }

  step(move) {
    const limit = PADDLE.half;
    this.paddle = Math.min(1 - limit, Math.max(limit, this.paddle + (move - STAY) * STEP));
    this.x += this.drift;
    if (this.x < RADIUS || this.x > 1 - RADIUS) {
      this.drift = -this.drift;
      this.x += 2 * this.drift;
    }
    this.y += FALL;
    this.reward = 0;
    if (this.y + RADIUS >= PADDLE.y) {
      const caught = Math.abs(this.x - this.paddle) <= PADDLE.half + RADIUS;
      this.reward = caught ? 1 : -1;
      this.status = TERMINATED;
    }
  }
}
