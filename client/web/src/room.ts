// Rooms on the page: who else is here, what all share for the moment, and what is said. Nothing of it is kept.

import { HalcyonError, type ErrorShape } from "./errors";
import { callAll } from "./listeners";
import type { RoomMessage, RoomNews, RoomUser, ToWorker } from "./protocol";
import { share } from "./query/rows";
import type { AnyField, Fields, Json, ValueField } from "./schema/fields";
import type { RoomShape } from "./schema/schema";
import { decode, encode } from "./values";

type Held<F> = F extends ValueField<infer T, boolean, boolean> ? T : string;
type Values<F> = F extends Fields ? { readonly [K in keyof F]?: Held<F[K]> } : Readonly<Record<never, never>>;
type PresenceOf<D extends RoomShape> = Values<D["presence"]>;
type StatusOf<D extends RoomShape> = Values<D["status"]>;
type EventName<D extends RoomShape> = keyof D["events"] & string;
type EventOf<D extends RoomShape, N extends string> = D["events"] extends infer E
  ? N extends keyof E
    ? Values<E[N]>
    : never
  : never;

/** One of the others. */
export interface Peer<P> {
  /** Names the connection, for as long as it lasts. */
  readonly id: string;
  /** As the app names its user. */
  readonly user: string;
  readonly region: string;
  readonly lastSeen: Date;
  readonly presence: P;
}

/** Something that was said. */
export interface Message<T> {
  readonly data: T;
  /** The peer that said it. */
  readonly from: string;
  readonly at: Date;
  /** Sorts like the senders' hybrid clocks: an answer comes after what it answers. */
  readonly order: string;
}

export interface RoomState<P, S> {
  readonly isConnected: boolean;
  /** This origin's name in the room. */
  readonly self: string | undefined;
  readonly peers: readonly Peer<P>[];
  readonly status: S;
  /** Messages that did not get here because this client was too slow. */
  readonly missed: number;
  readonly error: HalcyonError | undefined;
}

export interface RoomOptions<D extends RoomShape> {
  /** What this connection does when it enters. */
  readonly presence?: PresenceOf<D>;
}

export interface Room<D extends RoomShape> {
  readonly name: string;
  /** The same object until something changes. */
  readonly state: RoomState<PresenceOf<D>, StatusOf<D>>;
  /** Calls `listener` after each change; returns how to stop. The room is left when nobody listens. */
  listen(listener: () => void): () => void;
  /** Hears an event; returns how to stop. */
  on<N extends EventName<D>>(event: N, listener: (message: Message<EventOf<D, N>>) => void): () => void;
  /** Says what this connection does: these fields, beside those that were set before. */
  set(presence: PresenceOf<D>): void;
  /** What this connection does. */
  readonly presence: PresenceOf<D>;
  /** Changes what all share; `null` unsets. Of two changes the later one holds. */
  setStatus(status: { readonly [K in keyof StatusOf<D>]?: StatusOf<D>[K] | null }): void;
  /** Tells everybody who is here now, or these peers. */
  send<N extends EventName<D>>(event: N, data: EventOf<D, N>, to?: readonly string[]): void;
}

type Bag = Readonly<Record<string, unknown>>;
type State = RoomState<Bag, Bag>;
type Listener = (message: Message<Bag>) => void;

/** A room nobody listens to is left so much later: a component that mounts again is still there. */
const LINGER_MS = 1_000;

