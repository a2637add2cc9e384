/**
 * The game side of understudy, in one file, for browsers (and what else has WebSocket).
 *
 * Copy this file into your project. README.md beside it shows a game; the protocol is
 * protocol/SPEC.md. It needs nothing else and builds no code from text, so it runs under a strict
 * Content-Security-Policy.
 */

export const RUNNING = 0;
export const TERMINATED = 1;
export const TRUNCATED = 2;

export const NOBODY = 0;
export const DQN = 1;
export const EXPERT = 2;

const [HELLO, FRAME, FRAMES, PING, BYE] = [1, 2, 3, 4, 5];
const [WELCOME, ACTION, ACTIONS, PONG, ERROR, SETTINGS] = [11, 12, 13, 14, 15, 16];

const DEEPEST = 100;
const ALL = "all slots";

/** A choice of n: 0 to n-1. */
export const discrete = (name, n) => ["discrete", name, n];

/** Numbers from low to high. */
export const continuous = (name, low, high, size = 1) => ["continuous", name, low, high, size];

/** What can go wrong with a server. */
export class ClientError extends Error {}

/** There is no server, or it is gone, and trying again was given up. */
export class ConnectionLost extends ClientError {}

/** The other side does not speak this protocol. */
export class ProtocolViolation extends ClientError {}

/** The server refuses, and says why. */
export class ServerError extends ClientError {
  constructor(code, message, retry) {
    super(`${code}: ${message}`);
    this.code = code;
    this.retry = retry;
  }
}

/**
 * The connection was lost and is back: all episodes were cut. Reset the game and begin a new one.
 * With the code "episode_limit" an episode of evaluation was too long: it is not to be played again.
 */
export class Reconnected extends ClientError {
  constructor(cause) {
    super(`reconnected after: ${cause.message}`);
    this.code = cause.code ?? "";
  }
}

/** One connection to a training server. Make it with `Client.connect`. */
export class Client {
  /** What the server said in WELCOME; `settings` follows what the operator changes. */
  session = 0;
  server = "";
  settings = Object.create(null); // a setting may have any name
  episodeLimit = null;

  #url;
  #options;
  #connection = null;
  #coming = null;
  #closed = false;
  #seqs = [];
  #seqAll = 0;
  #pings = 0;
  /** Of the announced episodes, those that have ended, and slots in the middle of one. */
  #played = 0;
  #underWay = new Set();

