// How the page is connected, what waits to be sent, and a switch that cuts it off.

import type { ConnectionState, Entities, HalcyonClient, RoomShapes } from "@halcyon/client";
import { useConnection } from "@halcyon/client/react";
import { useCallback, useState } from "react";
import { useFrame } from "./frame";
import { session } from "./session";

export const WORDS: Readonly<Record<ConnectionState, string>> = {
  connecting: "connecting",
  syncing: "syncing",
  synced: "synced",
  offline: "offline",
  refused: "refused",
};

export const changes = (count: number): string => (count === 1 ? "1 change" : `${count} changes`);

export function Connection<S extends Entities, R extends RoomShapes>({
  db,
}: {
  readonly db: HalcyonClient<S, R>;
}) {
  const { state, waiting, region, error } = useConnection(db);
  const [isOnline, setIsOnline] = useState(true);
  const turn = useCallback(
    (next: boolean) => {
      db.setOnline(next);
      setIsOnline(next);
    },
    [db],
  );
  useFrame({ state, waiting }, turn);
  const place = region ?? session?.here;
  return (
    <div className={`connection ${state}`}>
      <span role="status">
        <span className="lamp" aria-hidden="true" />
        {place ? <b>{place}</b> : null}
        <span>
          {WORDS[state]}
          {waiting > 0 ? `, ${changes(waiting)} waiting` : ""}
          {error && state === "refused" ? `: ${error.message}` : ""}
        </span>
      </span>
      <button
        type="button"
        onClick={() => {
          turn(!isOnline);
        }}
      >
        {isOnline ? "Go offline" : "Go online"}
      </button>
    </div>
  );
}
