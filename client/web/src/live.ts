// A query's result on the page: one for each distinct query, shared by all that look at it.

import { HalcyonError, type ErrorShape } from "./errors";
import type { Connection } from "./protocol";
import { applyNews, type News, type Plain, type Shaper } from "./query/rows";

/** How far a result can be trusted. */
export type Status =
  /** From this device; no node has been heard yet. */
  | "local"
  /** What was missed is coming in. */
  | "syncing"
  /** As the node has it. */
  | "synced"
  /** It was synced; the connection is being made again. */
  | "stale"
  | "offline";

export interface Result<R> {
  readonly data: readonly R[];
  /** The engine has answered; before that `data` is empty because nothing is known. */
  readonly isLoaded: boolean;
  readonly status: Status;
  readonly hasMore: boolean;
  readonly error: HalcyonError | undefined;
}

export function statusOf(connection: Connection): Status {
  switch (connection.state) {
    case "synced":
    case "syncing":
      return connection.state;
    case "connecting":
      return connection.wasSynced ? "stale" : "local";
    case "offline":
    case "refused":
      return "offline";
  }
}

export class Live {
  readonly #shaped: Shaper;
  readonly #limit: number | undefined;
  readonly #listeners = new Set<() => void>();
  #rows: readonly Plain[] = [];
  #result: Result<Plain>;

  constructor(shaped: Shaper, limit: number | undefined, status: Status) {
    this.#shaped = shaped;
    this.#limit = limit;
    this.#result = { data: [], isLoaded: false, status, hasMore: false, error: undefined };
  }

  /** The same object until something changes. */
  get result(): Result<Plain> {
    return this.#result;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  onNews(text: string): void {
    const news = JSON.parse(text) as News;
    if (news.error !== undefined) {
      this.onError({ code: "QUERY_FAILED", message: news.error });
      return;
    }
    this.#rows = applyNews(this.#rows, news, this.#shaped);
    // One row more than the limit was asked for.
    const hasMore = this.#limit !== undefined && this.#rows.length > this.#limit;
    const shown = hasMore ? this.#rows.slice(0, this.#limit) : this.#rows;
    const before = this.#result.data;
    const isSame = shown.length === before.length && shown.every((row, at) => row === before[at]);
    this.#set({ data: isSame ? before : shown, isLoaded: true, hasMore, error: undefined });
  }

  onError(error: ErrorShape): void {
    this.#set({ error: HalcyonError.from(error) });
  }

  onStatus(status: Status): void {
    if (status !== this.#result.status) this.#set({ status });
  }

  #set(next: Partial<Result<Plain>>): void {
    this.#result = { ...this.#result, ...next };
    for (const listener of this.#listeners) listener();
  }
}
