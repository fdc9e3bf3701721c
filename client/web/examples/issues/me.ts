// Who writes here. There is no sign-in: everybody with the tenant's key may say who they are.

import { useQuery } from "@halcyon/client/react";
import { useSyncExternalStore } from "react";
import { session } from "../shell/session";
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

/** Pages of different regions are different people until somebody chooses. */
const place = Math.max(0, session?.regions.findIndex(({ region }) => region === session?.here) ?? 0);

/** Whom this browser writes as: whoever was chosen, else one of the first people. */
export function useSelf() {
  const chosen = useSyncExternalStore(listen, () => localStorage.getItem(KEY));
  const { data } = useQuery(db, people);
  return data.find((person) => person.id === chosen) ?? data[place] ?? data[0];
}

export const useMe = (): string | undefined => useSelf()?.id;
