// The client on the page: typed queries and writes over one link to the worker.

import { HalcyonError, type ErrorShape } from "./errors";
import { Link, workerWay, type Files, type Way } from "./link";
import { callAll } from "./listeners";
import { Live, type Result } from "./live";
import { readPreloaded } from "./preloaded";
import type { Connection, ToPage } from "./protocol";
import { Query } from "./query/query";
import { shaper } from "./query/rows";
import { roomOf, RoomClient, type Room, type RoomOptions } from "./room";
import type { Entities, FieldsOf, Name, RoomShape, RoomShapes, Row, Schema } from "./schema/schema";
import { gather, type EntityTx, type Tx } from "./tx";
import { PendingWrite, Writes, type Write } from "./writes";

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
  /**
   * Removes all local data of this name, pending writes included, and starts anew. Rejects where the disk does not let it:
   * then all is as it was.
   */
  clear(): Promise<void>;
  /** Ends the client when its writes are on this device's disk, or are not taken there. Nothing moves after that. */
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
/** So many of them; the oldest goes first. A session follows 256 queries. */
const LINGERING_MAX = 64;

type Answer = (error: HalcyonError | undefined) => void;

class Client<S extends Entities, R extends RoomShapes> implements HalcyonClient<S, R> {
  readonly #options: ClientOptions<S, R>;
  readonly #link: Link;
  readonly #lives = new Map<string, { readonly id: number; readonly live: Live }>();
  readonly #byId = new Map<number, Live>();
  /** Results nobody listens to, the oldest first, by their queries' texts. */
  readonly #lingering = new Map<string, Live>();
  readonly #writes = new Writes();
  readonly #clears = new Map<number, Answer>();
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
    this.#writes.add(id, pending);
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
        this.#lingering.delete(query.text);
        const stop = followed.listen(listener);
        return () => {
          stop();
          this.#lingers(query.text, followed);
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
    if (this.connection.state === "refused")
      this.#onConnection({ ...this.connection, state: "connecting", error: undefined });
    this.#link.send({ type: "auth", key: auth.key, user: auth.user });
  }

  clear(): Promise<void> {
    this.#checkOpen();
    if (this.#writes.failure) return Promise.reject(this.#writes.failure);
    const id = this.#newId();
    return new Promise((resolve, reject) => {
      this.#clears.set(id, (error) => {
        if (error) reject(error);
        else resolve();
      });
      this.#link.clear(id);
    });
  }

  /** Nothing of before is true any more. */
  #cleared(writes?: readonly number[]): void {
    this.#writes.onCleared(writes);
    this.#preloaded.clear();
    for (const live of this.#byId.values()) live.release();
  }

  #answerClears(error?: HalcyonError): void {
    for (const answer of this.#clears.values()) answer(error);
    this.#clears.clear();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const look of this.#asking) look();
    await this.#writes.kept();
    await this.#link.close();
    this.#writes.onClosed();
    this.#answerClears(new HalcyonError("CLOSED", "the client was closed before local data were cleared"));
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
    const report = (where: string): void => {
      callAll([this.#options.onInvalidData], where);
    };
    const shaped = shaper(entities, query.type, query.parts, report);
    const live = new Live(shaped, query.parts.limit, this.#preloaded.get(text));
    this.#lives.set(text, { id, live });
    this.#byId.set(id, live);
    this.#link.send({ type: "subscribe", id, query: text });
    // Whoever looked may not come back to listen: a component that was never shown, say.
    this.#lingers(text, live);
    return live;
  }

  /** Nobody listens to it now. */
  #lingers(text: string, live: Live): void {
    if (this.#lives.get(text)?.live !== live || live.listeners > 0) return;
    this.#lingering.delete(text);
    this.#lingering.set(text, live);
    setTimeout(() => {
      this.#letGo(text, live);
    }, LINGER_MS);
    const [oldest] = this.#lingering;
    if (oldest && this.#lingering.size > LINGERING_MAX) this.#letGo(...oldest);
  }

  #letGo(text: string, live: Live): void {
    const known = this.#lives.get(text);
    if (!known || known.live !== live || live.listeners > 0 || this.#isClosed) return;
    this.#lingering.delete(text);
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
        this.#writes.onKept(message.id, message.error);
        break;
      case "settled":
        this.#settled(message);
        break;
      case "rolled-back":
        callAll([this.#options.onRefused], HalcyonError.from(message.error));
        break;
      case "failed":
        this.#failed(message.error);
        break;
      case "degraded":
        callAll([this.#options.onFailed], HalcyonError.from(message.error));
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
        this.#onCleared(message);
        break;
      case "opened":
        this.#writes.onOpened();
        // The engine has what was preloaded: its word counts from the first.
        if (message.tookPreloaded) for (const live of this.#byId.values()) live.release();
        break;
      case "restarted":
        if (message.isCleared) {
          this.#cleared();
          this.#answerClears();
        }
        break;
      case "network":
      case "pong":
        break;
    }
  }

  #onCleared({ id, error, writes }: Extract<ToPage, { readonly type: "cleared" }>): void {
    if (!error) this.#cleared(writes);
    this.#clears.get(id)?.(error && HalcyonError.from(error));
    this.#clears.delete(id);
  }

  #settled({ id, error: shape, superseded }: Extract<ToPage, { readonly type: "settled" }>): void {
    const error = shape && HalcyonError.from(shape);
    this.#writes.onSettled(id, error, superseded);
    if (error) callAll([this.#options.onRefused], error);
  }

  #failed(error: ErrorShape): void {
    for (const live of this.#byId.values()) live.onError(error);
    const failure = HalcyonError.from(error);
    this.#writes.onFailed(failure);
    // Without an engine there is nothing to clear either.
    this.#answerClears(failure);
    callAll([this.#options.onFailed], failure);
  }

  #onConnection(connection: Connection): void {
    this.connection = connection;
    for (const look of this.#asking) look();
    callAll(this.#listeners);
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
