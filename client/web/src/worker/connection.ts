// The way to a node and back: finds the nearest, keeps one watch open, pushes what waits, and starts again after
// failures. What is said and what it means is the engine's.

import type { ErrorShape } from "../errors";
import type { Connection, ConnectionState, Settings } from "../protocol";
import type { Engine, Pushed } from "./engine";
import { call, CallError, stream, type Caller } from "./transport";

const QUICK_MS = 3_000;
const PUSH_MS = 15_000;
/** Nodes say that they live every few seconds. A watch that is silent for so long is dead. */
const SILENCE_MS = 60_000;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 5_000;
/** Somebody has to mend a refusal of the client as a whole. */
const BLOCKED_MS = 15_000;

interface Listener {
  /** Something came in: show it, keep it. */
  onChange(): void;
  onPushed(pushed: Pushed): void;
  onConnection(connection: Connection): void;
}

interface Route {
  readonly base: string;
  readonly region: string;
}

const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });

function baseOf(address: string): string {
  return /^https?:\/\//.test(address) ? address.replace(/\/+$/, "") : `http://${address}`;
}

export class Connector {
  readonly #engine: Engine;
  readonly #settings: Settings;
  readonly #listener: Listener;
  #caller: Caller;
  #state: ConnectionState = "connecting";
  #wasSynced = false;
  #error: ErrorShape | undefined;
  #route: Route | undefined;
  #failures = 0;
  #stop: AbortController | undefined;
  #isPushing = false;

  constructor(engine: Engine, settings: Settings, listener: Listener) {
    this.#engine = engine;
    this.#settings = settings;
    this.#listener = listener;
    this.#caller = { key: settings.key, user: settings.user };
  }

  get connection(): Connection {
    return {
      state: this.#state,
      wasSynced: this.#wasSynced,
      address: this.#route?.base,
      region: this.#route?.region,
      waiting: this.#engine.waiting(),
      error: this.#error,
    };
  }

  /** What the disk kept was up to date once. */
  restored(): void {
    this.#wasSynced = true;
  }

  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  /** Cuts the connection; `start` makes it again. */
  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#set("offline");
  }

  signIn(caller: Caller): void {
    this.#caller = caller;
    if (!this.#stop) return;
    this.stop();
    this.start();
  }

  /** Pushes what waits, unless a push is under way: then it goes with the next. */
  async push(): Promise<void> {
    if (this.#isPushing) return;
    this.#isPushing = true;
    try {
      while (this.#stop && this.#route && !this.#stop.signal.aborted) {
        const body = this.#engine.nextPush();
        if (body.length === 0) break;
        const pushed = await this.#pushOnce(this.#route, body);
        this.#listener.onPushed(pushed);
        if (!(await this.#goOn(pushed, this.#stop?.signal))) break;
      }
    } finally {
      this.#isPushing = false;
    }
  }

  async #pushOnce(route: Route, body: Uint8Array): Promise<Pushed> {
    try {
      return this.#engine.onPushed(await call(route.base, "Sync/Push", body, this.#caller, PUSH_MS));
    } catch (error) {
      const pushed = this.#engine.onPushRefused(
        error instanceof CallError ? error.details : new Uint8Array(),
      );
      const isLost = !pushed.wait && !pushed.blocked && pushed.settled.length === 0;
      return isLost ? { ...pushed, wait: lost(error) } : pushed;
    }
  }

  async #goOn(pushed: Pushed, signal: AbortSignal | undefined): Promise<boolean> {
    if (!signal) return false;
    if (pushed.blocked) {
      this.#error = { code: pushed.blocked.code, message: pushed.blocked.message };
      this.#set("refused");
      await sleep(BLOCKED_MS, signal);
    } else if (pushed.wait) {
      await sleep(pushed.wait.retryAfterMs ?? this.#backoff(), signal);
    } else {
      this.#failures = 0;
    }
    return !signal.aborted;
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        this.#set(this.#wasSynced && this.#failures > 0 ? "offline" : "connecting");
        this.#route = await this.#find(signal);
        this.#set("syncing");
        // What waits need not wait for what was missed.
        void this.push();
        await this.#watch(this.#route, signal);
      } catch (error) {
        this.#route = undefined;
        if (signal.aborted) return;
        await this.#failed(error, signal);
      }
    }
  }

  async #failed(error: unknown, signal: AbortSignal): Promise<void> {
    const refusal = error instanceof CallError ? this.#engine.refusal(error.details) : undefined;
    this.#error = refusal ?? {
      code: "UNREACHABLE",
      message: error instanceof Error ? error.message : String(error),
    };
    const isRefused = refusal !== undefined && refusal.code !== "WRONG_REGION" && refusal.code !== "BUSY";
    this.#set(isRefused ? "refused" : "offline");
    await sleep(isRefused ? BLOCKED_MS : this.#backoff(), signal);
  }

  /** The nearest node that serves the tenant: the first to answer of those that an endpoint names. */
  async #find(signal: AbortSignal): Promise<Route> {
    const { endpoints, tenant } = this.#settings;
    const located = await Promise.any(
      endpoints.map(async (endpoint) => {
        const base = baseOf(endpoint);
        const body = await call(base, "Sync/Locate", this.#engine.locate(tenant), this.#caller, QUICK_MS);
        return { base, replicas: this.#engine.onLocated(body).replicas };
      }),
    ).catch((errors: unknown) => {
      throw errors instanceof AggregateError ? errors.errors[0] : errors;
    });
    signal.throwIfAborted();
    const scheme = located.base.startsWith("https:") ? "https://" : "http://";
    const serving = located.replicas.filter((replica) => replica.serving);
    return Promise.any(
      serving.map(async ({ address }) => {
        const base = baseOf(address.includes("://") ? address : scheme + address);
        const hello = await call(base, "Sync/Hello", this.#engine.hello(), undefined, QUICK_MS);
        return { base, region: this.#engine.onHello(hello).region };
      }),
    ).catch(() => {
      throw new CallError(`none of the ${serving.length} nodes that serve the tenant can be reached`);
    });
  }

  async #watch(route: Route, signal: AbortSignal): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => {
      silence.abort();
    }, SILENCE_MS);
    const both = AbortSignal.any([signal, silence.signal]);
    try {
      for await (const message of stream(
        route.base,
        "Sync/Watch",
        this.#engine.watch(),
        this.#caller,
        both,
      )) {
        clearTimeout(timer);
        timer = setTimeout(() => {
          silence.abort();
        }, SILENCE_MS);
        const isCurrent = this.#engine.onWatched(message);
        this.#listener.onChange();
        if (isCurrent && this.#state !== "synced") this.#synced();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #synced(): void {
    this.#failures = 0;
    this.#error = undefined;
    this.#wasSynced = true;
    this.#set("synced");
    void this.push();
  }

  #backoff(): number {
    this.#failures += 1;
    const most = Math.min(BACKOFF_MIN_MS * 2 ** Math.min(this.#failures, 16), BACKOFF_MAX_MS);
    return most / 2 + (Math.random() * most) / 2;
  }

  #set(state: ConnectionState): void {
    this.#state = state;
    this.#listener.onConnection(this.connection);
  }
}

function lost(error: unknown) {
  const message = error instanceof Error ? error.message : String(error);
  return { code: "UNREACHABLE", message, retryAfterMs: null, replicas: [] };
}
