// The client on the page: typed queries and writes over one link to the worker.

import { HalcyonError, type ErrorShape } from "./errors";
import { Link, workerWay, type Files, type Way } from "./link";
import { Live, type Result } from "./live";
import { readPreloaded } from "./preloaded";
import type { Connection, Superseded, ToPage } from "./protocol";
import { Query } from "./query/query";
import { shaper } from "./query/rows";
import { roomOf, RoomClient, type Room, type RoomOptions } from "./room";
import type { Entities, FieldsOf, Name, RoomShape, RoomShapes, Row, Schema } from "./schema/schema";
import { gather, type EntityTx, type Tx } from "./tx";

export interface ClientOptions<S extends Entities, R extends RoomShapes = RoomShapes> {
  readonly schema: Schema<S, R>;
  /** The tenant's id or name. */
  readonly tenant: string;
  /** Nodes to start from, such as "http://127.0.0.1:7700". Any node of the cluster will do. */
  readonly endpoints: readonly string[];
  readonly auth: { readonly key: string; readonly user?: string };
  /** The name of the local data. Pages with one name share it. */
  readonly name?: string;
  readonly persistence?: "indexeddb" | "memory";
  /** A shared worker where there is one; "dedicated" elects a leading tab instead. */
  readonly worker?: "auto" | "shared" | "dedicated";
  /** Where the worker and the module lie, if a bundler moved them. */
  readonly files?: Partial<Files>;
  /** What `preload` gave on a server: its queries show at once, and are not loaded again. */
  readonly preloaded?: string;
  /** A write that was shown was refused by a node and is gone. */
  readonly onRefused?: (error: HalcyonError) => void;
  /** Local data cannot be opened or kept, or the engine had to start anew. Everything else goes on. */
  readonly onFailed?: (error: HalcyonError) => void;
  /** A field holds what the schema does not allow; it reads as undefined. */
  readonly onInvalidData?: (where: string) => void;
}

export type WriteStatus = "applied" | "kept" | "confirmed" | "superseded" | "refused";

/** A write. It shows at once; the rest is news of its way. */
export interface Write<T> {
  /** What the function given to `tx` returned. */
  readonly value: T;
  /** On this device's disk; rejects where that takes nothing more. The write goes on from memory then. */
  readonly kept: Promise<void>;
  /**
   * On a node's disk; rejects with a {@link HalcyonError} if it was refused, cleared, or the client closed before. It waits
   * as long as no node takes it: offline, or with a key that is refused (`connection` says so).
   */
  readonly confirmed: Promise<void>;
  readonly status: WriteStatus;
  /** Once it is confirmed: what of it had lost, to a deletion, an entity long gone, or a later write of the field. */
  readonly superseded: readonly Superseded[];
}

class PendingWrite<T> implements Write<T> {
  readonly value: T;
  readonly kept: Promise<void>;
  readonly confirmed: Promise<void>;
  status: WriteStatus = "applied";
  superseded: readonly Superseded[] = [];
  #keep: (error: HalcyonError | undefined) => void = () => undefined;
  #settle: (error: HalcyonError | undefined) => void = () => undefined;

  constructor(value: T) {
    this.value = value;
    this.kept = new Promise((resolve, reject) => {
      this.#keep = (error) => {
        if (error) reject(error);
        else resolve();
      };
    });
    this.confirmed = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        if (error) reject(error);
        else resolve();
      };
    });
    // Looking at them is optional; errors also go to `onRefused` and `onFailed`.
    this.confirmed.catch(() => undefined);
    this.kept.catch(() => undefined);
  }

  onKept(error: HalcyonError | undefined): void {
    if (this.status === "applied" && !error) this.status = "kept";
    this.#keep(error);
  }

  /** Nobody will say any more what becomes of it. */
  onClosed(error: HalcyonError): void {
    this.#settle(error);
  }

  onSettled(error: HalcyonError | undefined, superseded: readonly Superseded[]): void {
    this.status = error ? "refused" : superseded.length > 0 ? "superseded" : "confirmed";
    this.superseded = superseded;
    // What was refused before it came to the disk never came there.
    this.#keep(error);
    this.#settle(error);
  }
}

