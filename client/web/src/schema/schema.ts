// A schema: entities by name, and the types that follow from it.

import { HalcyonError } from "../errors";
import type { AnyField, Entity, Fields, RefField, RefManyField, ValueField } from "./fields";

export type Entities = Readonly<Record<string, Entity<Fields>>>;

/** What a kind of room holds: what each connection does, what all share for the moment, and what is said. */
export interface RoomShape {
  readonly presence?: Fields;
  readonly status?: Fields;
  readonly events?: Readonly<Record<string, Fields>>;
}

export type RoomShapes = Readonly<Record<string, RoomShape>>;

export interface Schema<S extends Entities, R extends RoomShapes = RoomShapes> {
  readonly entities: S;
  readonly rooms: R;
}

export type Name<S extends Entities> = keyof S & string;
export type FieldsOf<S extends Entities, E extends Name<S>> = S[E]["fields"];

/** The id of an entity, or an object that carries it. */
export type Reference = string | { readonly id: string };

/** What a field holds as it is read without an include. */
export type Read<F extends AnyField> =
  F extends RefField<string, string>
    ? string | null
    : F extends RefManyField<string, string>
      ? readonly string[]
      : F extends ValueField<infer T, infer O, boolean>
        ? O extends true
          ? T | undefined
          : T
        : never;

/** An entity as a query without includes gives it. */
export type Row<S extends Entities, E extends Name<S>> = { readonly id: string } & {
  readonly [K in keyof FieldsOf<S, E>]: Read<FieldsOf<S, E>[K]>;
};

type Written<F extends AnyField> =
  F extends RefField<string, string>
    ? Reference | null
    : F extends RefManyField<string, string>
      ? readonly Reference[]
      : F extends ValueField<infer T, boolean, boolean>
        ? T
        : never;

type MayBeLeftOut<F extends Fields> = {
  [K in keyof F]: F[K] extends ValueField<infer _, false, false> ? never : K;
}[keyof F];

type Flat<T> = { [K in keyof T]: T[K] };

/** What `insert` takes: fields that are optional, have a default or are references may be left out. */
export type Insert<F extends Fields> = Flat<
  { readonly id?: string } & {
    readonly [K in Exclude<keyof F, MayBeLeftOut<F>>]: Written<F[K]>;
  } & { readonly [K in MayBeLeftOut<F>]?: Written<F[K]> | undefined }
>;

/** Elements to put into, and to take out of, a set of references. */
export interface SetChange {
  readonly add?: readonly Reference[];
  readonly remove?: readonly Reference[];
}

/** What `update` takes: `null` unsets an optional field; a list replaces a set of references. */
export type Update<F extends Fields> = {
  readonly [K in keyof F]?:
    | (F[K] extends RefManyField<string, string>
        ? readonly Reference[] | SetChange
        : F[K] extends ValueField<infer T, infer O, boolean>
          ? T | (O extends true ? null : never)
          : Written<F[K]>)
    | undefined;
};

type InverseOf<S extends Entities, E extends Name<S>> = {
  [T in Name<S>]: {
    [K in keyof FieldsOf<S, T> & string]: FieldsOf<S, T>[K] extends {
      readonly target: E;
      readonly inverse: infer I extends string;
    }
      ? I extends ""
        ? never
        : { readonly name: I; readonly type: T; readonly field: K }
      : never;
  }[keyof FieldsOf<S, T> & string];
}[Name<S>];

/** Names under which an entity sees those that refer to it. */
export type InverseName<S extends Entities, E extends Name<S>> = InverseOf<S, E>["name"];

/** The type of the entities behind such a name. */
export type InverseType<S extends Entities, E extends Name<S>, N extends string> = Extract<
  InverseOf<S, E>,
  { readonly name: N }
>["type"];

export interface InverseField {
  readonly type: string;
  readonly field: string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,63}$/;

type NoRooms = Readonly<Record<never, RoomShape>>;

/** Checks names and references once, so that nothing later has to. */
export function defineSchema<const S extends Entities, const R extends RoomShapes = NoRooms>(
  entities: S,
  more?: { readonly rooms: R },
): Schema<S, R> {
  const fail = (message: string): never => {
    throw new HalcyonError("INVALID_SCHEMA", message);
  };
  const inverses = new Map<string, string>();
  for (const [type, entity] of Object.entries(entities)) {
    if (!NAME.test(type)) fail(`"${type}" is not a name: letters, digits, _ or -, at most 64`);
    if (Object.keys(entity.fields).length === 0) fail(`"${type}" has no field`);
    for (const [name, field] of Object.entries(entity.fields)) {
      if (!NAME.test(name) || name === "id") fail(`"${type}.${name}" is not a name for a field`);
      if (field.target !== "" && !(field.target in entities)) {
        fail(`"${type}.${name}" refers to "${field.target}", which is not in the schema`);
      }
      const target = entities[field.target];
      if (field.inverse !== "" && target && field.inverse in target.fields) {
        fail(`"${field.target}.${field.inverse}" is a field and the inverse of "${type}.${name}"`);
      }
      const inverse = `${field.target}.${field.inverse}`;
      const other = inverses.get(inverse);
      if (field.inverse !== "" && other !== undefined)
        fail(`"${inverse}" is the inverse of "${other}" and of "${type}.${name}"`);
      inverses.set(inverse, `${type}.${name}`);
    }
  }
  const rooms = more?.rooms ?? ({} as R);
  for (const type of Object.keys(rooms)) if (!NAME.test(type)) fail(`"${type}" is not a name for a room`);
  return { entities, rooms };
}

/** The field whose reverse side has this name. */
export function inverseField(entities: Entities, type: string, name: string): InverseField | undefined {
  for (const [of, entity] of Object.entries(entities)) {
    for (const [field, one] of Object.entries(entity.fields)) {
      if (one.target === type && one.inverse === name) return { type: of, field };
    }
  }
  return undefined;
}
