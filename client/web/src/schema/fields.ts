// Fields of entities: `t.string()`, `t.ref("users")`, … They hold data only; types are inferred from them.

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export type ValueKind = "string" | "number" | "boolean" | "date" | "json" | "bytes";
export type FieldKind = ValueKind | "ref" | "refMany";

export interface AnyField {
  readonly kind: FieldKind;
  readonly isOptional: boolean;
  readonly fallback: unknown;
  readonly hasDefault: boolean;
  readonly target: string;
  readonly inverse: string;
}

export interface ValueField<T, Optional extends boolean, Defaulted extends boolean> extends AnyField {
  readonly kind: ValueKind;
  readonly isOptional: Optional;
  readonly hasDefault: Defaulted;
  /** Only a type: what the field holds. */
  readonly holds?: T;
  /** May be left out, and reads as undefined then. */
  optional(): ValueField<T, true, Defaulted>;
  /** Written where an insert leaves it out, read where nothing is stored. */
  default(value: T): ValueField<T, Optional, true>;
}

export interface RefField<Target extends string, Inverse extends string> extends AnyField {
  readonly kind: "ref";
  readonly target: Target;
  readonly inverse: Inverse;
}

export interface RefManyField<Target extends string, Inverse extends string> extends AnyField {
  readonly kind: "refMany";
  readonly target: Target;
  readonly inverse: Inverse;
}

export type Fields = Readonly<Record<string, AnyField>>;

export interface Entity<F extends Fields> {
  readonly fields: F;
}

interface Shape {
  readonly kind: ValueKind;
  readonly isOptional: boolean;
  readonly hasDefault: boolean;
  readonly fallback: unknown;
}

function value<T, O extends boolean, D extends boolean>(shape: Shape): ValueField<T, O, D> {
  return {
    ...shape,
    isOptional: shape.isOptional as O,
    hasDefault: shape.hasDefault as D,
    target: "",
    inverse: "",
    optional: () => value<T, true, D>({ ...shape, isOptional: true }),
    default: (fallback: T) => value<T, O, true>({ ...shape, hasDefault: true, fallback }),
  };
}

function plain<T>(kind: ValueKind, fallback: T): ValueField<T, false, false> {
  return value<T, false, false>({ kind, isOptional: false, hasDefault: false, fallback });
}

interface Inverse<I extends string> {
  /** The name under which the entity that is referred to sees those that refer to it. */
  readonly inverse: I;
}

function reference(kind: "ref" | "refMany", target: string, inverse: string | undefined): AnyField {
  const fallback = kind === "ref" ? null : [];
  return { kind, isOptional: true, fallback, hasDefault: false, target, inverse: inverse ?? "" };
}

export const t = {
  string: () => plain<string>("string", ""),
  number: () => plain<number>("number", 0),
  boolean: () => plain<boolean>("boolean", false),
  date: () => plain<Date>("date", new Date(0)),
  bytes: () => plain<Uint8Array>("bytes", new Uint8Array()),
  json: <T extends Json = Json>() => plain<T>("json", null as T),
  ref: <const T extends string, const I extends string = "">(target: T, options?: Inverse<I>) =>
    reference("ref", target, options?.inverse) as RefField<T, I>,
  refMany: <const T extends string, const I extends string = "">(target: T, options?: Inverse<I>) =>
    reference("refMany", target, options?.inverse) as RefManyField<T, I>,
  entity: <F extends Fields>(fields: F): Entity<F> => ({ fields }),
} as const;
