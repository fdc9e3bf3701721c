// Filters, orders and includes as the engine takes them, and rows as pages get them. Runs on the sources.

import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const { outputFiles } = await build({
  stdin: {
    contents: `export * from "./src/index"; export { NextRows, rawOf, shaper, share } from "./src/query/rows"; export { Live } from "./src/live"; export { gather } from "./src/tx";`,
    resolveDir: new URL("../..", import.meta.url).pathname,
  },
  bundle: true,
  format: "esm",
  write: false,
});
const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`;
const { defineSchema, gather, HalcyonError, Live, NextRows, Query, rawOf, shaper, share, t } = await import(
  url
);

const { entities } = defineSchema({
  users: t.entity({ name: t.string(), age: t.number().optional() }),
  labels: t.entity({ name: t.string(), color: t.string().default("grey") }),
  issues: t.entity({
    title: t.string(),
    open: t.boolean().default(true),
    due: t.date().optional(),
    author: t.ref("users", { inverse: "issues" }),
    labels: t.refMany("labels", { inverse: "issues" }),
  }),
  comments: t.entity({ text: t.string(), issue: t.ref("issues", { inverse: "comments" }) }),
});
const issues = new Query(entities, "issues");

function lowers(query, expected) {
  assert.deepEqual(JSON.parse(query.text), expected);
}
const SELECT = ["title", "open", "due", "author", "labels[]"];
const where = (filter, condition) =>
  lowers(issues.where(filter), { from: "issues", where: condition, select: SELECT });

test("a filter becomes tests of paths", () => {
  where({ open: true }, ["open", "=", true]);
  where(
    { open: true, title: { startsWith: "a" } },
    {
      and: [
        ["open", "=", true],
        ["title", "starts", "a"],
      ],
    },
  );
  where(
    { due: { gt: new Date(5), lte: new Date(9) } },
    {
      and: [
        ["due", ">", { $date: 5 }],
        ["due", "<=", { $date: 9 }],
      ],
    },
  );
  where({ due: null }, { not: ["due", "exists"] });
  where({ author: "u1" }, ["author", "=", { $ref: "u1" }]);
  where({ author: { id: "u1" } }, ["author", "=", { $ref: "u1" }]);
  where({ author: { name: "Ann" } }, ["author:users.name", "=", "Ann"]);
  where({ labels: { has: "l1" } }, ["labels", "has", { $ref: "l1" }]);
  where({ comments: { text: { contains: "x" } } }, ["<comments.issue.text", "contains", "x"]);
  where({ author: { issues: { open: false } } }, ["author.<issues.author.open", "=", false]);
  where({ comments: {} }, ["<comments.issue", "exists"]);
  where(
    { or: [{ open: false }, { not: { title: "a" } }] },
    {
      or: [["open", "=", false], { not: ["title", "=", "a"] }],
    },
  );
  where({ id: { in: ["a", "b"] } }, ["id", "in", [{ $ref: "a" }, { $ref: "b" }]]);
});

test("orders, limits and includes are the engine's, with one row more than the limit", () => {
  lowers(issues.orderBy("due", "desc").limit(2).select("title"), {
    from: "issues",
    order: [{ by: "due", desc: true }],
    limit: 3,
    select: ["title"],
  });
  lowers(
    issues.select("title").include({ author: true, labels: { orderBy: "name", limit: 5 }, comments: true }),
    {
      from: "issues",
      select: [
        "title",
        { include: "author", type: "users", as: "author", select: ["name", "age"] },
        {
          include: "labels[]",
          type: "labels",
          as: "labels",
          order: [{ by: "name", desc: false }],
          limit: 5,
          select: ["name", "color"],
        },
        { reverse: "comments.issue", as: "comments", select: ["text", "issue"] },
      ],
    },
  );
});

test("a query is a value: its methods leave it as it was", () => {
  const text = issues.text;
  issues.where({ open: true }).limit(3);
  assert.equal(issues.text, text);
});

const applyNews = (before, news, shaped) => new NextRows(before, shaped).take(news);

test("rows have the schema's types, fallbacks for what is missing, and undefined for what is something else", () => {
  const reported = [];
  const query = issues.include({ author: true });
  const shaped = shaper(entities, "issues", query.parts, (where) => reported.push(where));
  const rows = [
    {
      id: "i",
      title: 3,
      open: null,
      due: { $date: 5 },
      author: null,
      labels: [{ $ref: "l" }],
    },
  ];
  const [row] = applyNews([], { rows }, shaped);
  assert.deepEqual(row, {
    id: "i",
    title: undefined,
    open: true,
    due: new Date(5),
    author: null,
    labels: ["l"],
  });
  assert.deepEqual(reported, ["issues.title of i"]);
});

test("what several rows include is one object on the page, by whatever way it is reached", () => {
  const query = issues.include({ author: true, labels: true });
  const shaped = shaper(entities, "issues", query.parts, () => undefined);
  const ann = { id: "u", name: "Ann" };
  const rows = [
    { id: "i", author: 1, labels: [0, { id: "l", name: "bug" }] },
    { id: "j", author: 1, labels: [0] },
    { id: "k", author: null, labels: [] },
  ];
  const [i, j, k] = applyNews([], { rows, shared: [{ id: "m", name: "new" }, ann] }, shaped);
  assert.deepEqual(
    [i.author.name, i.labels.map(({ name }) => name), k.author],
    ["Ann", ["new", "bug"], null],
  );
  assert.equal(i.author, j.author);
  assert.equal(i.labels[0], j.labels[0]);
  // A place behind such a row is a reference still.
  assert.deepEqual(issues.orderBy("author").after(i).parts.after, [{ $ref: "u" }, { $ref: "i" }]);
});

test("what the engine gave is kept for a row that lacks a field of its own, and for no other", () => {
  const query = new Query(entities, "comments").include({ issue: { include: { author: true } } });
  const shaped = shaper(entities, "comments", query.parts, () => undefined);
  // Neither issue has all of its fields, nor has their author.
  const there = { id: "i", title: "x", author: 0 };
  const comment = (id, text, issue) => ({ id, text, issue });
  const rows = [
    comment("a", "A", { id: "j", author: null }),
    comment("b", "B", 1),
    comment("c", "C", 1),
    comment("d", null, 1),
  ];
  const shown = applyNews([], { rows, shared: [{ id: "u", name: "Ann" }, there] }, shaped);
  assert.deepEqual(shown.map(rawOf), [undefined, undefined, undefined, rows[3]]);
});

test("news that share less than they say are refused", () => {
  const query = issues.include({ author: true });
  const shaped = shaper(entities, "issues", query.parts, () => undefined);
  assert.throws(() => applyNews([], { rows: [{ id: "i", author: 1 }], shared: [{ id: "u" }] }, shaped), /1/);
});

test("of an answer in parts nothing shows before the last, and one that broke off leaves nothing behind", () => {
  const query = issues.include({ author: true });
  const shaped = shaper(entities, "issues", query.parts, () => undefined);
  const tell = (live, news) => live.onNews(JSON.stringify(news));
  const row = (id, author) => ({ id, title: id, open: true, author });
  const live = new Live(shaped, 3);
  tell(live, { rows: [row("a", null)], status: "synced" });
  const [a] = live.result.data;
  const ann = { id: "u", name: "Ann" };
  const first = { rows: [row("a", null), row("b", 0)], shared: [ann], at: 0, more: true };
  tell(live, first);
  assert.deepEqual(live.result.data, [a]);
  // The worker was lost, and the next one begins anew.
  tell(live, first);
  tell(live, { rows: [row("c", 1)], shared: [{ id: "v", name: "Bea" }], at: 2, more: true });
  assert.deepEqual([live.result.data, live.result.status], [[a], "synced"]);
  // What does not go on with it is of one that was lost, and leaves nothing either.
  tell(live, { rows: [row("x", 0)], at: 5, status: "synced" });
  assert.deepEqual(live.result.data, [a]);
  tell(live, first);
  tell(live, { rows: [row("c", 1)], shared: [{ id: "v", name: "Bea" }], at: 2, more: true });
  tell(live, { rows: [row("d", 0)], at: 3, status: "stale", edits: [[0, 2]] });
  const { data, status, hasMore } = live.result;
  const shown = data.map(({ id, author }) => [id, author?.name]);
  const expected = [
    ["a", undefined],
    ["b", "Ann"],
    ["d", "Ann"],
  ];
  assert.deepEqual([shown, status, hasMore], [expected, "stale", false]);
  assert.equal(data[0], a);
  assert.equal(data[1].author, data[2].author);
  tell(live, first);
  tell(live, { rows: [row("e", null)], status: "synced" });
  assert.deepEqual(
    live.result.data.map(({ id }) => id),
    ["e"],
  );
});

test("a value that a field cannot hold is refused for what it was meant for", () => {
  assert.throws(() => issues.where({ open: "yes" }).text, { code: "INVALID_QUERY", message: /open holds a/ });
  const write = (tx) => tx.issues.insert({ title: 3 });
  assert.throws(() => gather(entities, write), { code: "INVALID_WRITE", message: /title holds a/ });
});

test("a listener that throws is reported, and the others are called all the same", (context) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error);
  context.after(() => delete globalThis.reportError);
  const live = new Live((object) => object, undefined);
  const heard = [];
  const oops = new Error("of the app's");
  live.listen(() => {
    throw oops;
  });
  live.listen(() => heard.push(live.result.data.length));
  live.onNews(JSON.stringify({ rows: [{ id: "a" }] }));
  assert.deepEqual([heard, reported], [[1], [oops]]);
});

test("an edit keeps every object that it does not touch", () => {
  const shaped = (object) => object;
  const first = applyNews(
    [],
    {
      rows: [
        { id: "a", n: { x: 1 } },
        { id: "b", n: { x: 1 } },
      ],
    },
    shaped,
  );
  const moved = applyNews(
    first,
    {
      edits: [
        [0, 0],
        [1, 1, { id: "a", n: { x: 1 } }],
        [2, 0, { id: "b", n: { x: 2 } }],
      ],
    },
    shaped,
  );
  assert.deepEqual(moved, [
    { id: "b", n: { x: 2 } },
    { id: "a", n: { x: 1 } },
  ]);
  assert.equal(moved[1], first[0]);
  assert.deepEqual(
    first.map((row) => row.id),
    ["a", "b"],
  );
  const [before, after] = [{ k: [{ id: 1 }, { id: 2 }] }, { k: [{ id: 2 }, { id: 1 }] }];
  assert.equal(share(before, after).k[0], before.k[1]);
  assert.equal(share(before, { k: [{ id: 1 }, { id: 2 }] }), before);
});

test("a write is one list of changes, checked before it goes", () => {
  const changes = (write) => JSON.parse(gather(entities, write).text);
  assert.deepEqual(
    changes((tx) => {
      tx.labels.insert({ id: "l", name: "bug" });
      tx.issues.update("i", { open: false, due: null, author: null, labels: ["l"] });
      tx.issues.update("j", { labels: { remove: ["l"] } });
      tx.issues.delete("k");
    }),
    [
      ["create", "l"],
      ["set", "l", "labels/name", "bug"],
      ["set", "l", "labels/color", "grey"],
      ["set", "i", "issues/open", false],
      ["unset", "i", "issues/due"],
      ["unset", "i", "issues/author"],
      ["unset", "i", "issues/labels"],
      ["add", "i", "issues/labels", { $ref: "l" }],
      ["remove", "j", "issues/labels", { $ref: "l" }],
      ["delete", "k"],
    ],
  );
  const refused = (write) => assert.throws(() => gather(entities, write), HalcyonError);
  refused((tx) => tx.issues.insert({}));
  refused((tx) => tx.issues.insert({ title: 3 }));
  refused((tx) => tx.issues.insert({ title: "a", stranger: 3 }));
  refused((tx) => tx.issues.update("i", { title: null }));
  refused((tx) => tx.issues.update("i", { due: new Date(Number.NaN) }));
  refused(() => undefined);
});

test("a schema with a name that cannot be one, or a reference to nothing, is refused", () => {
  const refused = (schema) => assert.throws(() => defineSchema(schema), HalcyonError);
  refused({ "a b": t.entity({ x: t.string() }) });
  refused({ a: t.entity({}) });
  refused({ a: t.entity({ x: t.ref("nowhere") }) });
  refused({ a: t.entity({ id: t.string() }) });
});
