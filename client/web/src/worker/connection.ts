// The way to a node and back: finds the nearest, keeps the session's one stream open, makes the calls beside it, pushes
// what waits, and starts again after failures. What is said and what it means is the engine's.

import type { ErrorShape } from "../errors";
import type { Connection, ConnectionState, Settings } from "../protocol";
import type { Call, Engine, Greeting, Pushed, RoomCall } from "./engine";
import { call, CallError, stream, type Caller } from "./transport";
import { sleep } from "./wait";

const QUICK_MS = 3_000;
const PUSH_MS = 15_000;
/** The node answers the query first. */
const SUBSCRIBE_MS = 20_000;
/** Nodes say that they live every few seconds. A stream that is silent for so long is dead. */
const SILENCE_MS = 15_000;
const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 5_000;
/** Somebody has to mend a refusal of the client as a whole. */
const BLOCKED_MS = 15_000;
/** A node that failed has to be so much nearer than another to be taken again soon. */
const DETOUR_MS = 500;
const DETOUR_FOR_MS = 10_000;
/** How often a client that keeps acknowledged sets asks whether a second replica has them: ever more rarely. */
const HELD_MIN_MS = 2_000;
const HELD_MAX_MS = 30_000;

interface Listener {
  /** Something came in: show it, keep it. */
  onChange(): void;
  /** Resolves when what must be on the disk before the next push is there. */
  onPushed(pushed: Pushed): Promise<void>;
  /** The same, after sets were stamped again. */
  onStamped(): Promise<void>;
  onConnection(): void;
  /** Whether every query that is followed has the node's state. */
  isSynced(): boolean;
  /** The session is open (again): rooms are to be entered. */
  onSession(): void;
  onSessionLost(): void;
  onRooms(): void;
}

interface Route extends Greeting {
  readonly base: string;
  /** When the node was asked what its clock shows. */
  readonly asked: Instant;
}

interface Instant {
  readonly wall: number;
  readonly steady: number;
}

const instant = (): Instant => ({ wall: Date.now(), steady: performance.now() });

/** How long ago that was, at the most: the one clock stands still while a machine sleeps, the other one may be set. */
function since(then: Instant): number {
  const now = instant();
  return Math.max(now.wall - then.wall, now.steady - then.steady);
}

/** A room's call has no session to go by. */
export class NoSession extends Error {}

