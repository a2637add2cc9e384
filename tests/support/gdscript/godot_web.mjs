// Runs a pack in a web build of Godot 4, without a browser: node godot_web.mjs FOLDER PACK
// FOLDER has index.js and index.wasm. What the game prints goes to stdout. A web build has no sockets:
// the object `bridge` lends the game one.

import { readFileSync } from "node:fs";
import vm from "node:vm";
import { MessageChannel, receiveMessageOnPort, Worker } from "node:worker_threads";

const [folder, pack] = process.argv.slice(2);

// As much of a browser as a game without screen and sound asks for.
const nothing = () => {};
const element = () => ({
  style: {}, classList: { add: nothing, remove: nothing }, addEventListener: nothing,
  removeEventListener: nothing, appendChild: nothing, remove: nothing, focus: nothing, setAttribute: nothing,
  getContext: () => null, getBoundingClientRect: () => ({ x: 0, y: 0, top: 0, left: 0, width: 1, height: 1 }),
  width: 1, height: 1, clientWidth: 1, clientHeight: 1, id: "canvas", dispatchEvent: nothing,
});
const canvas = element();
const listeners = { addEventListener: nothing, removeEventListener: nothing };
const context = {
  console, WebAssembly, TextDecoder, TextEncoder, URL, setTimeout, clearTimeout, setInterval, clearInterval,
  performance, queueMicrotask, crypto: globalThis.crypto, Uint8Array, Int8Array, Uint16Array, Int16Array,
  Uint32Array, Int32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array, ArrayBuffer, DataView,
  fetch: () => Promise.reject(new Error("no network")),
  requestAnimationFrame: (step) => setTimeout(() => step(performance.now()), 1),
  cancelAnimationFrame: clearTimeout,
  navigator: { userAgent: "Chrome/150.0", platform: "none", language: "en", languages: ["en"],
               hardwareConcurrency: 1, getGamepads: () => [] },
  location: { href: "http://localhost/", pathname: "/", protocol: "http:", search: "", hash: "" },
  screen: { width: 1, height: 1, orientation: listeners },
  document: { ...listeners, createElement: element, querySelector: () => canvas, getElementById: () => canvas,
              getElementsByTagName: () => [element()], body: element(), head: element(), title: "",
              documentElement: element(), activeElement: canvas, hasFocus: () => true },
  indexedDB: undefined, ...listeners, innerWidth: 1, innerHeight: 1, devicePixelRatio: 1, alert: console.error,
  matchMedia: () => ({ matches: false, ...listeners }),
};

// The game blocks while it waits, so the socket lives in a thread of its own.
const sockets = `
  const { workerData: port } = require("node:worker_threads");
  const net = require("node:net");
  let socket, number;
  port.on("message", (m) => {
    if (m.connect) {
      number = m.number;
      const mine = number;
      const say = (what) => port.postMessage({ number: mine, ...what });
      socket = net.connect(m.connect.port, m.connect.host);
      socket.setNoDelay(true);
      socket.on("connect", () => say({ status: 2 }));
      socket.on("data", (data) => say({ data }));
      socket.on("error", () => say({ status: 3 }));
      socket.on("close", () => say({ status: 0 }));
    } else if (m.put) socket.write(m.put);
    else if (m.close) socket.end();
    else process.exit();
  });`;
const { port1, port2 } = new MessageChannel();
const worker = new Worker(sockets, { eval: true, workerData: port2, transferList: [port2] });
await new Promise((ready) => worker.once("online", ready));
let status = 0; // as StreamPeerTCP has them: 0 none, 1 connecting, 2 connected, 3 error
let number = 0;
let inbox = Buffer.alloc(0);
context.bridge = {
  open(host, port) {
    status = 1;
    inbox = Buffer.alloc(0);
    port1.postMessage({ connect: { host, port }, number: ++number });
  },
  poll() {
    let got;
    while ((got = receiveMessageOnPort(port1)) !== undefined) {
      if (got.message.number !== number) continue;
      if (got.message.data) inbox = Buffer.concat([inbox, got.message.data]);
      else status = got.message.status;
    }
  },
  status: () => status,
  available: () => inbox.length,
  take(count) {
    const taken = inbox.subarray(0, count).toString("hex");
    inbox = inbox.subarray(count);
    return taken;
  },
  put(hex) {
    this.poll();
    if (status !== 2) return 1;
    port1.postMessage({ put: Buffer.from(hex, "hex") });
    return 0;
  },
  close() {
    status = 0;
    port1.postMessage({ close: true });
  },
};

context.window = context.globalThis = context.self = context;
vm.createContext(context);
vm.runInContext(readFileSync(`${folder}/index.js`, "utf8"), context);
const Godot = vm.runInContext("Godot", context);

const module = await Godot({
  wasmBinary: readFileSync(`${folder}/index.wasm`),
  thisProgram: "godot",
  canvas,
  print: (...text) => process.stdout.write(`${text.join(" ")}\n`),
  printErr: (...text) => process.stderr.write(`${text.join(" ")}\n`),
  locateFile: (name) => `${folder}/${name}`,
});
await module.initFS([]);
module.copyToFS("/game.pck", readFileSync(pack));
module.initConfig({
  canvas, locale: "en", canvasResizePolicy: 0, virtualKeyboard: false, persistentDrops: false,
  focusCanvas: false, onExecute: nothing, onExit: (code) => {
    process.exitCode = code;
    port1.postMessage({}); // the thread ends when what it has is written
  },
});
module.callMain(["--headless", "--main-pack", "/game.pck", "--quit-after", "10"]);