/** An entity's queries and single writes: `db.issues`. */
export type EntityClient<S extends Entities, E extends Name<S>> = Query<S, E, Row<S, E>> & {
  readonly insert: (...values: Parameters<EntityTx<FieldsOf<S, E>>["insert"]>) => Write<string>;
  readonly update: (...values: Parameters<EntityTx<FieldsOf<S, E>>["update"]>) => Write<void>;
  readonly delete: (...values: Parameters<EntityTx<FieldsOf<S, E>>["delete"]>) => Write<void>;
};

export interface Followed<R> {
  readonly result: Result<R>;
  /** Calls `listener` after each change; returns how to stop. */
  listen(listener: () => void): () => void;
}

export interface HalcyonClient<S extends Entities, R extends RoomShapes = RoomShapes> {
  /** Several changes that show, and are taken or refused, as one. */
  tx<T>(write: (tx: Tx<S>) => T): Write<T>;
  /** The live result of a query. It is followed while anybody listens. */
  follow<E extends Name<S>, R>(query: Query<S, E, R>): Followed<R>;
  /**
   * The rows as this device has them; with `synced`, when a node has confirmed that they are up to date. Rejects where that
   * cannot come: the query, or with `synced` this client, is refused, or it is closed.
   */
  query<E extends Name<S>, R>(
    query: Query<S, E, R>,
    options?: { readonly synced?: boolean },
  ): Promise<readonly R[]>;
  /** A room of a kind that the schema has. It is entered while anybody listens. */
  room<K extends keyof R & string>(type: K, id: string, options?: RoomOptions<R[K]>): Room<R[K]>;
  readonly connection: Connection;
  onConnection(listener: () => void): () => void;
  /** Cuts the client off, or lets it connect again: for tests, and for switches in apps. */
  setOnline(isOnline: boolean): void;
  /** Goes on as another user. What waits in the outbox goes with it. */
  signIn(auth: { readonly key: string; readonly user?: string }): void;
  /** Removes all local data of this name, pending writes included, and starts anew. */
  clear(): Promise<void>;
  /** Ends the client when its writes are on this device's disk. Nothing moves after that. */
  close(): Promise<void>;
}

export type Db<S extends Entities, R extends RoomShapes = RoomShapes> = HalcyonClient<S, R> & {
  readonly [E in Name<S>]: EntityClient<S, E>;
};

const NOT_CONNECTED: Connection = {
  state: "connecting",
  wasSynced: false,
  address: undefined,
  region: undefined,
  waiting: 0,
  error: undefined,
};

/** With these a key is of no use here, until another signs in. */
const KEY_REFUSED: readonly string[] = ["UNAUTHENTICATED", "FORBIDDEN"];

/** A result nobody listens to is kept for so long: a component that mounts again finds it. */
const LINGER_MS = 1_000;
/** With more results than that, none is: a session follows 256 queries. */
const LINGERING_MAX = 64;

class Client<S extends Entities, R extends RoomShapes> implements HalcyonClient<S, R> {
  readonly #options: ClientOptions<S, R>;
  readonly #link: Link;
  readonly #lives = new Map<string, { readonly id: number; readonly live: Live }>();
  readonly #byId = new Map<number, Live>();
  readonly #writes = new Map<number, PendingWrite<unknown>>();
  readonly #clears = new Map<number, () => void>();
  /** Who waits for an answer. */
  readonly #asking = new Set<() => void>();
  readonly #listeners = new Set<() => void>();
  readonly #rooms = new Map<string, RoomClient>();
  readonly #preloaded: Map<string, readonly string[]>;
  #user: string;
  #nextId = 1;
  #isClosed = false;
  connection: Connection = NOT_CONNECTED;

