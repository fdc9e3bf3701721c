// The page's end of the way to the worker. It remembers what the worker must know, and says it again to a new one.

import { HalcyonError } from "./errors";
import type { Preloaded, Settings, ToPage, ToWorker } from "./protocol";

export interface Port {
  postMessage(message: ToWorker): void;
  onmessage: ((event: MessageEvent<ToPage>) => void) | null;
  /** In Node it resolves when local data can be opened again. */
  close(): void | Promise<void>;
}

export interface Files {
  readonly worker: URL;
  readonly wasm: URL;
}

/** How the engine's worker is reached, and what the first word to it is. */
export interface Way {
  connect(settings: Settings): Port;
  readonly wasm: string;
}

/** By a worker of a browser's. */
export function workerWay(files: Files, wanted: "auto" | "shared" | "dedicated"): Way {
  const kind = workerKind(wanted);
  const options = (settings: Settings) =>
    ({ type: "module", name: `halcyon:${settings.name}:${settings.tenant}` }) as const;
  const connect = (settings: Settings): Port => {
    if (kind === "shared") {
      const worker = new SharedWorker(files.worker, options(settings));
      worker.port.start();
      return worker.port;
    }
    const worker = new Worker(files.worker, options(settings));
    return Object.assign(worker, {
      close: () => {
        worker.terminate();
      },
    });
  };
  return { connect, wasm: files.wasm.href };
}

/** How often the worker is asked whether it is there. */
const PING_MS = 2_000;
/** A worker that is silent for so long is gone, whatever it went of: the page makes another one. */
const SILENCE_MS = 10_000;

function workerKind(wanted: "auto" | "shared" | "dedicated"): "shared" | "dedicated" {
  if (wanted !== "auto") return wanted;
  if (typeof SharedWorker !== "undefined") return "shared";
  if (typeof Worker === "undefined") {
    throw new HalcyonError(
      "NO_WORKER",
      'this environment has no Web Workers; in Node, import from "@halcyon/client/node"',
    );
  }
  return "dedicated";
}

type Enter = Extract<ToWorker, { readonly type: "enter" }>;

export class Link {
  readonly #connect: () => Port;
  readonly #listener: (message: ToPage) => void;
  readonly #pings: ReturnType<typeof setInterval>;
  #port: Port;
  #hello: ToWorker;
  /** Since when the worker owes a sign of life. */
  #askedAt: number | undefined;
  readonly #subscriptions = new Map<number, string>();
  /** Writes that are not said to be on disk yet. */
  readonly #unwritten = new Map<number, string>();
  /** The places of writes that are on disk, and of which no node has been heard. */
  readonly #expected = new Map<number, number>();
  /** What is to be cleared, by the clear's number: the writes before it. */
  readonly #clears = new Map<number, readonly number[]>();
  readonly #rooms = new Map<string, Enter>();
  #isAllowed = true;

