// Types of filters and includes, and of what a query with includes gives.

import type { AnyField, RefField, RefManyField, ValueField } from "../schema/fields";
import type { Entities, FieldsOf, InverseName, InverseType, Name, Reference, Row } from "../schema/schema";

export type Direction = "asc" | "desc";

/** Tests of one value. Several of them must all hold. */
export interface Tests<T> {
  readonly eq?: T;
  readonly ne?: T;
  readonly gt?: T;
  readonly gte?: T;
  readonly lt?: T;
  readonly lte?: T;
  readonly in?: readonly T[];
  readonly exists?: boolean;
}

export interface TextTests extends Tests<string> {
  readonly startsWith?: string;
  /** Case counts. */
  readonly contains?: string;
}

type FieldFilter<S extends Entities, F extends AnyField> =
  F extends RefField<infer T, string>
    ? Reference | null | { readonly in: readonly Reference[] } | Filter<S, T & Name<S>>
    : F extends RefManyField<infer T, string>
      ? { readonly has: Reference } | Filter<S, T & Name<S>>
      : F extends ValueField<infer T, boolean, boolean>
        ? T extends string
          ? T | null | TextTests
          : T | null | Tests<T>
        : never;

/** What must hold of an entity. Members must all hold; of a reference, the entity behind it is meant. */
export type Filter<S extends Entities, E extends Name<S>> = {
  readonly [K in keyof FieldsOf<S, E>]?: FieldFilter<S, FieldsOf<S, E>[K]> | undefined;
} & {
  readonly [N in InverseName<S, E>]?: Filter<S, InverseType<S, E, N>> | undefined;
} & {
  readonly id?: string | { readonly in: readonly string[] };
  readonly and?: readonly Filter<S, E>[];
  readonly or?: readonly Filter<S, E>[];
  readonly not?: Filter<S, E>;
};

type RefName<F> = {
  [K in keyof F]: F[K] extends { readonly kind: "ref" | "refMany" } ? K : never;
}[keyof F] &
  string;

/** References and reverse sides of an entity. */
export type LinkName<S extends Entities, E extends Name<S>> = RefName<FieldsOf<S, E>> | InverseName<S, E>;

/** The type of the entities behind a link. */
export type LinkType<S extends Entities, E extends Name<S>, L extends string> =
  L extends RefName<FieldsOf<S, E>> ? FieldsOf<S, E>[L]["target"] & Name<S> : InverseType<S, E, L> & Name<S>;

export type OrderName<S extends Entities, E extends Name<S>> = (keyof FieldsOf<S, E> & string) | "id";

export interface IncludeOptions<S extends Entities, E extends Name<S>> {
  readonly where?: Filter<S, E>;
  readonly orderBy?: OrderName<S, E> | readonly [OrderName<S, E>, Direction];
  readonly limit?: number;
  readonly include?: Include<S, E>;
}

export type Include<S extends Entities, E extends Name<S>> = {
  readonly [L in LinkName<S, E>]?: true | IncludeOptions<S, LinkType<S, E, L>>;
};

type IsOne<S extends Entities, E extends Name<S>, L extends string> =
  L extends RefName<FieldsOf<S, E>> ? (FieldsOf<S, E>[L]["kind"] extends "ref" ? true : false) : false;

type Inside<S extends Entities, E extends Name<S>, O> = O extends { readonly include: infer I }
  ? Included<S, E, Row<S, E>, I>
  : Row<S, E>;

type Flat<T> = { [K in keyof T]: T[K] };

/** A row with what its links lead to in their place. An unresolved reference is null. */
export type Included<S extends Entities, E extends Name<S>, R, I> = Flat<
  Omit<R, keyof I> & {
    readonly [L in keyof I & string]: IsOne<S, E, L> extends true
      ? Inside<S, LinkType<S, E, L>, I[L]> | null
      : readonly Inside<S, LinkType<S, E, L>, I[L]>[];
  }
>;
