// The address after `#/`, in parts.

import { useSyncExternalStore } from "react";

const text = (): string => location.hash.replace(/^#\/?/, "");

function listen(listener: () => void): () => void {
  addEventListener("hashchange", listener);
  return () => {
    removeEventListener("hashchange", listener);
  };
}

export function useRoute(): readonly string[] {
  return useSyncExternalStore(listen, text).split("/").map(decodeURIComponent);
}

export const to = (...parts: readonly string[]): string => `#/${parts.map(encodeURIComponent).join("/")}`;

export function go(...parts: readonly string[]): void {
  location.hash = to(...parts);
}
