// Hooks for React: results as external stores, so that every component of one render sees one state.

import { useCallback, useMemo, useRef, useSyncExternalStore } from "react";
import type { Followed, HalcyonClient } from "./client";
import type { HalcyonError } from "./errors";
import type { Result } from "./live";
import type { Connection } from "./protocol";
import type { Query } from "./query/query";
import type { Filter } from "./query/types";
import { share } from "./query/rows";
import type { Peer, Room } from "./room";
import type { Entities, Name, RoomShape, RoomShapes } from "./schema/schema";

/** The live result of a query. It may be made anew on each render: equal queries share one result. */
export function useQuery<S extends Entities, R extends RoomShapes, E extends Name<S>, T>(
  db: HalcyonClient<S, R>,
  query: Query<S, E, T>,
): Result<T> {
  const { text } = query;
  const followed = useMemo(() => db.follow(query), [db, text]);
  return useFollowed(followed);
}

function useFollowed<T>(followed: Followed<T>): Result<T> {
  const listen = useCallback((listener: () => void) => followed.listen(listener), [followed]);
  const result = (): Result<T> => followed.result;
  return useSyncExternalStore(listen, result, result);
}

export interface SuspenseOptions {
  /** Waits for a node too, as long as one may answer: until the first result that is synced, stale or offline. */
  readonly synced?: boolean;
}

/** For each client, the results that components wait for, by the queries' texts. */
const awaited = new WeakMap<object, Map<string, Promise<void>>>();

function isThere(result: Result<unknown>, { synced = false }: SuspenseOptions): boolean {
  if (result.error) return true;
  return result.isLoaded && !(synced && (result.status === "local" || result.status === "syncing"));
}

/** Resolves when the result is there. The same promise for all who wait for it. */
function whenThere<T>(
  db: object,
  text: string,
  followed: Followed<T>,
  options: SuspenseOptions,
): Promise<void> {
  const ofClient = awaited.get(db) ?? new Map<string, Promise<void>>();
  awaited.set(db, ofClient);
  const key = `${options.synced === true ? "synced" : "loaded"} ${text}`;
  let promise = ofClient.get(key);
  if (!promise) {
    promise = new Promise((resolve) => {
      const look = (): void => {
        if (!isThere(followed.result, options)) return;
        ofClient.delete(key);
        resolve();
        // Whoever waited has time to come and listen.
        queueMicrotask(() => {
          stop();
        });
      };
      const stop = followed.listen(look);
      look();
    });
    ofClient.set(key, promise);
  }
  return promise;
}

export interface SuspenseResult<T> extends Result<T> {
  readonly isLoaded: true;
  readonly error: undefined;
}

/** The same, under a `Suspense`: the component is shown when there is a result. An error goes to its error boundary. */
export function useSuspenseQuery<S extends Entities, R extends RoomShapes, E extends Name<S>, T>(
  db: HalcyonClient<S, R>,
  query: Query<S, E, T>,
  options: SuspenseOptions = {},
): SuspenseResult<T> {
  // A component that has not been shown keeps nothing from one attempt to the next, but a followed query is one of `db`.
  const { text } = query;
  const followed = useMemo(() => db.follow(query), [db, text]);
  const wasThere = useRef("");
  const result = useFollowed(followed);
  if (result.error) throw result.error satisfies HalcyonError;
  // What was shown once is not hidden again because a node went away.
  if (wasThere.current !== text && !isThere(result, options)) throw whenThere(db, text, followed, options);
  wasThere.current = text;
  return result as SuspenseResult<T>;
}

export interface EntityResult<T> extends Omit<Result<T>, "data" | "hasMore"> {
  /** Undefined while it is not there, or is gone. */
  readonly data: T | undefined;
}

/** One entity of a query by its id: `useEntity(db, db.issues.include({ author: true }), id)`. */
export function useEntity<S extends Entities, R extends RoomShapes, E extends Name<S>, T>(
  db: HalcyonClient<S, R>,
  query: Query<S, E, T>,
  id: string,
): EntityResult<T> {
  const one = query.where({ id } as unknown as Filter<S, E>);
  const { data, isLoaded, status, error } = useQuery(db, one);
  return { data: data[0], isLoaded, status, error };
}

/** The connection, as it is now. */
export function useConnection<S extends Entities, R extends RoomShapes>(db: HalcyonClient<S, R>): Connection {
  const listen = useCallback((listener: () => void) => db.onConnection(listener), [db]);
  const connection = (): Connection => db.connection;
  return useSyncExternalStore(listen, connection, connection);
}

/** A room as it is now. It is entered while the component is there. */
export function useRoom<D extends RoomShape>(room: Room<D>): Room<D>["state"] {
  const { name } = room;
  const same = useMemo(() => room, [name]);
  const listen = useCallback((listener: () => void) => same.listen(listener), [same]);
  const state = (): Room<D>["state"] => same.state;
  return useSyncExternalStore(listen, state, state);
}

export interface PresenceOptions<P, T> {
  /** What of a peer's presence is looked at; the component renders when that changes, and not otherwise. */
  readonly select?: (presence: P) => T;
}

type PresenceIn<D extends RoomShape> = Room<D>["presence"];

export interface Presence<P, T> {
  readonly peers: readonly Peer<T>[];
  /** Says what this connection does. */
  readonly set: (presence: P) => void;
}

/** Who else is in a room, and what they do. */
export function usePresence<D extends RoomShape, T = PresenceIn<D>>(
  room: Room<D>,
  options?: PresenceOptions<PresenceIn<D>, T>,
): Presence<PresenceIn<D>, T> {
  const { name } = room;
  const same = useMemo(() => room, [name]);
  const last = useRef<readonly Peer<T>[]>([]);
  const listen = useCallback((listener: () => void) => same.listen(listener), [same]);
  const select = options?.select ?? ((presence: PresenceIn<D>) => presence as unknown as T);
  const look = (): readonly Peer<T>[] => {
    const selected = same.state.peers.map((peer) => {
      const before = last.current.find(({ id }) => id === peer.id);
      const now = { ...peer, presence: select(peer.presence) };
      // When it was last seen is no reason to render.
      return share(before, before ? { ...now, lastSeen: before.lastSeen } : now);
    });
    last.current = share(last.current, selected) as readonly Peer<T>[];
    return last.current;
  };
  const peers = useSyncExternalStore(listen, look, look);
  const set = useCallback(
    (presence: PresenceIn<D>) => {
      same.set(presence);
    },
    [same],
  );
  return { peers, set };
}
