// Small things that the list, the board and an issue show alike.

import type { CSSProperties } from "react";
import { STATUSES, type Status } from "./issues";

interface Person {
  readonly id: string;
  readonly name: string;
  readonly login: string;
}

/** The colour of a person, all around the wheel. */
export const hueOf = (id: string): number =>
  Array.from(id).reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);

interface Labelled {
  readonly id: string;
  readonly name: string;
  readonly color: string;
}

export const nameOf = (person: Person | null | undefined): string =>
  person?.name || person?.login || "Somebody";

export function Avatar({ of }: { readonly of: Person | null }) {
  if (!of) return <span className="avatar nobody" title="Nobody has it" />;
  const letters = nameOf(of)
    .split(/[\s-]+/)
    .map((word) => word.charAt(0))
    .filter((letter, at, all) => at === 0 || at === all.length - 1);
  return (
    <span className="avatar" title={nameOf(of)} style={{ "--hue": String(hueOf(of.id)) } as CSSProperties}>
      {letters.join("")}
    </span>
  );
}

export function Label({ of }: { readonly of: Labelled }) {
  return (
    <span className="label" style={{ "--color": of.color } as CSSProperties}>
      {of.name}
    </span>
  );
}

export function StatusMark({ status }: { readonly status: Status }) {
  return <span className={`status ${status}`} role="img" aria-label={STATUSES[status]} />;
}

const BARS: Readonly<Record<string, number>> = { low: 1, medium: 2, high: 3, urgent: 4 };

export function PriorityMark({ of }: { readonly of: string | undefined }) {
  const bars = BARS[of ?? ""] ?? 0;
  return (
    <span className={`priority p${bars}`} role="img" aria-label={of ? `${of} priority` : "no priority"}>
      <i />
      <i />
      <i />
    </span>
  );
}

const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "narrow" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const MINUTE_MS = 60_000;

export function Ago({ at }: { readonly at: Date }) {
  const minutes = Math.round((Date.now() - at.getTime()) / MINUTE_MS);
  let text = DAY.format(at);
  if (minutes < 1) text = "now";
  else if (minutes < 60) text = RELATIVE.format(-minutes, "minute");
  else if (minutes < 24 * 60) text = RELATIVE.format(-Math.round(minutes / 60), "hour");
  return (
    <time dateTime={at.toISOString()} title={at.toLocaleString()}>
      {text}
    </time>
  );
}