  /** For `connect`; by itself this makes no connection. */
  constructor(url, options) {
    this.#url = String(url);
    this.#options = {
      rewards: ["reward"], slots: 1, role: "train", episodes: null, evaluates: false,
      realtime: false, masks: false, metrics: [], policy: null, explores: false, token: null, timeoutS: 120, firstWaitS: 0.1, longestWaitS: 5, giveUpS: 60,
      onTrouble: () => {}, WebSocket: globalThis.WebSocket, ...options,
    };
  }

  /** Connect, say HELLO and wait for WELCOME; tries again while the server is away. */
  static async connect(url, options) {
    const self = new Client(url, options);
    await self.#establish(null);
    return self;
  }

  /** Send one frame of a slot and wait for its answer. */
  async act({
    obs, reward = 0, status = RUNNING, expert = null, took = null, slot = 0, legal = null,
    metrics = null,
  }) {
    if (!(Number.isInteger(slot) && slot >= 0 && slot < this.#seqs.length)) {
      throw new RangeError(`slot: expected 0 to ${this.#seqs.length - 1}, got ${slot}`);
    }
    const seq = this.#seqs[slot];
    const frame = { slot, seq, obs, reward, status, expert, took, legal, metrics };
    const got = await this.#exchange(slot, encodeFrame(this.#options, frame));
    const answer = readAction(this.#options.actions, got);
    if (answer === null || answer.seq !== seq) {
      this.#violated(`ACTION for slot ${slot}, seq ${seq}`, got);
    }
    this.#seqs[slot] = seq + 1;
    this.#count(slot, status);
    return answer;
  }

  /** Send one frame of every slot, as rows of arrays, and wait for the answers. */
  async actAll({ obs, rewards, statuses, experts = null, took = null, legal = null, metrics = null }) {
    const seq = this.#seqAll;
    const frames = { seq, obs, rewards, statuses, experts, took, legal, metrics };
    const message = encodeFrames(this.#options, frames);
    const got = await this.#exchange(ALL, message);
    const answers = readActions(got);
    if (answers === null || answers.seq !== seq || answers.actors.length !== this.#seqs.length) {
      this.#violated(`ACTIONS for ${this.#seqs.length} slots, seq ${seq}`, got);
    }
    this.#seqAll = seq + 1;
    statuses.forEach((status, slot) => this.#count(slot, status));
    return answers;
  }

  /** Say that the game is still there, now and then while it is paused. */
  async ping() {
    const nonce = (this.#pings += 1);
    await this.#exchange(`ping ${nonce}`, encodePing(nonce));
  }

  /** Say BYE and close; again has no effect. */
  close({ bye = true } = {}) {
    this.#closed = true;
    if (bye) this.#connection?.send(encodeBye());
    this.#drop(new ConnectionLost("the client was closed"));
  }

  async #exchange(key, message) {
    if (this.#closed) throw new ConnectionLost("the client was closed");
    const connection = this.#connection;
    try {
      if (connection === null) throw new ConnectionLost("the connection was lost");
      return await connection.ask(key, message);
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      return await this.#back(connection, error);
    }
  }

  /** After a loss: connect again, once for all slots, and say so; or say what stands in the way. */
  async #back(connection, cause) {
    if (connection === this.#connection) {
      this.#drop(cause);
      if (this.#closed || !worthARetry(cause)) throw cause;
      if (this.#coming === null) {
        if (cause.code === "episode_limit" && this.#underWay.size > 0) this.#played += 1;
        this.#underWay.clear();
        this.#coming = this.#establish(cause).finally(() => (this.#coming = null));
      }
    } else if (!worthARetry(cause)) {
      throw cause;
    }
    await this.#coming;
    throw new Reconnected(cause);
  }

  #drop(cause) {
    this.#connection?.end(cause);
    this.#connection = null;
  }

  async #establish(lost) {
    const { firstWaitS, longestWaitS, giveUpS, onTrouble } = this.#options;
    const since = performance.now();
    let [problem, limit] = [lost, firstWaitS];
    for (;;) {
      if (problem !== null) {
        // A random part, so that many games do not all come back in the same instant.
        const waitS = Math.min(limit, longestWaitS) * (0.5 + Math.random() / 2);
        limit = Math.min(2 * limit, longestWaitS);
        if ((performance.now() - since) / 1000 + waitS > giveUpS) {
          throw new ConnectionLost(`no understudy server at ${this.#url}: ${problem.message}`);
        }
        onTrouble(problem);
        await new Promise((resolve) => setTimeout(resolve, 1000 * waitS));
        if (this.#closed) throw new ConnectionLost("the client was closed");
      }
      try {
        return await this.#open();
      } catch (error) {
        if (this.#closed || !worthARetry(error)) throw error;
        problem = error;
      }
    }
  }

  async #open() {
    const { timeoutS, slots, WebSocket } = this.#options;
    const connection = new Connection(new WebSocket(this.#url), this.#url, timeoutS, (changed) =>
      Object.assign(this.settings, changed),
    );
    try {
      const got = await connection.ask("welcome", encodeHello(this.#options, this.#played));
      const fields = got[1];
      if (got[0] !== WELCOME || !isMap(fields)) {
        throw new ProtocolViolation(`expected WELCOME, got ${shown(got)}`);
      }
      if (this.#closed) throw new ConnectionLost("the client was closed");
      this.session = fields.session;
      this.server = fields.server;
      this.episodeLimit = fields.episode_limit ?? null;
      Object.assign(this.settings, fields.settings);
    } catch (error) {
      connection.end(error);
      throw error;
    }
    this.#connection = connection;
    this.#seqs = new Array(slots).fill(0);
    this.#seqAll = 0;
  }

  #count(slot, status) {
    if (status === RUNNING) this.#underWay.add(slot);
    else if (this.#underWay.delete(slot)) this.#played += 1;
  }

  #violated(expected, got) {
    const error = new ProtocolViolation(`expected ${expected}, got ${shown(got)}`);
    this.#drop(error);
    throw error;
  }
}

const worthARetry = (error) =>
  error instanceof ConnectionLost || (error instanceof ServerError && error.retry);

/** A WebSocket, and who waits for which message. Once anything went wrong it is of no more use. */
class Connection {
  #socket;
  #timeoutS;
  #waiting = new Map();
  #over = null;

  constructor(socket, url, timeoutS, changed) {
    this.#socket = socket;
    this.#timeoutS = timeoutS;
    socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve) => socket.addEventListener("open", resolve));
    socket.addEventListener("message", ({ data }) => {
      try {
        this.#take(decode(new Uint8Array(data)), changed);
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        this.end(error);
      }
    });
    const gone = (how) => () => this.end(new ConnectionLost(`${url}: ${how}`));
    // A browser says no more of it, so that pages cannot look around in a network.
    socket.addEventListener("error", gone(
      "no connection; is the server there, and may this page connect? The server's log says so",
    ));
    socket.addEventListener("close", ({ code, reason }) =>
      gone(`the server closed the connection (${code}${reason ? ` ${reason}` : ""})`)(),
    );
  }

  /** Send a message, and wait for the one that answers it. */
  ask(key, message) {
    if (this.#over) return Promise.reject(this.#over);
    if (this.#waiting.has(key)) {
      return Promise.reject(new Error(`${key}: expected no frame before the last one's answer`));
    }
    return new Promise((resolve, reject) => {
      const late = () => this.end(new ConnectionLost(`no answer within ${this.#timeoutS} s`));
      const timer = setTimeout(late, 1000 * this.#timeoutS);
      this.#waiting.set(key, { resolve, reject, timer });
      this.send(message);
    });
  }

  send(message) {
    if (this.#socket.readyState === 1) this.#socket.send(message);
    else this.opened.then(() => this.#socket.send(message));
  }

  /** Nothing more comes: those that wait hear why. */
  end(cause) {
    if (this.#over) return;
    this.#over = cause;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(cause);
    }
    this.#waiting.clear();
    this.#socket.close();
  }

  #take(message, changed) {
    const [kind, first] = message;
    if (kind === SETTINGS) {
      if (!isMap(first)) throw new ProtocolViolation(`expected SETTINGS, got ${shown(message)}`);
      changed(first);
    } else if (kind === ERROR) {
      const [, code, text, retry] = message;
      if (typeof code !== "string" || typeof text !== "string" || typeof retry !== "boolean") {
        throw new ProtocolViolation(`expected ERROR, got ${shown(message)}`);
      }
      throw new ServerError(code, text, retry);
    } else {
      const keys = { [WELCOME]: "welcome", [ACTION]: first, [ACTIONS]: ALL, [PONG]: `ping ${first}` };
      const waits = this.#waiting.get(keys[kind]);
      if (!waits) throw new ProtocolViolation(`expected an answer, got ${shown(message)}`);
      this.#waiting.delete(keys[kind]);
      clearTimeout(waits.timer);
      waits.resolve(message);
    }
  }
}

// The messages as bytes, each as it travels in a message of a WebSocket.

/** `played`: of the announced episodes, those that have ended already. */
export function encodeHello(options, played = 0) {
  const { client, game, observation, actions, rewards, slots, role } = options;
  const heads = actions.map(([kind, name, ...limits]) =>
    kind === "discrete"
      ? [kind, name, ...limits]
      : [kind, name, new Float(limits[0]), new Float(limits[1]), limits[2]],
  );
  const shown = isShort(observation) ? observation : observation.map(described);
  const fields = { protocol: 1, client, game, observation: shown, actions: heads, rewards };
  Object.assign(fields, { slots, role });
  if (options.token !== null && options.token !== undefined) fields.token = options.token;
  if (options.realtime) fields.realtime = true;
  if (role !== "train" && options.episodes > played) fields.episodes = options.episodes - played;
  if (options.evaluates) fields.evaluates = true;
  if (options.masks) fields.masks = true;
  if (options.metrics?.length) fields.metrics = options.metrics;
  if (options.policy !== null && options.policy !== undefined) fields.policy = options.policy;
  if (options.explores) fields.explores = true;
  return encode([HELLO, fields]);
}

export function encodeFrame(options, { slot, seq, obs, reward, status, expert, took, legal, metrics }) {
  const earned = Array.isArray(reward) ? reward.map(float) : float(reward);
  const instead = took && [actionOf(options.actions, took[0]), took[1]];
  const advice = actionOf(options.actions, expert);
  const data = tensor(options.observation, obs);
  const later = behind(masks(options.actions, legal, 1), toldNumbers(options.metrics, metrics));
  return encode([FRAME, slot, seq, data, earned, status, advice, instead, ...later]);
}

export function encodeFrames(options, { seq, obs, rewards, statuses, experts, took, legal, metrics }) {
  const rows = experts && floats(experts);
  const instead = took && [floats(took[0]), bytes(took[1])];
  const data = tensor(options.observation, obs, options.slots);
  const told = metrics && floats(metrics);
  const later = behind(masks(options.actions, legal, options.slots), told);
  return encode([FRAMES, seq, data, floats(rewards), bytes(statuses), rows, instead, ...later]);
}

/** What came later behind a mask: sent as far as there is any. */
const behind = (mask, told) => (told ? [mask[0] ?? null, told] : mask);

/** The numbers of a frame in the order of their names; a list is taken as it is. */
function toldNumbers(names, metrics) {
  if (metrics === null || metrics === undefined) return null;
  if (Array.isArray(metrics)) return metrics.map((value) => (value === null ? null : float(value)));
  const unknown = Object.keys(metrics).filter((name) => !names.includes(name));
  if (unknown.length) {
    throw new RangeError(`metrics: expected names of those declared, got ${unknown.join(", ")}`);
  }
  return names.map((name) => (there(metrics[name]) ? float(metrics[name]) : null));
}

const there = (value) => value !== null && value !== undefined;

/** The bits of so many masks, each of booleans for all choices; bytes are taken as they are. */
function masks(heads, legal, slots) {
  if (legal === null || legal === undefined) return [];
  if (legal instanceof Uint8Array) return [legal];
  const choices = heads.reduce((sum, [kind, , n]) => sum + (kind === "discrete" ? n : 0), 0);
  if (legal.length !== slots * choices) {
    throw new RangeError(`legal: expected ${slots} x ${choices} booleans, got ${legal.length}`);
  }
  const each = Math.ceil(choices / 8);
  const out = new Uint8Array(slots * each);
  legal.forEach((allowed, i) => {
    const [slot, choice] = [Math.floor(i / choices), i % choices];
    if (allowed) out[slot * each + (choice >> 3)] |= 1 << (choice & 7);
  });
  return [out];
}

export const encodePing = (nonce) => encode([PING, nonce]);

export const encodeBye = () => encode([BYE]);

/** An ACTION that was decoded, as `act` returns it; null where it is none. */
export function readAction(heads, got) {
  const [kind, slot, seq, action, actor, policyVersion, explored] = got;
  const whole = [slot, seq, actor, policyVersion].every(Number.isInteger);
  if (kind !== ACTION || !whole || typeof explored !== "boolean") return null;
  if (action !== null && !(Array.isArray(action) && action.length === heads.length)) return null;
  return { slot, seq, action, actor, policyVersion, explored };
}

/** An ACTIONS that was decoded, as `actAll` returns it; null where it is none. */
export function readActions(got) {
  const [kind, seq, rows, actors, policyVersion, explored] = got;
  const whole = [seq, policyVersion].every(Number.isInteger);
  const tensors = [rows, actors, explored].every((each) => each instanceof Uint8Array);
  if (kind !== ACTIONS || !whole || !tensors || rows.length % 4) return null;
  const view = new DataView(rows.buffer, rows.byteOffset, rows.length);
  const actions = Float32Array.from({ length: rows.length / 4 }, (_, i) =>
    view.getFloat32(4 * i, true),
  );
  return { seq, actions, actors, policyVersion, explored };
}

const SIZES = { float32: 4, uint8: 1, float16: 2, int32: 4, int64: 8, bool: 1 };

/** One observation as [dtype, shape], not a list of several. */
const isShort = (observation) => typeof observation[0] === "string";

/** One of several observations as HELLO says it. */
function described({ dtype, shape, name, kind, low, high, n, channels }) {
  const bound = (value) => (value === undefined ? value : new Float(value));
  const fields = { dtype, shape, name, kind, low: bound(low), high: bound(high), n, channels };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** What is shown, in so many slots, in the size that HELLO says. Bytes are taken as they are. */
function tensor(observation, obs, slots = 1) {
  const all = isShort(observation)
    ? [{ dtype: observation[0], shape: observation[1] }]
    : observation;
  const parts = all.map(({ dtype, shape, name }) => ({
    dtype,
    name,
    size: shape.reduce((product, side) => product * side, SIZES[dtype]),
    words: `${dtype}, ${shape.join(" x ")}`,
  }));
  const whole = parts.reduce((sum, part) => sum + part.size, 0);
  if (isShort(observation) || obs instanceof Uint8Array) {
    const data = numbers(parts[0].dtype, obs);
    if (data.length === slots * whole) return data;
    const words = parts.map((part) => part.words).join("; ");
    throw new RangeError(
      `obs: expected ${slots * whole} bytes (${words}), got ${data.length}`,
    );
  }
  const data = new Uint8Array(slots * whole);
  let start = 0;
  for (const { dtype, name, size, words } of parts) {
    const part = numbers(dtype, obs[name] ?? []);
    if (part.length !== slots * size) {
      throw new RangeError(
        `obs ${name}: expected ${slots * size} bytes (${words}), got ${part.length}`,
      );
    }
    for (let slot = 0; slot < slots; slot += 1) {
      data.set(part.subarray(slot * size, (slot + 1) * size), slot * whole + start);
    }
    start += size;
  }
  return data;
}

/** Numbers as little-endian bytes of a dtype; bytes are taken as they are. */
function numbers(dtype, values) {
  if (values instanceof Uint8Array) return values;
  if (dtype === "float32") return floats(values);
  if (dtype === "uint8") return Uint8Array.from(values);
  if (dtype === "bool") return Uint8Array.from(values, Number);
  if (!dtype.startsWith("int")) throw new RangeError(`obs: expected the bytes of ${dtype}, got an array of numbers`);
  const size = SIZES[dtype];
  const view = new DataView(new ArrayBuffer(size * values.length));
  Array.from(values).forEach((value, i) => {
    if (size === 4) view.setInt32(4 * i, Number(value), true);
    else view.setBigInt64(8 * i, BigInt(value), true);
  });
  return new Uint8Array(view.buffer);
}

const bytes = (values) => (values instanceof Uint8Array ? values : Uint8Array.from(values));

/** As float32, little-endian; bytes are taken as they are. */
function floats(values) {
  if (values instanceof Uint8Array) return values;
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return new Uint8Array(view.buffer);
}

const float = (value) => new Float(value);

/** An action in the form of its heads: whole numbers for choices, floats for the rest. */
function actionOf(heads, action) {
  if (action === null || action === undefined) return null;
  if (action.length !== heads.length) {
    throw new RangeError(`action: expected ${heads.length} parts, got ${action.length}`);
  }
  return heads.map(([kind, name, n], i) => {
    const part = action[i];
    if (kind === "discrete") {
      if (Number.isInteger(part) && part >= 0 && part < n) return part;
      throw new RangeError(`${name}: expected a choice from 0 to ${n - 1}, got ${part}`);
    }
    return Array.isArray(part) ? part.map(float) : float(part);
  });
}

const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function shown(value) {
  const text = JSON.stringify(value, (_, each) => (typeof each === "bigint" ? `${each}` : each));
  return text.slice(0, 300);
}

// msgpack: what these messages need, and nothing else.

/** A number that is written as a float, whole or not. */
class Float {
  constructor(value) {
    if (!Number.isFinite(value)) throw new RangeError(`expected a finite number, got ${value}`);
    this.value = value;
  }
}

const UTF8 = new TextEncoder();
const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A value as msgpack. Numbers without a fraction are whole ones. */
export function encode(value) {
  const parts = [];
  let size = 0;
  const put = (data) => {
    parts.push(data);
    size += data.length;
  };
  const number = (tag, length, set, value) => {
    const view = new DataView(new ArrayBuffer(1 + length));
    view.setUint8(0, tag);
    view[set](1, value);
    put(new Uint8Array(view.buffer));
  };
  const whole = (n) => {
    if (n >= 0) {
      if (n < 0x80) put([n]);
      else if (n <= 0xff) put([0xcc, n]);
      else if (n <= 0xffff) number(0xcd, 2, "setUint16", n);
      else if (n <= 0xffffffff) number(0xce, 4, "setUint32", n);
      else large(BigInt(n));
    } else if (n >= -32) put([0x100 + Number(n)]);
    else if (n >= -0x80) number(0xd0, 1, "setInt8", n);
    else if (n >= -0x8000) number(0xd1, 2, "setInt16", n);
    else if (n >= -0x80000000) number(0xd2, 4, "setInt32", n);
    else large(BigInt(n));
  };
  const large = (n) =>
    n >= 0 ? number(0xcf, 8, "setBigUint64", n) : number(0xd3, 8, "setBigInt64", n);
  // The size of a str, bin, array or map: in the tag where it is small, else behind it.
  const sized = (n, small, limit, tag8, tag16) => {
    if (n < limit) put([small | n]);
    else if (tag8 && n <= 0xff) put([tag8, n]);
    else if (n <= 0xffff) number(tag16, 2, "setUint16", n);
    else number(tag16 + 1, 4, "setUint32", n);
  };
  const write = (value) => {
    if (value === null || value === undefined) put([0xc0]);
    else if (typeof value === "boolean") put([value ? 0xc3 : 0xc2]);
    else if (value instanceof Float) number(0xcb, 8, "setFloat64", value.value);
    else if (typeof value === "bigint") large(value);
    else if (Number.isSafeInteger(value)) whole(value);
    else if (typeof value === "number") number(0xcb, 8, "setFloat64", value);
    else if (typeof value === "string") {
      const text = UTF8.encode(value);
      sized(text.length, 0xa0, 32, 0xd9, 0xda);
      put(text);
    } else if (value instanceof Uint8Array) {
      sized(value.length, 0, 0, 0xc4, 0xc5);
      put(value);
    } else if (Array.isArray(value)) {
      sized(value.length, 0x90, 16, 0, 0xdc);
      value.forEach(write);
    } else {
      const entries = Object.entries(value);
      sized(entries.length, 0x80, 16, 0, 0xde);
      for (const [key, each] of entries) {
        write(key);
        write(each);
      }
    }
  };
  write(value);
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/**
 * The message in these bytes, an array that begins with its type. Whole numbers that a Number does
 * not hold are BigInts. Throws ProtocolViolation for what is no message.
 */
export function decode(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let at = 0;
  let depth = 0;
  const wrong = (text) => {
    throw new ProtocolViolation(`expected a message, got ${text}`);
  };
  // Each element takes a byte at least, so that a wrong size is seen before memory is taken for it.
  const there = (n) => {
    if (data.length - at < n) wrong(`its end where ${n} bytes more were announced`);
    at += n;
    return at - n;
  };
  const big = (value) => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
  const unsigned = (bytes) =>
    bytes === 8
      ? big(view.getBigUint64(there(8)))
      : view[`getUint${8 * bytes}`](there(bytes));
  const bin = (n) => data.slice(there(n), at);
  const text = (n) => {
    try {
      return TEXT.decode(bin(n));
    } catch (error) {
      if (error instanceof ProtocolViolation) throw error;
      return wrong("text that is not UTF-8");
    }
  };
  const nested = (n, each) => {
    there(n);
    at -= n;
    if ((depth += 1) > DEEPEST) wrong(`more than ${DEEPEST} values in each other`);
    for (let i = 0; i < n; i += 1) each();
    depth -= 1;
  };
  const array = (n) => {
    const items = [];
    nested(n, () => items.push(read()));
    return items;
  };
  const map = (n) => {
    const entries = [];
    nested(n, () => entries.push([read(), read()]));
    return Object.fromEntries(entries); // no key can reach a prototype
  };
  const ext = (n) => {
    there(1); // nothing of this protocol has one; settings and nonces may
    return bin(n);
  };
  const read = () => {
    const tag = unsigned(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 0x0f);
    if (tag < 0xa0) return array(tag & 0x0f);
    if (tag < 0xc0) return text(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    if (tag === 0xc0) return null;
    if (tag === 0xc2 || tag === 0xc3) return tag === 0xc3;
    if (tag >= 0xc4 && tag <= 0xc6) return bin(unsigned(1 << (tag - 0xc4)));
    if (tag >= 0xc7 && tag <= 0xc9) return ext(unsigned(1 << (tag - 0xc7)));
    if (tag === 0xca) return view.getFloat32(there(4));
    if (tag === 0xcb) return view.getFloat64(there(8));
    if (tag >= 0xcc && tag <= 0xcf) return unsigned(1 << (tag - 0xcc));
    if (tag === 0xd0) return view.getInt8(there(1));
    if (tag === 0xd1) return view.getInt16(there(2));
    if (tag === 0xd2) return view.getInt32(there(4));
    if (tag === 0xd3) return big(view.getBigInt64(there(8)));
    if (tag >= 0xd4 && tag <= 0xd8) return ext(1 << (tag - 0xd4));
    if (tag >= 0xd9 && tag <= 0xdb) return text(unsigned(1 << (tag - 0xd9)));
    if (tag === 0xdc || tag === 0xdd) return array(unsigned(2 << (tag - 0xdc)));
    if (tag === 0xde || tag === 0xdf) return map(unsigned(2 << (tag - 0xde)));
    return wrong("the byte 0xc1");
  };
  const value = read();
  if (at !== data.length) wrong("more than one value");
  if (!Array.isArray(value) || !Number.isInteger(value[0])) wrong(shown(value));
  return value;
}
