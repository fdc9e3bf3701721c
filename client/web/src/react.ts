// Hooks for React: results as external stores, so that every component of one render sees one state.

import { useCallback, useMemo, useSyncExternalStore } from "react";
import type { HalcyonClient } from "./client";
import type { Result } from "./live";
import type { Connection } from "./protocol";
import type { Query } from "./query/query";
import type { Entities, Name } from "./schema/schema";

/** The live result of a query. It may be made anew on each render: equal queries share one result. */
export function useQuery<S extends Entities, E extends Name<S>, R>(
  db: HalcyonClient<S>,
  query: Query<S, E, R>,
): Result<R> {
  const { text } = query;
  const followed = useMemo(() => db.follow(query), [db, text]);
  const listen = useCallback((listener: () => void) => followed.listen(listener), [followed]);
  return useSyncExternalStore(listen, () => followed.result);
}

/** The connection, as it is now. */
export function useConnection<S extends Entities>(db: HalcyonClient<S>): Connection {
  const listen = useCallback((listener: () => void) => db.onConnection(listener), [db]);
  return useSyncExternalStore(listen, () => db.connection);
}
