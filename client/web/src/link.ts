// The page's end of the way to the worker. It remembers what the worker must know, and says it again to a new one.

import { HalcyonError } from "./errors";
import type { Settings, ToPage, ToWorker } from "./protocol";

interface Port {
  postMessage(message: ToWorker): void;
  onmessage: ((event: MessageEvent<ToPage>) => void) | null;
}

export interface Files {
  readonly worker: URL;
  readonly wasm: URL;
}

function connect(files: Files, kind: "shared" | "dedicated", name: string): Port {
  if (kind === "shared") {
    const worker = new SharedWorker(files.worker, { type: "module", name: `halcyon:${name}` });
    worker.port.start();
    return worker.port;
  }
  return new Worker(files.worker, { type: "module", name: `halcyon:${name}` });
}

export function workerKind(wanted: "auto" | "shared" | "dedicated"): "shared" | "dedicated" {
  if (wanted !== "auto") return wanted;
  if (typeof SharedWorker !== "undefined") return "shared";
  if (typeof Worker === "undefined") {
    throw new HalcyonError(
      "NO_WORKER",
      "this environment has no Web Workers; the client does not run here yet",
    );
  }
  return "dedicated";
}

export class Link {
  readonly #port: Port;
  readonly #hello: ToWorker;
  readonly #subscriptions = new Map<number, string>();
  /** Writes that are not said to be on disk yet. */
  readonly #unwritten = new Map<number, string>();

  constructor(
    files: Files,
    kind: "shared" | "dedicated",
    settings: Settings,
    listener: (message: ToPage) => void,
  ) {
    this.#port = connect(files, kind, `${settings.name}:${settings.tenant}`);
    this.#hello = { type: "hello", settings, wasm: files.wasm.href };
    this.#port.onmessage = ({ data }) => {
      if (data.type === "restarted") this.#sayAgain();
      if (data.type === "written" || data.type === "settled") this.#unwritten.delete(data.id);
      listener(data);
    };
    this.#port.postMessage(this.#hello);
    // A tab that goes tells nobody otherwise, and its queries would be followed for ever.
    globalThis.addEventListener?.("pagehide", (event) => {
      if (!(event as PageTransitionEvent).persisted) this.#port.postMessage({ type: "bye" });
    });
  }

  send(message: ToWorker): void {
    if (message.type === "subscribe") this.#subscriptions.set(message.id, message.query);
    if (message.type === "unsubscribe") this.#subscriptions.delete(message.id);
    if (message.type === "write") this.#unwritten.set(message.id, message.changes);
    this.#port.postMessage(message);
  }

  #sayAgain(): void {
    this.#port.postMessage(this.#hello);
    for (const [id, query] of this.#subscriptions) this.#port.postMessage({ type: "subscribe", id, query });
    for (const [id, changes] of this.#unwritten) this.#port.postMessage({ type: "write", id, changes });
  }
}
