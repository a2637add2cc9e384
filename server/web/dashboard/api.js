// Requests to the server, all of this origin.

const TOKEN = "understudy.control-token";
const PATIENCE_MS = 10_000;
const CONTROL_PATIENCE_MS = 90_000; // a checkpoint may take its time

/** The server answered with an error. */
export class ServerError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  keep: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

async function answerOf(response) {
  let body;
  try {
    body = await response.json();
  } catch {
    throw new ServerError(response.status, `expected JSON from the server, got status ${response.status}`);
  }
  if (!response.ok) {
    throw new ServerError(response.status, body.error ?? `the server answered with status ${response.status}`);
  }
  return body;
}

const get = async (path) => answerOf(await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) }));

export const state = () => get("/api/state");
export const errors = () => get("/api/errors");
export const games = () => get("/api/games");
export const history = (points) => get(`/api/history?points=${points}`);

/** What a header may hold: the token's UTF-8 bytes, one character each. */
const inHeader = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** Have the server do something. Errors: ServerError, TypeError where it cannot be reached. */
export async function control(request, bearer) {
  return answerOf(
    await fetch("/api/control", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${inHeader(bearer)}` },
      body: JSON.stringify(request),
      signal: AbortSignal.timeout(CONTROL_PATIENCE_MS),
    }),
  );
}
