// Values between TypeScript and the engine's typed JSON: `{"$date": ms}`, `{"$ref": id}`, `{"$bytes": hex}`, `{"$json": text}`.

import { HalcyonError } from "./errors";
import type { AnyField, FieldKind, Json } from "./schema/fields";

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at += 1)
    bytes[at] = Number.parseInt(text.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

export function referenceId(value: unknown): string | undefined {
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "object" && value !== null && "id" in value && typeof value.id === "string")
    return value.id;
  return undefined;
}

function typed(kind: FieldKind, value: unknown): Json | undefined {
  switch (kind) {
    case "string":
      return typeof value === "string" ? value : undefined;
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "number":
      if (typeof value !== "number" || Number.isNaN(value)) return undefined;
      return Number.isFinite(value) ? value : { $number: value > 0 ? "inf" : "-inf" };
    case "date":
      return value instanceof Date && !Number.isNaN(value.getTime()) ? { $date: value.getTime() } : undefined;
    case "bytes":
      return value instanceof Uint8Array ? { $bytes: hex(value) } : undefined;
    case "json": {
      const text = JSON.stringify(value) as string | undefined;
      return text === undefined ? undefined : { $json: text };
    }
    case "ref":
    case "refMany": {
      const id = referenceId(value);
      return id === undefined ? undefined : { $ref: id };
    }
  }
}

/** A value as the engine takes it; throws where the field cannot hold it. `where` names the field for people. */
export function encode(
  kind: FieldKind,
  value: unknown,
  where: string,
  code: "INVALID_WRITE" | "INVALID_QUERY" | "INVALID_ROOM" = "INVALID_WRITE",
): Json {
  const json = typed(kind, value);
  if (json === undefined) {
    throw new HalcyonError(code, `${where} holds a ${kind}, not ${describe(value)}`);
  }
  return json;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return value instanceof Date ? "an invalid date" : `a ${typeof value}`;
}

type Tagged = Readonly<Record<string, unknown>>;

function tag(json: unknown, name: string): unknown {
  return typeof json === "object" && json !== null && name in json ? (json as Tagged)[name] : undefined;
}

function parse(text: unknown): unknown {
  if (typeof text !== "string") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** What is stored, as the field's type; undefined where it is something else. */
function stored(kind: FieldKind, json: unknown): unknown {
  switch (kind) {
    case "string":
      return typeof json === "string" ? json : undefined;
    case "boolean":
      return typeof json === "boolean" ? json : undefined;
    case "number": {
      if (typeof json === "number") return json;
      const text = tag(json, "$number");
      return text === "inf" ? Infinity : text === "-inf" ? -Infinity : undefined;
    }
    case "date": {
      const millis = tag(json, "$date");
      return typeof millis === "number" ? new Date(millis) : undefined;
    }
    case "bytes": {
      const text = tag(json, "$bytes");
      return typeof text === "string" ? bytesOf(text) : undefined;
    }
    case "json":
      return parse(tag(json, "$json"));
    case "ref":
    case "refMany":
      return tag(json, "$ref");
  }
}

export type Report = (where: string) => void;

/** A field as a result shows it. What is missing becomes the fallback; of what is of another type `report` is told. */
export function decode(field: AnyField, json: unknown, report: () => void): unknown {
  if (field.kind === "refMany") {
    const items = Array.isArray(json) ? (json as readonly unknown[]) : [];
    return items.map((item) => stored("ref", item)).filter((item) => item !== undefined);
  }
  if (json === null || json === undefined) {
    return field.isOptional && !field.hasDefault && field.kind !== "ref" ? undefined : field.fallback;
  }
  const value = stored(field.kind, json);
  if (value === undefined) report();
  return field.kind === "ref" ? (value ?? null) : value;
}
