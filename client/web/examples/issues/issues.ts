// What issues are asked for, and what is changed of them.

import { db } from "./db";

/** Where an issue stands. Data that knows only open and closed has its issues in the first and the last. */
export const STATUSES = {
  backlog: "Backlog",
  todo: "To do",
  doing: "In progress",
  review: "In review",
  done: "Done",
} as const;
export type Status = keyof typeof STATUSES;

export const PRIORITIES = ["urgent", "high", "medium", "low"] as const;

export interface Filter {
  readonly state: "open" | "closed" | "all";
  readonly label: string;
  readonly assignee: string;
  readonly words: string;
  readonly sort: keyof typeof SORTS;
}

export const SORTS = {
  newest: ["created", "desc"],
  oldest: ["created", "asc"],
  changed: ["modified", "desc"],
} as const;

export const EVERYTHING: Filter = { state: "open", label: "", assignee: "", words: "", sort: "newest" };

/** Titles begin with a capital letter, whoever looks for one does not. */
function named(words: string) {
  const capital = words.charAt(0).toUpperCase() + words.slice(1);
  return { or: [{ title: { contains: words } }, { title: { contains: capital } }] };
}

function matching({ label, assignee, words }: Filter) {
  return {
    ...(label === "" ? {} : { labels: { has: label } }),
    ...(assignee === "" ? {} : { assignee }),
    ...(words === "" ? {} : named(words)),
  };
}

export function listed(filter: Filter, limit: number) {
  const [by, direction] = SORTS[filter.sort];
  return db.issue
    .where(matching(filter))
    .where(filter.state === "all" ? {} : { open: filter.state === "open" })
    .orderBy(by, direction)
    .limit(limit)
    .include({ labels: { orderBy: "name" }, assignee: true });
}

export function standing(filter: Filter, status: Status, limit: number) {
  const at = {
    backlog: { open: true, or: [{ status: "backlog" }, { status: null }] },
    todo: { open: true, status },
    doing: { open: true, status },
    review: { open: true, status },
    done: { open: false },
  }[status];
  return db.issue
    .where(matching(filter))
    .where(at)
    .orderBy("modified", "desc")
    .limit(limit)
    .include({ labels: { orderBy: "name" }, assignee: true });
}

export interface Standing {
  readonly open: boolean;
  readonly status: string | undefined;
}

export function statusOf({ open, status }: Standing): Status {
  if (!open) return "done";
  return status !== undefined && status in STATUSES ? (status as Status) : "backlog";
}

export function move(id: string, status: Status): void {
  const modified = new Date();
  if (status === "done") db.issue.update(id, { open: false, modified });
  else db.issue.update(id, { open: true, status, modified });
}
