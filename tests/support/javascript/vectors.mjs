// What the JavaScript client makes of the golden vectors: a line of JSON on stdin for each, and a
// line on stdout for its answer: the hex of a message that was encoded, or of what was decoded.
import { createInterface } from "node:readline";
import {
  ProtocolViolation, decode, encode, encodeBye, encodeFrame, encodeFrames, encodeHello, encodePing,
  readAction, readActions,
} from "../../../clients/javascript/understudy.js";

const hex = (data) => Buffer.from(data).toString("hex");

// {"bin": hex} is a tensor.
const revived = (_, value) =>
  value !== null && typeof value === "object" && typeof value.bin === "string"
    ? new Uint8Array(Buffer.from(value.bin, "hex"))
    : value;

const pong = (value) => hex(encode(value));

function read(game, bytes) {
  const got = decode(new Uint8Array(Buffer.from(bytes, "hex")));
  if (got[0] === 12) {
    const one = readAction(game.actions, got);
    if (one === null) throw new ProtocolViolation("expected ACTION");
    return pong([12, one.slot, one.seq, one.action, one.actor, one.policyVersion, one.explored]);
  }
  if (got[0] === 13) {
    const all = readActions(got);
    if (all === null) throw new ProtocolViolation("expected ACTIONS");
    const rows = new Uint8Array(all.actions.buffer);
    return pong([13, all.seq, rows, all.actors, all.policyVersion, all.explored]);
  }
  return pong(got);
}

function answer({ what, game, message, bytes }) {
  switch (what) {
    case "hello": return hex(encodeHello(message));
    case "frame": return hex(encodeFrame(game, message));
    case "frames": return hex(encodeFrames(game, message));
    case "ping": return hex(encodePing(message));
    case "bye": return hex(encodeBye());
    case "read": return read(game, bytes);
    default: return `unknown command ${what}`;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(answer(JSON.parse(line, revived)));
  } catch (error) {
    if (!(error instanceof ProtocolViolation || error instanceof RangeError)) throw error;
    console.log(`${error.constructor.name} ${error.message.replaceAll("\n", " ")}`);
  }
}
