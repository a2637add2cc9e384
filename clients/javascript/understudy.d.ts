/** Types of understudy.js. */

export declare const RUNNING: 0;
export declare const TERMINATED: 1;
export declare const TRUNCATED: 2;

export declare const NOBODY: 0;
export declare const DQN: 1;
export declare const EXPERT: 2;

export type Status = 0 | 1 | 2;
export type Actor = 0 | 1 | 2;
export type Role = "train" | "eval" | "eval_expert" | "play";

/** ["discrete", name, n] or ["continuous", name, low, high, size]. */
export type Head =
  | readonly ["discrete", string, number]
  | readonly ["continuous", string, number, number, number];

/** One part for each head: a choice, a number, or several numbers. */
export type Part = number | readonly number[];
export type Action = readonly Part[];

/** What was really done instead of the previous answer, and by whom. */
export type Took = readonly [Action, 1 | 2];

export declare function discrete(name: string, n: number): Head;
export declare function continuous(name: string, low: number, high: number, size?: number): Head;

export type Dtype = "float32" | "uint8" | "float16" | "int32" | "int64" | "bool";

/** One of several observations: protocol/SPEC.md, Observations. */
export interface Observation {
  name: string;
  dtype: Dtype;
  /** 1 to 4 sides. */
  shape: readonly number[];
  kind?: "picture" | "numbers" | "choice" | "choices";
  /** The range of all its elements; both or neither. */
  low?: number;
  high?: number;
  /** Choices of every element, or of each. */
  n?: number | readonly number[];
  /** Sides of a picture that are no height and no width. */
  channels?: readonly number[];
}

export interface Options {
  /** Name and version of your program, for the server's log. */
  client: string;
  game: string;
  /** dtype and shape, of 1 to 4 sides; or several observations, each with a name. */
  observation: readonly [Dtype, readonly number[]] | readonly Observation[];
  actions: readonly Head[];
  /** Names of the reward components; ["reward"]. */
  rewards?: readonly string[];
  /** Games on this connection; 1. */
  slots?: number;
  role?: Role;
  /**
   * With the role "play", who plays: null for the newest network, "best", a checkpoint's number of
   * updates, or "recent:5" for one of the newest five, drawn in each episode.
   */
  policy?: string | null;
  /** With the role "play": it explores as in training. */
  explores?: boolean;
  /** With the roles "eval" and "eval_expert": episodes that this connection will play. */
  episodes?: number | null;
  /** This program evaluates where `settings["understudy.evaluate"]` asks for it. */
  evaluates?: boolean;
  /** The game goes on by itself (a person plays it) and never waits for the trainer. */
  realtime?: boolean;
  /** The frames say in `legal` which choices are legal. */
  masks?: boolean;
  /** Names of numbers that the frames tell beside the rewards, for people to look at. */
  metrics?: readonly string[];
  /** The server's token, where it asks for one. */
  token?: string | null;
  /** How long to wait for WELCOME and each answer, seconds; 120. */
  timeoutS?: number;
  /** Waits between attempts to connect, seconds: doubled from the first to the longest; 0.1 and 5. */
  firstWaitS?: number;
  longestWaitS?: number;
  /** After so many seconds without a server it gives up; 60. */
  giveUpS?: number;
  /** Called before each further attempt with what went wrong. */
  onTrouble?: (problem: ClientError) => void;
  /** The class to connect with, where there is no global one. */
  WebSocket?: new (url: string) => WebSocket;
}

export interface Frame {
  /** Float32Array or numbers, in the size of the shape; Uint8Array for uint8. */
  obs: Float32Array | Uint8Array | readonly number[];
  /** What the slot's previous action earned; an array where there are several components. */
  reward?: number | readonly number[];
  status?: Status;
  /** What your own expert recommends now. */
  expert?: Action | null;
  took?: Took | null;
  slot?: number;
  /**
   * In a game with `masks`: whether each choice of each discrete head is legal, one head behind the
   * other; null says that all are.
   */
  legal?: readonly boolean[] | null;
  /** The numbers declared in `metrics`, by name, as they are now. */
  metrics?: Readonly<Record<string, number | null>> | null;
}

export interface Answer {
  slot: number;
  seq: number;
  /** What to do now; null where the frame's status was not RUNNING. */
  action: Part[] | null;
  actor: Actor;
  policyVersion: number;
  explored: boolean;
}

/** One frame of every slot: rows behind each other. */
export interface Frames {
  obs: Float32Array | Uint8Array | readonly number[];
  rewards: Float32Array | readonly number[];
  statuses: Uint8Array | readonly number[];
  /** Action rows; NaN in a row's first column for none. */
  experts?: Float32Array | null;
  took?: readonly [Float32Array, Uint8Array] | null;
  /** As in Frame, of all slots one behind the other. */
  legal?: readonly boolean[] | null;
  /** slots x names, NaN for none. */
  metrics?: Float32Array | readonly number[] | null;
}

export interface Answers {
  seq: number;
  /** Action rows; NaN in slots whose status was not RUNNING. */
  actions: Float32Array;
  actors: Uint8Array;
  policyVersion: number;
  explored: Uint8Array;
}

export declare class ClientError extends Error {}
export declare class ConnectionLost extends ClientError {}
export declare class ProtocolViolation extends ClientError {}
export declare class ServerError extends ClientError {
  readonly code: string;
  readonly retry: boolean;
}
export declare class Reconnected extends ClientError {
  /** Of the error that ended the connection, or empty. */
  readonly code: string;
}

export declare class Client {
  readonly session: number;
  readonly server: string;
  /** What the operator wants of the game; follows what is changed while it plays. */
  readonly settings: Record<string, unknown>;
  /** Frames and seconds that an episode of evaluation may take, where the server says so. */
  readonly episodeLimit: [number, number] | null;

  /** Errors: ServerError, ConnectionLost, ProtocolViolation. */
  static connect(url: string | URL, options: Options): Promise<Client>;
  /**
   * Errors: Reconnected, ServerError, ConnectionLost, ProtocolViolation; RangeError for what no
   * server would take, with nothing sent.
   */
  act(frame: Frame): Promise<Answer>;
  /** A connection uses `act` or `actAll`, never both. Errors: as `act`. */
  actAll(frames: Frames): Promise<Answers>;
  ping(): Promise<void>;
  close(options?: { bye?: boolean }): void;
}
