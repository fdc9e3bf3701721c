// Who writes here. There is no sign-in: everybody with the tenant's key may say who they are.

import { useQuery } from "@halcyon/client/react";
import { useSyncExternalStore } from "react";
import { db } from "./db";

const KEY = "halcyon-me";
const listeners = new Set<() => void>();

export const people = db.user.orderBy("name");

export function become(id: string): void {
  localStorage.setItem(KEY, id);
  for (const listener of listeners) listener();
}

function listen(listener: () => void): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

/** The id of whom this browser writes as: whoever was chosen, else the first person. */
export function useMe(): string | undefined {
  const chosen = useSyncExternalStore(listen, () => localStorage.getItem(KEY));
  const { data } = useQuery(db, people);
  return data.find((person) => person.id === chosen)?.id ?? data[0]?.id;
}
