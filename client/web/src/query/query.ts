// A query: an immutable typed value. Each method gives a new one; `text` is what makes two of them equal.

import type { Row, Entities, FieldsOf, Name } from "../schema/schema";
import { lower, placeOf, type Bag, type IncludeBag, type Parts } from "./lower";
import { rawOf } from "./rows";
import type { Direction, Filter, Include, Included, OrderName } from "./types";

const EMPTY: Parts = {
  where: [],
  order: [],
  limit: undefined,
  include: {},
  select: undefined,
  after: undefined,
};

/** A row, or as much of one as its place in an order needs. */
export type PlaceIn<F> = { readonly id: string } & { readonly [K in keyof F]?: unknown };

export class Query<S extends Entities, E extends Name<S>, R = Row<S, E>> {
  readonly entities: S;
  readonly type: E;
  readonly parts: Parts;
  /** Only a type: what a row of the answer is. */
  declare readonly row?: R;
  #text: string | undefined;

  constructor(entities: S, type: E, parts: Parts = EMPTY) {
    this.entities = entities;
    this.type = type;
    this.parts = parts;
  }

  /** Rows for which the filter holds, beside the filters given before. */
  where(filter: Filter<S, E>): Query<S, E, R> {
    return this.#with({ where: [...this.parts.where, filter as Bag] });
  }

  /** The next key of the order. Ties go by id. */
  orderBy(by: OrderName<S, E>, direction: Direction = "asc"): Query<S, E, R> {
    return this.#with({ order: [...this.parts.order, [by, direction]] });
  }

  limit(limit: number): Query<S, E, R> {
    return this.#with({ limit });
  }

  /** Rows behind this one, in this query's order: the page after the page whose last row it is. */
  after(row: PlaceIn<FieldsOf<S, E>>): Query<S, E, R> {
    const { entities, type, parts } = this;
    return this.#with({ after: placeOf(entities, type, parts.order, row as Bag, rawOf(row)) });
  }

  /** Puts the entities that links lead to in the place of their ids. */
  include<const I extends Include<S, E>>(include: I): Query<S, E, Included<S, E, R, I>> {
    const added = include as Readonly<Record<string, true | IncludeBag>>;
    return this.#with({ include: { ...this.parts.include, ...added } });
  }

  /** Only these fields, and what is included. */
  select<const K extends keyof FieldsOf<S, E> & string>(
    ...fields: readonly K[]
  ): Query<S, E, Omit<R, Exclude<keyof FieldsOf<S, E>, K>>> {
    return this.#with({ select: fields });
  }

  /** The query as the engine takes it. */
  get text(): string {
    this.#text ??= JSON.stringify(lower(this.entities, this.type, this.parts));
    return this.#text;
  }

  #with<Next>(parts: Partial<Parts>): Query<S, E, Next> {
    return new Query<S, E, Next>(this.entities, this.type, { ...this.parts, ...parts });
  }
}
