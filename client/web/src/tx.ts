// Writes: changes are gathered and handed to the engine as one change set, which shows whole or not at all.

import { HalcyonError } from "./errors";
import type { AnyField, Fields, Json } from "./schema/fields";
import type { Entities, FieldsOf, Insert, Name, Reference, SetChange, Update } from "./schema/schema";
import { encode, referenceId } from "./values";

type Change = readonly Json[];

export interface EntityTx<F extends Fields> {
  /** Makes a new entity and returns its id. */
  insert(values: Insert<F>): string;
  update(of: Reference, values: Update<F>): void;
  /** For good: nothing brings a deleted entity back. */
  delete(of: Reference): void;
}

export type Tx<S extends Entities> = { readonly [E in Name<S>]: EntityTx<FieldsOf<S, E>> };

const ALPHABET = "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";

/** A nanoid: 126 random bits in 21 letters. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(21)), (byte) => ALPHABET[byte & 63]).join("");
}

type Values = Readonly<Record<string, unknown>>;

function idOf(of: Reference): string {
  return referenceId(of) ?? fail("an entity is named by its id, or by an object that has one");
}

function fail(message: string): never {
  throw new HalcyonError("INVALID_WRITE", message);
}

class Writer {
  readonly #type: string;
  readonly #fields: Fields;
  readonly #changes: Change[];

  constructor(type: string, fields: Fields, changes: Change[]) {
    this.#type = type;
    this.#fields = fields;
    this.#changes = changes;
  }

  insert(values: Values): string {
    this.#checkNames(values, ["id"]);
    const id = values.id === undefined ? newId() : idOf(values.id as Reference);
    const changes: Change[] = [["create", id]];
    for (const [name, field] of Object.entries(this.#fields)) {
      const value = values[name] === undefined && field.hasDefault ? field.fallback : values[name];
      if (value === undefined && !field.isOptional) fail(`${this.#type}.${name} is missing`);
      if (value !== undefined && value !== null) changes.push(...this.#write(id, name, field, value));
    }
    if (changes.length === 1) fail(`an entity of "${this.#type}" needs at least one field with a value`);
    this.#changes.push(...changes);
    return id;
  }

  update(of: Reference, values: Values): void {
    this.#checkNames(values, []);
    const id = idOf(of);
    for (const [name, field] of Object.entries(this.#fields)) {
      const value = values[name];
      if (value === undefined) continue;
      if (value === null && !field.isOptional) fail(`${this.#type}.${name} cannot be unset`);
      const unset: Change = ["unset", id, this.#predicate(name)];
      if (value === null && field.kind !== "json") this.#changes.push(unset);
      else if (field.kind === "refMany" && Array.isArray(value)) {
        this.#changes.push(unset, ...this.#write(id, name, field, value));
      } else if (field.kind === "refMany")
        this.#changes.push(...this.#edit(id, name, field, value as SetChange));
      else this.#changes.push(...this.#write(id, name, field, value));
    }
  }

  delete(of: Reference): void {
    this.#changes.push(["delete", idOf(of)]);
  }

  #write(id: string, name: string, field: AnyField, value: unknown): Change[] {
    const predicate = this.#predicate(name);
    const where = `${this.#type}.${name}`;
    if (field.kind !== "refMany") return [["set", id, predicate, encode(field.kind, value, where)]];
    const items = Array.isArray(value)
      ? (value as readonly unknown[])
      : fail(`${where} takes a list of references`);
    return items.map((item) => ["add", id, predicate, encode("ref", item, where)]);
  }

  #edit(id: string, name: string, field: AnyField, change: SetChange): Change[] {
    const where = `${this.#type}.${name}`;
    const one =
      (kind: string) =>
      (item: Reference): Change => [kind, id, this.#predicate(name), encode(field.kind, item, where)];
    return [...(change.remove ?? []).map(one("remove")), ...(change.add ?? []).map(one("add"))];
  }

  #predicate(name: string): string {
    return `${this.#type}/${name}`;
  }

  #checkNames(values: Values, beside: readonly string[]): void {
    const stranger = Object.keys(values).find((name) => !(name in this.#fields) && !beside.includes(name));
    if (stranger !== undefined) fail(`"${this.#type}" has no field "${stranger}"`);
  }
}

/** Runs `write` and returns its changes, as the engine takes them, beside what it returned. */
export function gather<S extends Entities, T>(
  entities: S,
  write: (tx: Tx<S>) => T,
): { text: string; value: T } {
  const changes: Change[] = [];
  const writers = Object.entries(entities).map(([type, entity]) => [
    type,
    new Writer(type, entity.fields, changes),
  ]);
  const value = write(Object.fromEntries(writers) as unknown as Tx<S>);
  if (value instanceof Promise) fail("a write does not wait: gather what it needs before");
  if (changes.length === 0) fail("the write changes nothing");
  return { text: JSON.stringify(changes), value };
}