function baseOf(address: string): string {
  return /^https?:\/\//.test(address) ? address.replace(/\/+$/, "") : `http://${address}`;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const detailsOf = (error: unknown): Uint8Array =>
  error instanceof CallError ? error.details : new Uint8Array();

export class Connector {
  readonly #engine: Engine;
  readonly #settings: Settings;
  readonly #listener: Listener;
  /** When nodes failed last. */
  readonly #failedAt = new Map<string, number>();
  /** Where the tenant's nodes were when one last told: one of them may know where to go when no endpoint does. */
  #known: readonly string[] = [];
  #caller: Caller;
  #state: ConnectionState = "connecting";
  #wasSynced: boolean;
  #error: ErrorShape | undefined;
  #route: Route | undefined;
  #failures = 0;
  #stop: AbortController | undefined;
  /** Ends the stream under way; another follows. */
  #attempt: AbortController | undefined;
  #isOpen = false;
  #isPushing = false;

  constructor(engine: Engine, settings: Settings, wasSynced: boolean, listener: Listener) {
    this.#engine = engine;
    this.#settings = settings;
    this.#listener = listener;
    this.#wasSynced = wasSynced;
    this.#caller = { key: settings.key, user: settings.user };
  }

  /** How the connection is now. */
  get connection(): Connection {
    const isSynced = this.#isOpen && this.#listener.isSynced();
    this.#wasSynced ||= isSynced;
    return {
      state: this.#isOpen && this.#state !== "refused" ? (isSynced ? "synced" : "syncing") : this.#state,
      wasSynced: this.#wasSynced,
      address: this.#route?.base,
      region: this.#route?.region,
      waiting: this.#engine.waiting(),
      error: this.#error,
    };
  }

  /** Not cut off by `stop`. */
  get isAllowed(): boolean {
    return this.#stop !== undefined;
  }

  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
    void this.#askHeld(this.#stop.signal);
  }

  /** Cuts the connection; `start` makes it again. */
  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#lost();
    this.#set("offline");
  }

  signIn(caller: Caller): void {
    const isAnother = caller.key !== this.#caller.key;
    this.#caller = caller;
    const isAllowed = this.isAllowed;
    if (isAllowed) this.stop();
    // A node would refuse it the session that was opened with the other key.
    if (isAnother) this.#engine.forgetSession();
    if (isAllowed) this.start();
  }

  /** Pushes what waits, unless a push is under way: then it goes with the next. */
  async push(): Promise<void> {
    if (this.#isPushing) return;
    this.#isPushing = true;
    try {
      while (this.#stop && this.#route) {
        // What is on its way to the disk with its old timestamp is not pushed in the meantime, and a later run must know
        // what may have been pushed.
        if (this.#engine.beforePush(since(this.#route.asked))) {
          await this.#listener.onStamped();
          continue;
        }
        const body = this.#engine.nextPush();
        if (body.length === 0) break;
        const pushed = await this.#pushOnce(this.#route, body, this.#stop.signal);
        await this.#listener.onPushed(pushed);
        if (!(await this.#goOn(pushed.next))) break;
      }
    } finally {
      this.#isPushing = false;
    }
  }

  /** Makes the calls that the engine wants now. */
  ask(): void {
    const { base } = this.#route ?? {};
    if (!this.#isOpen || base === undefined || !this.#attempt) return;
    for (;;) {
      const wanted = this.#engine.nextCall();
      if (!wanted) return;
      void this.#call(base, wanted, this.#attempt.signal);
    }
  }

  /** Makes a call about a room. */
  async room(kind: RoomCall, about: object): Promise<Uint8Array> {
    if (!this.#isOpen || !this.#route) throw new NoSession("no node is connected now");
    const body = this.#engine.roomCall(kind, about);
    return call(this.#route.base, `Rooms/${kind}`, body, this.#caller, QUICK_MS, this.#attempt?.signal);
  }

  async #pushOnce(route: Route, body: Uint8Array, signal: AbortSignal): Promise<Pushed> {
    try {
      const answer = await call(route.base, "Sync/Push", body, this.#caller, PUSH_MS, signal);
      return this.#engine.onPushed(answer);
    } catch (error) {
      return this.#engine.onPushFailed(detailsOf(error));
    }
  }

  /** Whether pushing goes on at once, after what an answer asks for. */
  async #goOn(next: Pushed["next"]): Promise<boolean> {
    const signal = this.#stop?.signal;
    if (!signal) return false;
    if (next.do === "go") return true;
    if (next.do === "leave" || next.do === "move") this.#leave();
    if (next.do === "blocked" && next.error) {
      this.#error = { code: next.error.code, message: next.error.message };
      this.#set("refused");
    }
    await sleep(next.ms, signal);
    return this.#stop !== undefined;
  }

  /** This node is of no use now: another may be. */
  #leave(): void {
    if (this.#route) this.#failedAt.set(this.#route.node, Date.now());
    this.#attempt?.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        this.#set(this.#wasSynced && this.#failures > 0 ? "offline" : "connecting");
        const route = await this.#find(signal);
        signal.throwIfAborted();
        this.#route = route;
        this.#engine.atNode(route);
        // What waits need not wait for what was missed.
        void this.push();
        await this.#follow(route, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#lost();
        await this.#failed(error, signal);
        continue;
      }
      if (signal.aborted) return;
      this.#lost();
      this.#listener.onChange();
      await sleep(this.#backoff(), signal);
    }
  }

  #lost(): void {
    this.#attempt?.abort();
    this.#attempt = undefined;
    this.#route = undefined;
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#listener.onSessionLost();
    }
    this.#engine.onDisconnected();
  }

  async #failed(error: unknown, signal: AbortSignal): Promise<void> {
    const details = detailsOf(error);
    const refusal = details.length > 0 ? this.#engine.refusal(details) : undefined;
    this.#error = refusal
      ? { code: refusal.code, message: refusal.message }
      : { code: "UNREACHABLE", message: messageOf(error) };
    const passing = ["WRONG_REGION", "BUSY", "RETRY", "NO_QUORUM", "INTERNAL"];
    const isRefused = refusal !== undefined && !passing.includes(refusal.code);
    this.#set(isRefused ? "refused" : "offline");
    this.#listener.onChange();
    await sleep(isRefused ? BLOCKED_MS : Math.max(this.#backoff(), refusal?.retryAfterMs ?? 0), signal);
  }

  /** The nearest node that serves the tenant: the first to answer of those that an endpoint, or a node of before, names. */
  async #find(signal: AbortSignal): Promise<Route> {
    const asked = new Set([...this.#settings.endpoints.map(baseOf), ...this.#known]);
    if (asked.size === 0) throw new CallError("no endpoint is given: name a node to start from");
    const located = await Promise.any(
      [...asked].map(async (base) => {
        const body = this.#engine.locate();
        const answer = await call(base, "Sync/Locate", body, this.#caller, QUICK_MS, signal);
        return { base, replicas: this.#engine.onLocated(answer) };
      }),
    ).catch((errors: unknown) => {
      // A node's word says more than a failed connection.
      const all = errors instanceof AggregateError ? (errors.errors as unknown[]) : [errors];
      throw all.find((error) => detailsOf(error).length > 0) ?? all[0];
    });
    signal.throwIfAborted();
    const scheme = located.base.startsWith("https:") ? "https://" : "http://";
    const serving = located.replicas
      .filter((replica) => replica.serving)
      .map(({ node, address }) => ({
        node,
        base: baseOf(address.includes("://") ? address : scheme + address),
      }));
    if (serving.length > 0) this.#known = serving.map(({ base }) => base);
    return Promise.any(
      serving.map(async ({ node, base }) => {
        const failedAt = this.#failedAt.get(node);
        if (failedAt !== undefined && Date.now() - failedAt < DETOUR_FOR_MS) await sleep(DETOUR_MS, signal);
        const asked = instant();
        const hello = await call(base, "Sync/Hello", this.#engine.hello(), undefined, QUICK_MS, signal);
        return { base, asked, ...this.#engine.onHello(hello) };
      }),
    ).catch(() => {
      throw new CallError(`none of the ${serving.length} nodes that serve the tenant can be reached`);
    });
  }

  /** One stream, until it ends. Throws where it ends badly. */
  async #follow(route: Route, signal: AbortSignal): Promise<void> {
    const attempt = new AbortController();
    this.#attempt = attempt;
    const both = AbortSignal.any([signal, attempt.signal]);
    let isSilent = false;
    let heardAt = Date.now();
    // One timer for many messages: it looks how long ago the last one was.
    const look = (): void => {
      const left = heardAt + SILENCE_MS - Date.now();
      isSilent = left <= 0;
      if (isSilent) attempt.abort();
      else timer = setTimeout(look, left);
    };
    let timer = setTimeout(look, SILENCE_MS);
    try {
      await stream(route.base, "Sessions/Connect", this.#engine.connect(), this.#caller, both, (message) => {
        heardAt = Date.now();
        const asks = this.#engine.onEvent(message);
        if (asks.opened) this.#opened();
        this.#listener.onChange();
        if (asks.room) this.#listener.onRooms();
        if (asks.reopen) return false;
        this.ask();
        return true;
      });
    } catch (error) {
      // Whoever ended it had a reason; only a node's word on it, or silence, says that the node failed.
      if (attempt.signal.aborted && !isSilent) return;
      this.#failedAt.set(route.node, Date.now());
      throw error;
    } finally {
      clearTimeout(timer);
      attempt.abort();
    }
  }

  #opened(): void {
    this.#isOpen = true;
    this.#failures = 0;
    this.#error = undefined;
    this.#set("syncing");
    this.#listener.onSession();
    void this.push();
  }

  async #call(base: string, wanted: Call, signal: AbortSignal): Promise<void> {
    if (wanted.waitMs > 0) await sleep(wanted.waitMs, signal);
    const { path, body, subscription } = wanted;
    let mustReopen = false;
    try {
      const answer = await call(base, path, body, this.#caller, SUBSCRIBE_MS, signal);
      if (path === "Sessions/Unsubscribe") return;
      mustReopen = this.#engine.onSubscribed(subscription, answer);
    } catch (error) {
      // A node that does not hear of an end sends what is passed over here.
      if (path === "Sessions/Unsubscribe") return;
      mustReopen = this.#engine.onSubscribeFailed(subscription, detailsOf(error));
    }
    this.#listener.onChange();
    if (signal.aborted) return;
    if (mustReopen) this.#attempt?.abort();
    else this.ask();
  }

  /** Asks, in quiet moments, whether a second replica has what is kept. */
  async #askHeld(signal: AbortSignal): Promise<void> {
    let wait = HELD_MIN_MS;
    while (!signal.aborted) {
      await sleep(wait, signal);
      const body = this.#engine.held();
      if (body.length === 0 || !this.#route || this.#isPushing) {
        wait = HELD_MIN_MS;
        continue;
      }
      wait = Math.min(wait * 2, HELD_MAX_MS);
      try {
        this.#engine.onHeld(await call(this.#route.base, "Sync/Held", body, this.#caller, QUICK_MS, signal));
        this.#listener.onChange();
        void this.push();
      } catch {
        // It is asked again.
      }
    }
  }

  #backoff(): number {
    this.#failures += 1;
    const most = Math.min(BACKOFF_MIN_MS * 2 ** Math.min(this.#failures, 16), BACKOFF_MAX_MS);
    return most / 2 + (Math.random() * most) / 2;
  }

  #set(state: ConnectionState): void {
    this.#state = state;
    this.#listener.onConnection();
  }
}
