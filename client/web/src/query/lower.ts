// Filters, orders and includes become core's entity form in JSON (`core/docs/query.md`).

import { HalcyonError } from "../errors";
import type { AnyField, Json } from "../schema/fields";
import { type Entities, inverseField } from "../schema/schema";
import { encode } from "../values";

/** A filter, an order and an include as they were given, after the types have done their work. */
export type Bag = Readonly<Record<string, unknown>>;

export interface IncludeBag {
  readonly where?: Bag;
  readonly orderBy?: string | readonly [string, string];
  readonly limit?: number;
  readonly include?: Readonly<Record<string, true | IncludeBag>>;
}

export interface Parts {
  readonly where: readonly Bag[];
  readonly order: readonly (readonly [string, string])[];
  readonly limit: number | undefined;
  readonly include: Readonly<Record<string, true | IncludeBag>>;
  readonly select: readonly string[] | undefined;
  /** The place behind which rows are wanted, in the engine's values: the keys of the order, then the id. */
  readonly after: readonly Json[] | undefined;
}

const SIGNS: Readonly<Record<string, string>> = {
  eq: "=",
  ne: "!=",
  gt: ">",
  gte: ">=",
  lt: "<",
  lte: "<=",
  in: "in",
  has: "has",
  startsWith: "starts",
  contains: "contains",
};

function fail(message: string): never {
  throw new HalcyonError("INVALID_QUERY", message);
}

function fieldsOf(entities: Entities, type: string): Readonly<Record<string, AnyField>> {
  return entities[type]?.fields ?? fail(`"${type}" is not in the schema`);
}

const isBag = (value: unknown): value is Bag =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

/** A path so far: `at` is written before a field of the entity, `link` before a reverse step. */
interface Prefix {
  readonly at: string;
  readonly link: string;
}

const START: Prefix = { at: "", link: "" };

const all = (conditions: readonly Json[]): Json =>
  conditions.length === 1 ? (conditions[0] ?? null) : { and: conditions };

/** A condition, or nothing where the filter asks for nothing. */
export function condition(entities: Entities, type: string, filters: readonly Bag[]): Json | undefined {
  const conditions = filters.flatMap((filter) => conditionsOf(entities, type, filter, START));
  return conditions.length === 0 ? undefined : all(conditions);
}

function conditionsOf(entities: Entities, type: string, filter: Bag, prefix: Prefix): Json[] {
  const conditions: Json[] = [];
  for (const [name, value] of Object.entries(filter)) {
    if (value === undefined) continue;
    conditions.push(...memberConditions(entities, type, name, value, prefix));
  }
  return conditions;
}

function memberConditions(
  entities: Entities,
  type: string,
  name: string,
  value: unknown,
  prefix: Prefix,
): Json[] {
  const inner = (bag: unknown): Json[] =>
    isBag(bag) ? conditionsOf(entities, type, bag, prefix) : fail(`"${name}" takes filters`);
  if (name === "and" && Array.isArray(value)) return value.flatMap(inner);
  if (name === "or" && Array.isArray(value)) {
    // An empty filter holds of everything, and so does an `or` with one in it.
    const branches = value.map(inner);
    return branches.some((branch) => branch.length === 0) ? [] : [{ or: branches.map(all) }];
  }
  if (name === "not") return [{ not: all(inner(value)) }];
  if (name === "id") return idTests(prefix, value);
  const field = fieldsOf(entities, type)[name];
  if (field) return fieldConditions(entities, type, name, field, value, prefix);
  const inverse = inverseField(entities, type, name);
  if (!inverse || !isBag(value)) return fail(`"${type}" has no "${name}" to filter by`);
  const path = `${prefix.link}<${inverse.type}.${inverse.field}`;
  const conditions = conditionsOf(entities, inverse.type, value, { at: `${path}.`, link: `${path}.` });
  return conditions.length === 0 ? [[path, "exists"]] : conditions;
}

function idTests(prefix: Prefix, value: unknown): Json[] {
  const path = prefix.link === "" ? "id" : prefix.link.slice(0, -1);
  if (typeof value === "string") return [[path, "=", { $ref: value }]];
  // Nothing passes a test and its opposite.
  if (isBag(value) && Array.isArray(value.in) && value.in.length === 0) {
    const is = [path, "=", { $ref: "-" }];
    return [is, { not: is }];
  }
  if (isBag(value) && Array.isArray(value.in))
    return [[path, "in", value.in.map((id) => ({ $ref: String(id) }))]];
  return fail("`id` takes an id or { in: [ids] }");
}

