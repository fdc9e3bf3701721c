// Hooks for React: results as external stores, so that every component of one render sees one state.

import { useCallback, useMemo, useRef, useSyncExternalStore } from "react";
import type { HalcyonClient } from "./client";
import type { Result } from "./live";
import type { Connection } from "./protocol";
import type { Query } from "./query/query";
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
  const listen = useCallback((listener: () => void) => followed.listen(listener), [followed]);
  return useSyncExternalStore(listen, () => followed.result);
}

/** The connection, as it is now. */
export function useConnection<S extends Entities, R extends RoomShapes>(db: HalcyonClient<S, R>): Connection {
  const listen = useCallback((listener: () => void) => db.onConnection(listener), [db]);
  return useSyncExternalStore(listen, () => db.connection);
}

/** A room as it is now. It is entered while the component is there. */
export function useRoom<D extends RoomShape>(room: Room<D>): Room<D>["state"] {
  const { name } = room;
  const same = useMemo(() => room, [name]);
  const listen = useCallback((listener: () => void) => same.listen(listener), [same]);
  return useSyncExternalStore(listen, () => same.state);
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
  const peers = useSyncExternalStore(listen, () => {
    const selected = same.state.peers.map((peer) => {
      const before = last.current.find(({ id }) => id === peer.id);
      const now = { ...peer, presence: select(peer.presence) };
      // When it was last seen is no reason to render.
      return share(before, before ? { ...now, lastSeen: before.lastSeen } : now);
    });
    last.current = share(last.current, selected) as readonly Peer<T>[];
    return last.current;
  });
  const set = useCallback(
    (presence: PresenceIn<D>) => {
      same.set(presence);
    },
    [same],
  );
  return { peers, set };
}
