// Where the data stands, and a switch that cuts this browser off.

import { useConnection } from "@halcyon/client/react";
import { useState } from "react";
import { db } from "./db";

export function Connection() {
  const connection = useConnection(db);
  const [isOnline, setIsOnline] = useState(true);
  return (
    <header className={connection.state}>
      <strong>Issues</strong>
      <span className="lamp" aria-hidden="true" />
      <span role="status">
        {connection.state}
        {connection.waiting > 0 ? `, ${connection.waiting} waiting` : ""}
        {connection.region ? ` · ${connection.region}` : ""}
        {connection.error ? ` · ${connection.error.message}` : ""}
      </span>
      <button
        type="button"
        aria-pressed={!isOnline}
        onClick={() => {
          db.setOnline(!isOnline);
          setIsOnline(!isOnline);
        }}
      >
        {isOnline ? "Go offline" : "Go online"}
      </button>
    </header>
  );
}