function toJson(fields: Fields | undefined, values: Bag, where: string): Readonly<Record<string, Json>> {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  const encoded = entries.map(([name, value]): [string, Json] => {
    const field = fields?.[name];
    if (!field) throw new HalcyonError("INVALID_ROOM", `${where} has no field "${name}"`);
    const code = "INVALID_ROOM";
    return [
      name,
      field.kind === "json" ? (value as Json) : encode(field.kind, value, `${where}.${name}`, code),
    ];
  });
  return Object.fromEntries(encoded);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

const valueOf = (field: AnyField, json: unknown): unknown =>
  field.kind === "json" ? json : decode(field, json, () => undefined);

/** Other versions of an app, and other programs, may hold something else: what is not understood is left out. */
function fromJson(fields: Fields | undefined, text: string): Bag {
  const json = parse(text);
  if (typeof json !== "object" || json === null || !fields) return {};
  const known = Object.entries(json).flatMap(([name, value]) => {
    const field = fields[name];
    return field && value !== null ? [[name, valueOf(field, value)] as const] : [];
  });
  return Object.fromEntries(known.filter(([, value]) => value !== undefined));
}

export class RoomClient {
  readonly name: string;
  readonly #shape: RoomShape;
  readonly #user: () => string;
  readonly #send: (message: ToWorker) => void;
  readonly #listeners = new Set<() => void>();
  readonly #events = new Map<string, Set<Listener>>();
  readonly #users = new Map<string, RoomUser>();
  readonly #peers = new Map<string, Peer<Bag>>();
  #status: Readonly<Record<string, unknown>> = {};
  #presence: Readonly<Record<string, Json>> = {};
  #isEntered = false;
  presence: Bag = {};
  state: State = {
    isConnected: false,
    self: undefined,
    peers: [],
    status: {},
    missed: 0,
    error: undefined,
  };

  constructor(name: string, shape: RoomShape, user: () => string, send: (message: ToWorker) => void) {
    this.name = name;
    this.#shape = shape;
    this.#user = user;
    this.#send = send;
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    this.#enter();
    return () => {
      this.#listeners.delete(listener);
      this.#leaveSoon();
    };
  }

  on(event: string, listener: Listener): () => void {
    if (!this.#shape.events || !(event in this.#shape.events))
      throw new HalcyonError("INVALID_ROOM", `${this.name} has no event "${event}"`);
    let listeners = this.#events.get(event);
    if (!listeners) {
      listeners = new Set();
      this.#events.set(event, listeners);
    }
    const all = listeners;
    all.add(listener);
    this.#enter();
    return () => {
      all.delete(listener);
      this.#leaveSoon();
    };
  }

  set(presence: Bag): void {
    const json = toJson(this.#shape.presence, presence, this.name);
    this.presence = { ...this.presence, ...presence };
    this.#presence = { ...this.#presence, ...json };
    if (this.#isEntered)
      this.#send({ type: "presence", room: this.name, presence: JSON.stringify(this.#presence) });
  }

  setStatus(status: Bag): void {
    const unset = Object.entries(status).filter(([, value]) => value === null);
    const set = Object.fromEntries(Object.entries(status).filter(([, value]) => value !== null));
    const json = Object.entries(toJson(this.#shape.status, set, this.name));
    const texts = json.map(([key, value]): [string, string | null] => [key, JSON.stringify(value)]);
    const all = [...texts, ...unset.map(([key]): [string, null] => [key, null])];
    this.#send({ type: "room-status", room: this.name, status: Object.fromEntries(all) });
  }

  send(event: string, data: Bag, to: readonly string[]): void {
    const payload = JSON.stringify(toJson(this.#shape.events?.[event], data, `${this.name}.${event}`));
    this.#send({ type: "say", room: this.name, topic: event, payload, to });
  }

  onNews(news: RoomNews): void {
    if (news.whole) {
      this.#users.clear();
      this.#status = {};
    }
    for (const id of news.gone) this.#users.delete(id);
    for (const user of news.users) this.#users.set(user.connection, user);
    for (const id of [...this.#peers.keys()]) if (!this.#users.has(id)) this.#peers.delete(id);
    const named = news.whole ? [...this.#users.values()] : news.users;
    for (const user of named) {
      const presence = fromJson(this.#shape.presence, user.presence);
      const before = this.#peers.get(user.connection);
      const peer: Peer<Bag> = {
        id: user.connection,
        user: user.user,
        region: user.region,
        lastSeen: new Date(user.seen),
        presence: share(before?.presence, presence) as Bag,
      };
      this.#peers.set(user.connection, share(before, peer) as Peer<Bag>);
    }
    this.#setStatus(news.status);
    const peers = [...this.#peers.values()];
    this.#set({ peers, status: this.#status, missed: this.state.missed + news.missed });
    for (const message of news.messages) this.#hear(message);
  }

  onState(connection: string | undefined, error: ErrorShape | undefined): void {
    const isConnected = connection !== undefined;
    this.#set({ isConnected, self: connection, error: error && HalcyonError.from(error) });
  }

  #hear(message: RoomMessage): void {
    const fields = this.#shape.events?.[message.topic];
    if (!fields) return;
    const data = fromJson(fields, message.payload);
    const at = new Date(message.at ?? Date.now());
    const heard: Message<Bag> = { data, from: message.from, at, order: message.stamp };
    callAll(this.#events.get(message.topic) ?? [], heard);
  }

  #setStatus(changes: Readonly<Record<string, string | null>>): void {
    const entries = Object.entries(changes);
    if (entries.length === 0) return;
    const status = { ...this.#status };
    for (const [key, text] of entries) {
      const field = this.#shape.status?.[key];
      if (!field) continue;
      if (text === null) delete status[key];
      else status[key] = valueOf(field, parse(text));
    }
    this.#status = status;
  }

  #enter(): void {
    if (this.#isEntered) return;
    this.#isEntered = true;
    const presence = JSON.stringify(this.#presence);
    this.#send({ type: "enter", room: this.name, user: this.#user(), presence });
  }

  #leaveSoon(): void {
    setTimeout(() => {
      const isHeard = [...this.#events.values()].some((listeners) => listeners.size > 0);
      if (!this.#isEntered || isHeard || this.#listeners.size > 0) return;
      this.#isEntered = false;
      this.#users.clear();
      this.#peers.clear();
      this.#send({ type: "leave", room: this.name });
      this.#set({ isConnected: false, self: undefined, peers: [] });
    }, LINGER_MS);
  }

  #set(next: Partial<State>): void {
    this.state = { ...this.state, ...next };
    callAll(this.#listeners);
  }
}

/** The room as its kind's types show it. */
export function roomOf<D extends RoomShape>(room: RoomClient, options?: RoomOptions<D>): Room<D> {
  if (options?.presence && Object.keys(room.presence).length === 0) room.set(options.presence);
  const shown = {
    name: room.name,
    get state() {
      return room.state;
    },
    get presence() {
      return room.presence;
    },
    listen: (listener: () => void) => room.listen(listener),
    on: (event: string, listener: Listener) => room.on(event, listener),
    set: (presence: Bag) => {
      room.set(presence);
    },
    setStatus: (status: Bag) => {
      room.setStatus(status);
    },
    send: (event: string, data: Bag, to: readonly string[] = []) => {
      room.send(event, data, to);
    },
  };
  return shown as unknown as Room<D>;
}
