// What a server sends along with a page: answers to show at once, and the engine's records behind them.

import type { Preloaded } from "./protocol";

interface Text {
  readonly format: number;
  readonly tenant: string;
  /** Queries, and what the engine told of each. */
  readonly queries: readonly (readonly [string, readonly string[]])[];
  /** In base64. */
  readonly records: string;
}

/** Another format is of another release: the page loads as if nothing came along. */
const FORMAT = 2;

/** For `String.fromCharCode`, which takes no more arguments than a stack holds. */
const CHUNK = 8_192;

/** Text that may stand in HTML: no `<` ends a script. */
export function writePreloaded(tenant: string, queries: Text["queries"], records: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < records.length; at += CHUNK) {
    binary += String.fromCharCode(...records.subarray(at, at + CHUNK));
  }
  const text: Text = { format: FORMAT, tenant, queries, records: btoa(binary) };
  return JSON.stringify(text).replaceAll("<", "\\u003c");
}

export function readPreloaded(
  text: string | undefined,
  tenant: string,
): { readonly queries: Map<string, readonly string[]>; readonly records: Preloaded | undefined } {
  const nothing = { queries: new Map<string, readonly string[]>(), records: undefined };
  if (text === undefined || text === "") return nothing;
  const preloaded = JSON.parse(text) as Text;
  if (preloaded.format !== FORMAT || preloaded.tenant !== tenant) return nothing;
  const records = Uint8Array.from(atob(preloaded.records), (letter) => letter.charCodeAt(0));
  return { queries: new Map(preloaded.queries), records };
}
