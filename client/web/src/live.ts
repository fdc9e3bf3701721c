// A query's result on the page: one for each distinct query, shared by all that look at it.

import { HalcyonError, type ErrorShape } from "./errors";
import { callAll } from "./listeners";
import type { Status } from "./protocol";
import { NextRows, type News, type Plain, type Shaper } from "./query/rows";

export interface Result<R> {
  readonly data: readonly R[];
  /** The engine has answered; before that `data` is empty because nothing is known. */
  readonly isLoaded: boolean;
  readonly status: Status;
  readonly hasMore: boolean;
  readonly error: HalcyonError | undefined;
}

export class Live {
  readonly #shaped: Shaper;
  readonly #limit: number | undefined;
  readonly #listeners = new Set<() => void>();
  #rows: readonly Plain[] = [];
  /** The parts that are here of an answer that is on its way. */
  #coming: NextRows | undefined;
  #result: Result<Plain>;
  /** What was preloaded shows, until the engine knows as much. */
  #isHeld = false;

  constructor(shaped: Shaper, limit: number | undefined, preloaded: readonly string[] = []) {
    this.#shaped = shaped;
    this.#limit = limit;
    this.#result = { data: [], isLoaded: false, status: "local", hasMore: false, error: undefined };
    if (preloaded.length === 0) return;
    for (const text of preloaded) this.onNews(text);
    this.#result = { ...this.#result, status: "local" };
    this.#isHeld = true;
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
    const { status = this.#result.status } = news;
    // What a node refused another may take.
    const old = status === "synced" ? undefined : this.#result.error;
    const error = news.error ? HalcyonError.from(news.error) : old;
    const isSettled = error !== undefined || (status !== "local" && status !== "syncing");
    if (!news.rows && !news.edits) {
      // What came while the preloaded answer was held shows now.
      if (this.#isHeld && isSettled) this.#show(status, error);
      else this.#set({ status, error });
      return;
    }
    const rows = this.#take(news);
    if (!rows) return;
    this.#rows = rows;
    if (this.#isHeld && !isSettled) {
      this.#set({ status, error });
      return;
    }
    this.#show(status, error);
  }

  /** The next list, when all of it is here. */
  #take(news: News): readonly Plain[] | undefined {
    if (!news.at) this.#coming = new NextRows(this.#rows, this.#shaped);
    const coming = this.#coming;
    this.#coming = undefined;
    // What goes on with something else came late, from a worker that is gone: the next one begins anew.
    if (!coming?.isNext(news)) return undefined;
    const rows = coming.take(news);
    if (!rows) this.#coming = coming;
    return rows;
  }

  /** The engine's word counts from here on. */
  release(): void {
    this.#isHeld = false;
  }

  #show(status: Status, error: HalcyonError | undefined): void {
    this.#isHeld = false;
    // One row more than the limit was asked for.
    const hasMore = this.#limit !== undefined && this.#rows.length > this.#limit;
    const shown = hasMore ? this.#rows.slice(0, this.#limit) : this.#rows;
    const before = this.#result.data;
    const isSame = shown.length === before.length && shown.every((row, at) => row === before[at]);
    this.#set({ data: isSame ? before : shown, isLoaded: true, hasMore, status, error });
  }

  onError(error: ErrorShape): void {
    this.#set({ error: HalcyonError.from(error) });
  }

  #set(next: Partial<Result<Plain>>): void {
    this.#result = { ...this.#result, ...next };
    callAll(this.#listeners);
  }
}
