// React's Suspense, rendering on a server, Svelte's stores: over a real engine with nobody to talk to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compileModule } from "svelte/compiler";
import { bundled, until, wasm } from "./bundle.mjs";

const SCHEMA = `
  import { createClient, defineSchema, t } from "./node/index";
  const schema = defineSchema({ todos: t.entity({ text: t.string(), done: t.boolean().default(false) }) });
  export const open = (wasm) =>
    createClient({ schema, tenant: "app", endpoints: [], auth: { key: "k" }, wasm });
`;

test("React: Suspense waits for the result, and an error goes to its boundary", async () => {
  const { open, render } = await bundled(`
    import { Suspense } from "react";
    import { renderToPipeableStream } from "react-dom/server";
    import { PassThrough } from "node:stream";
    import { text } from "node:stream/consumers";
    import { useConnection, useEntity, useQuery, useSuspenseQuery } from "./react";
    ${SCHEMA}
    function List({ db, query, options }) {
      const { data, isLoaded } = useSuspenseQuery(db, query, options);
      return <p>{data.map((todo) => todo.text).join() + " " + isLoaded}</p>;
    }
    function Around({ db, id }) {
      const { data } = useEntity(db, db.todos, id);
      return <i>{data ? data.text : "nobody"} {useQuery(db, db.todos).data.length} {useConnection(db).state}</i>;
    }
    export function render(db, query, id, options) {
      const errors = [];
      const stream = renderToPipeableStream(
        <><Around db={db} id={id} /><Suspense fallback="waits"><List db={db} query={query} options={options} /></Suspense></>,
        { onError: (error) => void errors.push(error.code) },
      );
      return text(stream.pipe(new PassThrough())).then((html) => ({ html, errors }));
    }
  `);
  const db = open(wasm);
  const write = db.todos.insert({ text: "milk" });
  await write.kept;
  const id = write.value;
  const { html, errors } = await render(db, db.todos, id);
  assert.match(html, /<i>nobody.*<p>milk true<\/p>/s);
  assert.deepEqual(errors, []);
  // By now the engine has answered: nothing waits, and one entity is found by its id.
  const again = await render(db, db.todos, id);
  assert.match(again.html, /^<i>milk.*<p>milk true<\/p>/s);
  assert.doesNotMatch(again.html, /waits/);
  await until(() => db.connection.state === "offline", "offline");
  // With nobody to ask, waiting for a node ends.
  assert.match((await render(db, db.todos, id, { synced: true })).html, /milk true/);
  const refused = await render(db, { ...db.todos, text: '{"from": 3}', parts: db.todos.parts }, id);
  assert.deepEqual(refused.errors, ["QUERY_FAILED"]);
  await db.close();
});

test("Svelte: an effect runs again when the result changes, and when its query does", async () => {
  const source = `
    import { useConnection, useQuery } from "./svelte";
    export function watch(db, told) {
      let done = $state(false);
      const todos = useQuery(db, () => db.todos.where({ done }).orderBy("text"));
      const connection = useConnection(db);
      const stop = $effect.root(() => {
        $effect(() => {
          if (todos.isLoaded) told(todos.data.map((todo) => todo.text), connection.current.state);
        });
      });
      return { stop, show: (wanted) => { done = wanted; }, todos };
    }
  `;
  const { js } = compileModule(source, { filename: "watch.svelte.js", generate: "client" });
  const { open, watch } = await bundled(`${SCHEMA}\n${js.code}`, { conditions: ["browser"] });
  const db = open(wasm);
  const told = [];
  const { stop, show, todos } = watch(db, (texts) => told.push(texts.join()));
  await until(() => told.length > 0, "the first result");
  const id = db.todos.insert({ text: "a" }).value;
  await until(() => told.at(-1) === "a", "a write");
  db.todos.insert({ text: "b" });
  await until(() => told.at(-1) === "a,b", "another");
  db.todos.update(id, { done: true });
  await until(() => told.at(-1) === "b", "an update");
  show(true);
  await until(() => told.at(-1) === "a", "another query");
  stop();
  // As a store it tells at once, and until it is let go.
  const stored = [];
  const leave = todos.subscribe(({ data }) => stored.push(data.length));
  await until(() => stored.at(-1) === 1, "the store");
  leave();
  const before = told.length;
  await db.todos.update(id, { done: false }).kept;
  assert.equal(told.length, before);
  await db.close();
});