  constructor(
    way: Way,
    settings: Settings,
    preloaded: Preloaded | undefined,
    listener: (message: ToPage) => void,
  ) {
    this.#connect = () => way.connect(settings);
    this.#listener = listener;
    this.#hello = { type: "hello", settings, wasm: way.wasm, preloaded };
    this.#port = this.#open();
    this.#port.postMessage(this.#hello);
    this.#pings = setInterval(() => {
      this.#look();
    }, PING_MS);
    // A tab that goes tells nobody otherwise, and its queries would be followed for ever.
    globalThis.addEventListener?.("pagehide", (event) => {
      if (!(event as PageTransitionEvent).persisted) this.#port.postMessage({ type: "bye" });
    });
  }

  #open(): Port {
    const port = this.#connect();
    port.onmessage = ({ data }) => {
      this.#askedAt = undefined;
      this.#on(data);
    };
    return port;
  }

  #on(message: ToPage): void {
    switch (message.type) {
      case "restarted":
        if (message.isCleared) {
          this.#forgetCleared([...this.#unwritten.keys(), ...this.#expected.keys()]);
          this.#clears.clear();
        }
        this.#sayAgain();
        break;
      case "cleared":
        this.#clears.delete(message.id);
        if (!message.error) this.#forgetCleared(message.writes);
        break;
      case "written":
        if (!message.error && this.#unwritten.delete(message.id))
          this.#expected.set(message.id, message.place);
        break;
      case "settled":
        // It comes behind the disk's word.
        this.#unwritten.delete(message.id);
        this.#expected.delete(message.id);
        break;
      case "network":
        this.#isAllowed = message.allowed;
        break;
    }
    this.#listener(message);
  }

  #forgetCleared(writes: readonly number[]): void {
    for (const id of writes) {
      this.#unwritten.delete(id);
      this.#expected.delete(id);
    }
    if (this.#hello.type === "hello") this.#hello = { ...this.#hello, preloaded: undefined };
  }

  /** Asks for a sign of life; makes another worker where none came. */
  #look(): void {
    if (this.#askedAt !== undefined && Date.now() - this.#askedAt > SILENCE_MS) {
      this.#askedAt = undefined;
      this.#port.onmessage = null;
      // One that was only slow knows this page twice otherwise.
      this.#port.postMessage({ type: "bye" });
      void this.#port.close();
      this.#port = this.#open();
      this.#sayAgain();
    }
    this.#askedAt ??= Date.now();
    this.#port.postMessage({ type: "ping" });
  }

  /** Says goodbye. Nothing more is heard. */
  async close(): Promise<void> {
    clearInterval(this.#pings);
    this.#port.onmessage = null;
    this.#port.postMessage({ type: "bye" });
    await this.#port.close();
  }

  send(message: ToWorker): void {
    this.#remember(message);
    this.#port.postMessage(message);
  }

  #remember(message: ToWorker): void {
    switch (message.type) {
      case "subscribe":
        this.#subscriptions.set(message.id, message.query);
        break;
      case "unsubscribe":
        this.#subscriptions.delete(message.id);
        break;
      case "write":
        this.#unwritten.set(message.id, message.changes);
        break;
      case "clear":
        this.#clears.set(message.id, message.writes);
        break;
      case "network":
        this.#isAllowed = message.allowed;
        break;
      case "enter":
        this.#rooms.set(message.room, message);
        break;
      case "leave":
        this.#rooms.delete(message.room);
        break;
      case "presence": {
        const enter = this.#rooms.get(message.room);
        if (enter) this.#rooms.set(message.room, { ...enter, presence: message.presence });
        break;
      }
      case "auth":
        if (this.#hello.type === "hello") {
          const settings = { ...this.#hello.settings, key: message.key, user: message.user };
          this.#hello = { ...this.#hello, settings };
        }
        break;
    }
  }

  /** Removes all local data. What is written from here on is not cleared. */
  clear(id: number): void {
    this.send({ type: "clear", id, writes: [...this.#unwritten.keys(), ...this.#expected.keys()] });
  }

  #sayAgain(): void {
    this.#port.postMessage(this.#hello);
    if (!this.#isAllowed) this.#port.postMessage({ type: "network", allowed: false });
    for (const [id, writes] of this.#clears) this.#port.postMessage({ type: "clear", id, writes });
    // Were they on the disk, they would be cleared with it.
    const ending = new Set([...this.#clears.values()].flat());
    for (const [id, query] of this.#subscriptions) this.#port.postMessage({ type: "subscribe", id, query });
    for (const [id, place] of this.#expected)
      if (!ending.has(id)) this.#port.postMessage({ type: "expect", id, place });
    for (const [id, changes] of this.#unwritten)
      if (!ending.has(id)) this.#port.postMessage({ type: "write", id, changes });
    for (const enter of this.#rooms.values()) this.#port.postMessage(enter);
  }
}