  constructor(options: ClientOptions<S, R>, way: Way, directory: string | undefined) {
    this.#options = options;
    this.#user = options.auth.user ?? "";
    const { queries, records } = readPreloaded(options.preloaded, options.tenant);
    this.#preloaded = queries;
    const settings = {
      tenant: options.tenant,
      endpoints: options.endpoints,
      key: options.auth.key,
      user: options.auth.user,
      name: options.name ?? "default",
      persistence: options.persistence ?? "indexeddb",
      directory,
    };
    this.#link = new Link(way, settings, records, (message) => {
      this.#on(message);
    });
  }

  tx<T>(write: (tx: Tx<S>) => T): Write<T> {
    this.#checkOpen();
    const { text, value } = gather(this.#options.schema.entities, write);
    const pending = new PendingWrite(value);
    const id = this.#newId();
    this.#writes.set(id, pending);
    this.#link.send({ type: "write", id, changes: text });
    return pending;
  }

  follow<E extends Name<S>, R>(query: Query<S, E, R>): Followed<R> {
    const live = (): Live => this.#live(query as unknown as Query<S, Name<S>>);
    return {
      get result() {
        return live().result as unknown as Result<R>;
      },
      listen: (listener) => {
        const followed = live();
        const stop = followed.listen(listener);
        return () => {
          stop();
          this.#left(query.text, followed);
        };
      },
    };
  }

  query<E extends Name<S>, R>(
    query: Query<S, E, R>,
    options?: { readonly synced?: boolean },
  ): Promise<readonly R[]> {
    const followed = this.follow(query);
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const { data, isLoaded, status } = followed.result;
        const isThere = isLoaded && (!options?.synced || status === "synced");
        const error =
          followed.result.error ?? (isThere ? undefined : this.#hopeless(options?.synced === true));
        if (!error && !isThere) return;
        this.#asking.delete(look);
        queueMicrotask(() => {
          stop();
        });
        if (error) reject(error);
        else resolve(data);
      };
      this.#asking.add(look);
      const stop = followed.listen(look);
      look();
    });
  }

  room<K extends keyof R & string>(type: K, id: string, options?: RoomOptions<R[K]>): Room<R[K]> {
    const shape: RoomShape | undefined = this.#options.schema.rooms[type];
    if (!shape) throw new HalcyonError("INVALID_ROOM", `the schema has no room "${type}"`);
    const name = `${type}/${id}`;
    let room = this.#rooms.get(name);
    if (!room) {
      room = new RoomClient(
        name,
        shape,
        () => this.#user,
        (message) => {
          this.#link.send(message);
        },
      );
      this.#rooms.set(name, room);
    }
    return roomOf<R[K]>(room, options);
  }

  onConnection(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  setOnline(allowed: boolean): void {
    this.#link.send({ type: "network", allowed });
  }

  signIn(auth: { readonly key: string; readonly user?: string }): void {
    this.#user = auth.user ?? "";
    // What the key before was refused for does not hold of this one.
    this.connection = { ...this.connection, state: "connecting", error: undefined };
    this.#link.send({ type: "auth", key: auth.key, user: auth.user });
  }

  clear(): Promise<void> {
    this.#checkOpen();
    const id = this.#newId();
    const writes = [...this.#writes.keys()];
    return new Promise((resolve) => {
      this.#clears.set(id, () => {
        this.#cleared(writes);
        resolve();
      });
      this.#link.send({ type: "clear", id });
    });
  }

  /** Writes that were cleared before a node had answered for them. */
  #cleared(writes: Iterable<number>): void {
    const error = new HalcyonError("CLEARED", "local data were cleared before a node had the write");
    for (const id of [...writes]) {
      this.#writes.get(id)?.onSettled(error, []);
      this.#writes.delete(id);
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const look of this.#asking) look();
    await Promise.allSettled([...this.#writes.values()].map((write) => write.kept));
    await this.#link.close();
    const error = new HalcyonError("CLOSED", "the client was closed before a node had the write");
    for (const write of this.#writes.values()) write.onClosed(error);
    this.#writes.clear();
  }

  /** Why what is asked for now will not come. */
  #hopeless(isOfNode: boolean): HalcyonError | undefined {
    if (this.#isClosed) return new HalcyonError("CLOSED", "the client is closed");
    const { state, error } = this.connection;
    const isRefused = state === "refused" && error !== undefined && KEY_REFUSED.includes(error.code);
    return isOfNode && isRefused ? HalcyonError.from(error) : undefined;
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new HalcyonError("CLOSED", "the client is closed");
  }

  #newId(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  #live(query: Query<S, Name<S>>): Live {
    const { text } = query;
    const known = this.#lives.get(text);
    if (known) return known.live;
    const id = this.#newId();
    const { entities } = this.#options.schema;
    const report = (where: string): void => this.#options.onInvalidData?.(where);
    const shaped = shaper(entities, query.type, query.parts, report);
    const live = new Live(shaped, query.parts.limit, this.#preloaded.get(text));
    this.#lives.set(text, { id, live });
    this.#byId.set(id, live);
    this.#link.send({ type: "subscribe", id, query: text });
    // Whoever looked may not come back to listen: a component that was never shown, say.
    this.#lingers(text, live);
    return live;
  }

  #lingers(text: string, live: Live): void {
    setTimeout(() => {
      this.#letGo(text, live);
    }, LINGER_MS);
  }

  /** Nobody listens to it any more. */
  #left(text: string, live: Live): void {
    if (this.#lives.size > LINGERING_MAX) this.#letGo(text, live);
    else this.#lingers(text, live);
  }

  #letGo(text: string, live: Live): void {
    const known = this.#lives.get(text);
    if (!known || known.live !== live || live.listeners > 0 || this.#isClosed) return;
    this.#lives.delete(text);
    // By now the engine knows better.
    this.#preloaded.delete(text);
    this.#byId.delete(known.id);
    this.#link.send({ type: "unsubscribe", id: known.id });
  }

  #on(message: ToPage): void {
    switch (message.type) {
      case "news":
        this.#byId.get(message.id)?.onNews(message.text);
        break;
      case "refused-query":
        this.#byId.get(message.id)?.onError(message.error);
        break;
      case "written":
        this.#writes.get(message.id)?.onKept(message.error && HalcyonError.from(message.error));
        break;
      case "settled":
        this.#settled(message.id, message.error, message.superseded);
        break;
      case "rolled-back":
        this.#options.onRefused?.(HalcyonError.from(message.error));
        break;
      case "failed":
        this.#failed(message.error);
        break;
      case "degraded":
        this.#options.onFailed?.(HalcyonError.from(message.error));
        break;
      case "room":
        this.#rooms.get(message.news.room)?.onNews(message.news);
        break;
      case "room-state":
        this.#rooms.get(message.room)?.onState(message.connection, message.error);
        break;
      case "connection":
        this.#onConnection(message.connection);
        break;
      case "cleared":
        this.#clears.get(message.id)?.();
        this.#clears.delete(message.id);
        break;
      case "opened":
        // The engine has what was preloaded: its word counts from the first.
        if (message.tookPreloaded) for (const live of this.#byId.values()) live.release();
        break;
      case "restarted":
        if (message.isCleared) this.#cleared(this.#writes.keys());
        break;
      case "pong":
        break;
    }
  }

  #settled(id: number, shape: ErrorShape | undefined, superseded: readonly Superseded[]): void {
    const write = this.#writes.get(id);
    this.#writes.delete(id);
    const error = shape && HalcyonError.from(shape);
    write?.onSettled(error, superseded);
    if (error) this.#options.onRefused?.(error);
  }

  #failed(error: ErrorShape): void {
    for (const live of this.#byId.values()) live.onError(error);
    this.#options.onFailed?.(HalcyonError.from(error));
  }

  #onConnection(connection: Connection): void {
    this.connection = connection;
    for (const look of this.#asking) look();
    for (const listener of this.#listeners) listener();
  }
}

function entityClient<S extends Entities, R extends RoomShapes, E extends Name<S>>(
  client: Client<S, R>,
  entities: S,
  type: E,
) {
  return Object.assign(new Query<S, E>(entities, type), {
    insert: (values: never) => client.tx((tx) => tx[type].insert(values)),
    update: (of: never, values: never) =>
      client.tx((tx) => {
        tx[type].update(of, values);
      }),
    delete: (of: never) =>
      client.tx((tx) => {
        tx[type].delete(of);
      }),
  });
}

/** Opens the client. Nothing waits for a node: what this device has shows at once. */
export function createClient<const S extends Entities, const R extends RoomShapes = RoomShapes>(
  options: ClientOptions<S, R>,
): Db<S, R> {
  const files: Files = {
    worker: options.files?.worker ?? new URL("./worker.js", import.meta.url),
    wasm: options.files?.wasm ?? new URL("./halcyon.wasm", import.meta.url),
  };
  return openClient(options, workerWay(files, options.worker ?? "auto"));
}

/** The same, by another way to the engine. */
export function openClient<const S extends Entities, const R extends RoomShapes = RoomShapes>(
  options: ClientOptions<S, R>,
  way: Way,
  directory?: string,
): Db<S, R> {
  const client = new Client(options, way, directory);
  const { entities } = options.schema;
  const types = Object.keys(entities).map((type) => [type, entityClient(client, entities, type)]);
  const clash = Object.keys(entities).find((type) => type in client);
  if (clash !== undefined)
    throw new HalcyonError("INVALID_SCHEMA", `"${clash}" is a name of the client's own`);
  return Object.assign(client, Object.fromEntries(types)) as unknown as Db<S, R>;
}