function fieldConditions(
  entities: Entities,
  type: string,
  name: string,
  field: AnyField,
  value: unknown,
  prefix: Prefix,
): Json[] {
  const path = prefix.at + name;
  if (value === null) return [{ not: [path, "exists"] }];
  const isTests = isBag(value) && Object.keys(value).some((key) => key in SIGNS || key === "exists");
  if (
    field.target !== "" &&
    isBag(value) &&
    !isTests &&
    !(typeof value.id === "string" && Object.keys(value).length === 1)
  ) {
    const inside = { at: `${path}:${field.target}.`, link: `${path}.` };
    return conditionsOf(entities, field.target, value, inside);
  }
  const literal = (one: unknown): Json => encode(field.kind, one, `${type}.${name}`, "INVALID_QUERY");
  if (!isTests || field.kind === "json") return [[path, "=", literal(value)]];
  return Object.entries(value as Bag)
    .filter(([, operand]) => operand !== undefined)
    .map(([test, operand]) => {
      if (test === "exists") return operand === true ? [path, "exists"] : { not: [path, "exists"] };
      const sign = SIGNS[test] ?? fail(`"${test}" is not a test`);
      if (test === "in" && (operand as readonly unknown[]).length === 0)
        // It is among no values.
        return { and: [[path, "exists"], { not: [path, "exists"] }] };
      if (test === "in") return [path, sign, (operand as readonly unknown[]).map(literal)];
      return [path, sign, literal(operand)];
    });
}

function orderOf(order: readonly (readonly [string, string])[]): Json[] {
  return order.map(([by, direction]) => ({ by, desc: direction === "desc" }));
}

/** Where a row stands in an order. What the engine gave with the row counts; else what the row holds. */
export function placeOf(
  entities: Entities,
  type: string,
  order: readonly (readonly [string, string])[],
  row: Bag,
  raw: Bag | undefined,
): Json[] {
  const fields = fieldsOf(entities, type);
  const id = typeof row.id === "string" ? row.id : fail("a place in a list is a row of it, with its id");
  const places = order.map(([name]): Json => {
    if (name === "id") return { $ref: id };
    const isRef = fields[name]?.kind === "ref";
    // What is included stands in the place of its reference.
    if (raw && name in raw && !(isRef && row[name])) return (raw[name] ?? null) as Json;
    if (!(name in row)) fail(`the list is in the order of "${name}", which the row does not have`);
    const value = row[name];
    const field = fields[name] ?? fail(`"${type}" has no "${name}"`);
    return value === null || value === undefined
      ? null
      : encode(field.kind, value, `${type}.${name}`, "INVALID_QUERY");
  });
  return [...places, { $ref: id }];
}

function selectOf(
  entities: Entities,
  type: string,
  include: Readonly<Record<string, true | IncludeBag>>,
  select: readonly string[] | undefined,
): Json[] {
  const fields = Object.entries(fieldsOf(entities, type))
    .filter(([name]) => !(name in include) && (!select || select.includes(name)))
    .map(([name, field]): Json => (field.kind === "refMany" ? `${name}[]` : name));
  const links = Object.entries(include).map(([name, options]) => link(entities, type, name, options));
  return [...fields, ...links];
}

function link(entities: Entities, type: string, name: string, options: true | IncludeBag): Json {
  const bag: IncludeBag = options === true ? {} : options;
  const field = fieldsOf(entities, type)[name];
  const inverse = field ? undefined : inverseField(entities, type, name);
  const target = field ? field.target : inverse?.type;
  if (!target) return fail(`"${type}" has no link "${name}" to include`);
  const order =
    bag.orderBy === undefined
      ? []
      : [typeof bag.orderBy === "string" ? ([bag.orderBy, "asc"] as const) : bag.orderBy];
  const where = bag.where ? condition(entities, target, [bag.where]) : undefined;
  const step: { readonly [key: string]: Json } = field
    ? { include: field.kind === "refMany" ? `${name}[]` : name, type: target }
    : { reverse: `${target}.${inverse?.field ?? ""}` };
  return {
    ...step,
    as: name,
    ...(where === undefined ? {} : { where }),
    ...(order.length === 0 ? {} : { order: orderOf(order) }),
    ...(bag.limit === undefined ? {} : { limit: bag.limit }),
    select: selectOf(entities, target, bag.include ?? {}, undefined),
  };
}

/** The query as the engine takes it. It asks for one row beyond the limit, to know whether there are more. */
export function lower(entities: Entities, type: string, parts: Parts): Json {
  const where = condition(entities, type, parts.where);
  return {
    from: type,
    ...(where === undefined ? {} : { where }),
    ...(parts.order.length === 0 ? {} : { order: orderOf(parts.order) }),
    ...(parts.limit === undefined ? {} : { limit: parts.limit + 1 }),
    ...(parts.after === undefined ? {} : { after: parts.after }),
    select: selectOf(entities, type, parts.include, parts.select),
  };
}
