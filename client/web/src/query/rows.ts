// Rows of the engine become rows of the schema, and an edit keeps every object that it does not touch.

import type { ErrorShape } from "../errors";
import type { Status } from "../protocol";
import type { AnyField } from "../schema/fields";
import { type Entities, inverseField } from "../schema/schema";
import { decode, type Report } from "../values";
import type { IncludeBag, Parts } from "./lower";

export type Plain = Readonly<Record<string, unknown>>;

/** Makes a row of an object that the engine gave. */
export type Shaper = (object: Plain, included: Included) => Plain;

interface Link {
  readonly name: string;
  readonly isOne: boolean;
  readonly shape: Shaper;
}

/** What several objects include, and the one row that each link makes of it. */
class Included {
  readonly #objects: Plain[] = [];
  readonly #rows = new Map<Link, Plain[]>();
  /** Whether the row that is made now says all that its object says of the row's own fields. */
  isExact = true;

  /** Behind those that are here. */
  add(objects: readonly Plain[]): void {
    for (const object of objects) this.#objects.push(object);
  }

  /** The row of what an object includes: it stands there itself, or its number. */
  row(link: Link, there: unknown): Plain {
    if (typeof there !== "number") return this.#shape(link, there as Plain);
    const object = this.#objects[there];
    if (!object) throw new Error(`the engine's news share no object ${String(there)}`);
    let rows = this.#rows.get(link);
    if (!rows) this.#rows.set(link, (rows = []));
    return (rows[there] ??= this.#shape(link, object));
  }

  #shape(link: Link, object: Plain): Plain {
    const { isExact } = this;
    const row = link.shape(object, this);
    this.isExact = isExact;
    return row;
  }
}

export function shaper(entities: Entities, type: string, parts: Parts, report: Report): Shaper {
  return shape(entities, type, parts.include, parts.select, report);
}

/** What the engine gave for a row, if that says more: there a value that is missing has no fallback. */
const raws = new WeakMap<object, Plain>();

export function rawOf(row: object): Plain | undefined {
  return raws.get(row);
}

function shapeAgain(shaper: Shaper, included: Included, before: unknown, object: Plain): Plain {
  included.isExact = true;
  const row = share(before, shaper(object, included)) as Plain;
  if (!included.isExact) raws.set(row, object);
  else if (row === before) raws.delete(row);
  return row;
}

function shape(
  entities: Entities,
  type: string,
  include: Readonly<Record<string, true | IncludeBag>>,
  select: readonly string[] | undefined,
  report: Report,
): Shaper {
  let id: unknown;
  const fields = Object.entries(entities[type]?.fields ?? {})
    .filter(([name]) => !(name in include) && (!select || select.includes(name)))
    .map(([name, field]) => ({
      name,
      field,
      isExact: field.kind !== "json" && field.kind !== "refMany",
      report: () => {
        report(`${type}.${name} of ${String(id)}`);
      },
    }));
  const links = Object.entries(include).map(([name, options]): Link => {
    const field: AnyField | undefined = entities[type]?.fields[name];
    const target = field ? field.target : (inverseField(entities, type, name)?.type ?? "");
    const inner = options === true ? {} : (options.include ?? {});
    return { name, isOne: field?.kind === "ref", shape: shape(entities, target, inner, undefined, report) };
  });
  return (object, included) => {
    id = object.id;
    const row: Record<string, unknown> = { id };
    for (const { name, field, isExact, report } of fields) {
      const there = object[name];
      const here = decode(field, there, report);
      row[name] = here;
      const isThere = there !== null && there !== undefined && here !== null && here !== undefined;
      if (!isExact || !isThere) included.isExact = false;
    }
    for (const link of links) {
      const there = object[link.name];
      if (link.isOne)
        row[link.name] = there === null || there === undefined ? null : included.row(link, there);
      else row[link.name] = Array.isArray(there) ? there.map((one) => included.row(link, one)) : [];
    }
    return row;
  };
}

/** The second, with every part of it that equals the first replaced by the first's own object. */
export function share(before: unknown, after: unknown): unknown {
  if (Object.is(before, after)) return before;
  if (before instanceof Date && after instanceof Date) {
    return before.getTime() === after.getTime() ? before : after;
  }
  if (Array.isArray(before) && Array.isArray(after)) return shareArray(before, after);
  if (isPlain(before) && isPlain(after)) return sharePlain(before, after);
  return after;
}

const isPlain = (value: unknown): value is Plain =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;

function shareArray(before: readonly unknown[], after: readonly unknown[]): readonly unknown[] {
  // Entities are found by their id, wherever they stand now.
  const byId = new Map(before.map((item) => [isPlain(item) ? item.id : undefined, item]));
  const shared = after.map((item, at) => share((isPlain(item) && byId.get(item.id)) || before[at], item));
  const isSame = shared.length === before.length && shared.every((item, at) => Object.is(item, before[at]));
  return isSame ? before : shared;
}

function sharePlain(before: Plain, after: Plain): Plain {
  const keys = Object.keys(after);
  let isSame = keys.length === Object.keys(before).length;
  const shared: Record<string, unknown> = {};
  for (const key of keys) {
    shared[key] = share(before[key], after[key]);
    isSame &&= Object.is(shared[key], before[key]);
  }
  return isSame ? before : shared;
}

/** What the engine says of an answer (halcyon-wasm, `news`). */
export interface News {
  readonly rows?: readonly Plain[];
  readonly edits?: readonly (readonly [0 | 1 | 2, number, Plain?])[];
  readonly status?: Status;
  readonly error?: ErrorShape;
  readonly shared?: readonly Plain[];
  /** Of a part of a long answer: where its rows begin, and whether another one comes. */
  readonly at?: number;
  readonly more?: boolean;
}

/** The next list, part by part. The one before stays as it is, and so does every row that did not change. */
export class NextRows {
  readonly #before: readonly Plain[];
  readonly #shaper: Shaper;
  readonly #included = new Included();
  /** All of them anew. */
  #rows: Plain[] | undefined;
  #byId: ReadonlyMap<unknown, Plain> | undefined;

  constructor(before: readonly Plain[], shaper: Shaper) {
    this.#before = before;
    this.#shaper = shaper;
  }

  /** Whether this part comes next: one that broke off came from a worker that is gone. */
  isNext(news: News): boolean {
    return (news.at ?? 0) === (this.#rows?.length ?? 0);
  }

  /** Takes a part in. Gives the list when it was the last. */
  take(news: News): readonly Plain[] | undefined {
    this.#included.add(news.shared ?? []);
    if (news.rows) this.#anew(news.rows);
    if (news.more) return undefined;
    const rows = this.#rows ?? [...this.#before];
    const gone = new Map<unknown, Plain>();
    for (const [kind, at, object] of news.edits ?? []) {
      if (kind === 0) {
        const [row] = rows.splice(at, 1);
        if (row) gone.set(row.id, row);
      } else if (object) {
        const old = kind === 2 ? rows[at] : gone.get(object.id);
        rows.splice(at, kind === 2 ? 1 : 0, shapeAgain(this.#shaper, this.#included, old, object));
      }
    }
    return rows;
  }

  #anew(objects: readonly Plain[]): void {
    this.#byId ??= new Map(this.#before.map((row) => [row.id, row]));
    this.#rows ??= [];
    for (const object of objects) {
      this.#rows.push(shapeAgain(this.#shaper, this.#included, this.#byId.get(object.id), object));
    }
  }
}
