// Stores for Svelte 5: what is read in an effect or a template is followed while that is there. They are Svelte stores
// too, so that `$issues` works.

import { createSubscriber } from "svelte/reactivity";
import type { Followed, HalcyonClient } from "./client";
import type { Result } from "./live";
import type { Connection } from "./protocol";
import type { Query } from "./query/query";
import { share } from "./query/rows";
import type { Peer, Room } from "./room";
import type { Entities, Name, RoomShape, RoomShapes } from "./schema/schema";

/** A value that moves. */
export interface Store<T> {
  /** As it is now. An effect or a template that reads it runs again when it changes. */
  readonly current: T;
  /** Svelte's store contract: calls at once, and after each change. */
  subscribe(run: (value: T) => void): () => void;
}

function store<T>(read: () => T, listen: (listener: () => void) => () => void): Store<T> {
  const follow = createSubscriber(listen);
  return {
    get current() {
      follow();
      return read();
    },
    subscribe(run) {
      const stop = listen(() => {
        run(read());
      });
      run(read());
      return stop;
    },
  };
}

/** The live result of a query, its parts beside `current`. */
export interface QueryStore<T> extends Store<Result<T>>, Result<T> {}

/**
 * The live result of a query. Given a function, it follows what that gives now: state that it reads makes another query of
 * it, as in `useQuery(db, () => db.issues.where({ open: filter.open }))`.
 */
export function useQuery<S extends Entities, R extends RoomShapes, E extends Name<S>, T>(
  db: HalcyonClient<S, R>,
  query: Query<S, E, T> | (() => Query<S, E, T>),
): QueryStore<T> {
  const wanted = typeof query === "function" ? query : () => query;
  let text: string | undefined;
  let now: Store<Result<T>> | undefined;
  const followed = (): Store<Result<T>> => {
    const query = wanted();
    if (!now || query.text !== text) {
      text = query.text;
      const followed: Followed<T> = db.follow(query);
      now = store(
        () => followed.result,
        (listener) => followed.listen(listener),
      );
    }
    return now;
  };
  return {
    get current() {
      return followed().current;
    },
    get data() {
      return followed().current.data;
    },
    get isLoaded() {
      return followed().current.isLoaded;
    },
    get status() {
      return followed().current.status;
    },
    get hasMore() {
      return followed().current.hasMore;
    },
    get error() {
      return followed().current.error;
    },
    subscribe: (run) => followed().subscribe(run),
  };
}

/** The connection, as it is now. */
export function useConnection<S extends Entities, R extends RoomShapes>(
  db: HalcyonClient<S, R>,
): Store<Connection> {
  return store(
    () => db.connection,
    (listener) => db.onConnection(listener),
  );
}

/** A room as it is now. It is entered while somebody looks. */
export function useRoom<D extends RoomShape>(room: Room<D>): Store<Room<D>["state"]> {
  return store(
    () => room.state,
    (listener) => room.listen(listener),
  );
}

/** Who else is in a room, and what they do. What `select` leaves out is no reason to run again. */
export function usePresence<D extends RoomShape, T = Room<D>["presence"]>(
  room: Room<D>,
  options?: { readonly select?: (presence: Room<D>["presence"]) => T },
): Store<readonly Peer<T>[]> & { readonly set: (presence: Room<D>["presence"]) => void } {
  const select = options?.select ?? ((presence: Room<D>["presence"]) => presence as unknown as T);
  let last: readonly Peer<T>[] = [];
  const read = (): readonly Peer<T>[] => {
    const peers = room.state.peers.map((peer) => {
      const before = last.find(({ id }) => id === peer.id);
      const now = { ...peer, presence: select(peer.presence) };
      return share(before, before ? { ...now, lastSeen: before.lastSeen } : now);
    });
    last = share(last, peers) as readonly Peer<T>[];
    return last;
  };
  const peers = store(read, (listener) => {
    let told = read();
    return room.listen(() => {
      const now = read();
      if (now === told) return;
      told = now;
      listener();
    });
  });
  return Object.assign(Object.create(peers) as Store<readonly Peer<T>[]>, {
    set: (presence: Room<D>["presence"]) => {
      room.set(presence);
    },
  });
}
