// A game for tests: reach a goal, as in the examples of the other clients. Options are JSON in argv.
import { Client, EXPERT, Reconnected, continuous, discrete } from "../../../clients/javascript/understudy.js";

const { url, episodes, slots, all, ...more } = JSON.parse(process.argv[2]);

class Reach {
  constructor() {
    Object.assign(this, { at: 0, goal: 2 * Math.random() - 1, reward: 0, status: 0, took: null, tick: 0 });
  }

  get obs() {
    return [this.at, this.goal];
  }

  get advice() {
    return [this.goal < this.at - 0.05 ? 0 : this.goal > this.at + 0.05 ? 2 : 1, 0.75];
  }

  step(action) {
    this.took = null;
    if (this.tick === 2 && Math.random() < 0.1) {
      // Somebody holds the stick to the left: the server must know what was done.
      action = [0, 1];
      this.took = [action, EXPERT];
    }
    this.at += 0.1 * (action[0] - 1) * action[1];
    this.reward = -Math.abs(this.goal - this.at);
    this.tick += 1;
    this.status = this.reward > -0.05 ? 1 : this.tick === 30 ? 2 : 0;
  }
}

let ended = 0;

async function one(client, games, slot) {
  const { obs, reward, status, took, advice } = games[slot];
  const answer = await client.act({ slot, obs, reward, status, expert: status ? null : advice, took });
  if (answer.action !== null) games[slot].step(answer.action);
  else {
    games[slot] = new Reach();
    ended += 1;
  }
}

async function together(client, games) {
  const rows = games.map((game) => (game.status ? [NaN, 0] : game.advice));
  const { actions, actors } = await client.actAll({
    obs: games.flatMap((game) => game.obs),
    rewards: games.map((game) => game.reward),
    statuses: games.map((game) => game.status),
    experts: Float32Array.from(rows.flat()),
  });
  games.forEach((game, slot) => {
    if (actors[slot]) game.step([actions[2 * slot], actions[2 * slot + 1]]);
    else {
      games[slot] = new Reach();
      ended += 1;
    }
    games[slot].took = null;
  });
}

try {
  const client = await Client.connect(url, {
    client: "reach-javascript/1.0",
    game: "reach",
    observation: ["float32", [2]],
    actions: [discrete("move", 3), continuous("stride", 0, 1)],
    slots,
    episodes,
    ...more,
  });
  const fresh = () => Array.from({ length: slots }, () => new Reach());
  let games = fresh();
  await client.ping();
  while (ended < episodes) {
    try {
      if (all) await together(client, games);
      else await Promise.all(games.map((_, slot) => one(client, games, slot)));
    } catch (error) {
      if (!(error instanceof Reconnected)) throw error;
      console.log(error.message);
      games = fresh(); // the episodes were cut
    }
  }
  client.close();
  console.log(`settings ${JSON.stringify(client.settings)}`);
  console.log(`${ended} episodes`);
} catch (error) {
  console.log(`${error.constructor.name} ${error.message}`);
  process.exitCode = 1;
}
