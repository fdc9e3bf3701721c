// What comes to the device and what becomes of it: coverage, outcomes of writes, the disk and its faults, an engine that
// stops, and rooms. Called by run.mjs, in both worker modes.

import assert from "node:assert/strict";

const DATABASE = (name) => `halcyon:${name}:demo`;

/** Runs in a page: all records of a database, those of its log too. */
function readDatabase(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const database = request.result;
      const stores = [...database.objectStoreNames];
      const transaction = database.transaction(stores);
      const reads = stores.map((store) => {
        const keys = transaction.objectStore(store).getAllKeys();
        const values = transaction.objectStore(store).getAll();
        return { store, keys, values };
      });
      transaction.oncomplete = () => {
        const bytes = (one) => (one instanceof ArrayBuffer ? [...new Uint8Array(one)] : [...one]);
        const logged = (packed) => {
          const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
          const records = [];
          for (let at = 0; at < packed.length;) {
            const from = at + 8 + view.getUint16(at + 2);
            const end = from + view.getUint32(at + 4);
            const [store, key] = [String.fromCharCode(packed[at]), [...packed.subarray(at + 8, from)]];
            records.push({ store, key, value: [...packed.subarray(from, end)] });
            at = end;
          }
          return records;
        };
        const records = reads.flatMap(({ store, keys, values }) => {
          if (store === "l") return values.result.flatMap(logged);
          if (store === "b") return [];
          return keys.result.map((key, at) => ({ store, key: bytes(key), value: bytes(values.result[at]) }));
        });
        const { version } = database;
        database.close();
        resolve({ version, records });
      };
    };
  });
}

/** Runs in a page: a database as the package's first format had it, with one set that waits. */
function writeOldDatabase([name, set]) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      for (const store of ["c", "o", "m"]) request.result.createObjectStore(store);
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const database = request.result;
      const transaction = database.transaction(["c", "o", "m"], "readwrite");
      transaction.objectStore("c").put(new Uint8Array([1, 2, 3]), 1);
      transaction.objectStore("o").put(new Uint8Array(set), 7);
      transaction.objectStore("m").put(new Uint8Array(8), 2);
      transaction.oncomplete = () => {
        database.close();
        resolve(undefined);
      };
    };
  });
}

/** Runs in a page: a database as the second format had it, with a store for each letter. */
function writeSecondDatabase([name, records]) {
  return new Promise((resolve, reject) => {
    const stores = ["f", "v", "q", "w", "s", "n"];
    const request = indexedDB.open(name, 2);
    request.onupgradeneeded = () => {
      for (const store of stores) request.result.createObjectStore(store);
    };
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const database = request.result;
      const transaction = database.transaction(stores, "readwrite");
      for (const { store, key, value } of records) {
        transaction.objectStore(store).put(new Uint8Array(value), new Uint8Array(key));
      }
      transaction.oncomplete = () => {
        database.close();
        resolve(undefined);
      };
    };
  });
}

/** Runs in a page: a database of a version that this package does not know. */
function writeNewerDatabase(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 99);
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      request.result.close();
      resolve(undefined);
    };
  });
}

export function engineTests({ test, browser, open, until, state, titles, origin }) {
  /** A page of the origin without a client. */
  const bare = async (context) => {
    const page = await context.newPage();
    await page.goto(`${origin}/bare.html`);
    return page;
  };
  const outcome = (page) => page.evaluate(() => window.test.outcome(window.test.last));
  /** A port at which nobody listens. */
  const NOWHERE = 5;

  test("only what the queries need comes to the device", async () => {
    const page = await open(await browser(), 0, { name: "coverage" });
    await state(page, "synced");
    await page.evaluate(() => window.test.insert("mine"));
    await until(page, () => window.test.status().waiting === 0);
    // What nodes told is kept a moment later.
    await page.waitForFunction(
      async ([read, name]) => {
        const { records } = await eval(`(${read})`)(name);
        return records.some(({ store }) => store === "v");
      },
      [readDatabase.toString(), DATABASE("coverage")],
    );
    const { version, records } = await page.evaluate(readDatabase, DATABASE("coverage"));
    assert.equal(version, 3);
    const facts = records.filter(({ store }) => store === "f");
    // The tenant has hundreds of issues, comments and labels too.
    const text = (bytes) => String.fromCharCode(...bytes);
    const others = facts.filter(({ value }) => /(issue|comment|label)\//.test(text(value)));
    assert.ok(facts.length > 0);
    assert.deepEqual(others, []);
    await page.close();
  });

  test("a write that lost to a deletion says what of it is gone", async () => {
    const [first, second] = [await open(await browser(), 0), await open(await browser(), 2)];
    await Promise.all([state(first, "synced"), state(second, "synced")]);
    const id = await first.evaluate(() => window.test.insert("0 to be deleted"));
    await until(second, (id) => window.test.result().data.some((todo) => todo.id === id), id);
    await second.evaluate(() => window.test.online(false));
    await state(second, "offline");
    await first.evaluate(async (id) => {
      const write = window.test.db.todo.delete(id);
      await write.confirmed;
    }, id);
    await second.evaluate((id) => {
      window.test.last = window.test.db.todo.update(id, { title: "0 too late" });
    }, id);
    await until(second, () => window.test.titles().includes("0 too late"));
    await second.evaluate(() => window.test.online(true));
    const { confirmed, status, superseded } = await outcome(second);
    assert.deepEqual([confirmed, status], ["confirmed", "superseded"]);
    assert.deepEqual(superseded, [{ id, field: "title" }]);
    await until(second, () => !window.test.titles().includes("0 too late"));
    await Promise.all([first.close(), second.close()]);
  });

  test("a reload in the middle of a push loses nothing and doubles nothing", async () => {
    const context = await browser();
    const other = await open(await browser(), 2);
    let page = await open(context, 0, { name: "reload" });
    await state(page, "synced");
    const ids = await page.evaluate(async () => {
      const writes = Array.from({ length: 150 }, (_, at) =>
        window.test.db.todo.insert({ title: `reload ${at}` }),
      );
      await Promise.all(writes.map((write) => write.kept));
      return writes.map((write) => write.value);
    });
    await page.close();
    page = await open(context, 1, { name: "reload" });
    await until(page, () => window.test.status().waiting === 0);
    for (const one of [page, other]) {
      await until(
        one,
        (count) => window.test.titles().filter((title) => title.startsWith("reload ")).length === count,
        ids.length,
      );
      const seen = await one.evaluate(() => {
        const mine = window.test.result().data.filter((todo) => todo.title.startsWith("reload "));
        return mine.map((todo) => todo.id);
      });
      assert.deepEqual(seen.sort(), [...ids].sort());
    }
    await page.evaluate(
      (ids) => window.test.db.tx((tx) => ids.forEach((id) => tx.todo.delete(id))).confirmed,
      ids,
    );
    await Promise.all([page.close(), other.close()]);
  });

  test("who comes after the last page has gone finds what that one had, also offline", async () => {
    const context = await browser();
    const [first, others] = [await open(context, 0, { name: "stays" }), await bare(context)];
    // Browsers end a worker some time after its last page. This one holds it for longer than that.
    await others.evaluate(() => {
      window.held = new SharedWorker("/dist/worker.js", { type: "module", name: "halcyon:stays:demo" });
    });
    await state(first, "synced");
    await first.evaluate(() => window.test.confirmed("0 stays"));
    const before = await first.evaluate(() => window.test.titles());
    await first.evaluate(() => window.test.online(false));
    await state(first, "offline");
    await first.close();
    const next = await open(context, NOWHERE, { name: "stays" });
    await titles(next, before);
    await others.close();
    await next.close();
    const last = await open(context, 0, { name: "stays" });
    await titles(last, before);
    await last.evaluate(async () => {
      const { id } = window.test.result().data.find(({ title }) => title === "0 stays");
      await window.test.db.todo.delete(id).confirmed;
    });
    await last.close();
  });

  test("of a database of the first format what waits is taken over, and nothing else", async () => {
    const context = await browser();
    let page = await open(context, NOWHERE, { name: "source" });
    await page.evaluate(() => window.test.insert("from the first format"));
    const { records } = await page.evaluate(readDatabase, DATABASE("source"));
    const sets = records.filter(({ store }) => store === "s");
    assert.equal(sets.length, 1);
    await page.evaluate(writeOldDatabase, [DATABASE("old"), sets[0].value]);
    await page.close();
    page = await open(context, NOWHERE, { name: "old" });
    await titles(page, ["from the first format"]);
    assert.equal(await page.evaluate(() => window.test.status().waiting), 1);
    const after = await page.evaluate(readDatabase, DATABASE("old"));
    assert.equal(after.version, 3);
    const waiting = after.records.filter(({ store }) => store === "s");
    assert.deepEqual(
      waiting.map(({ key, value }) => [key[7], value]),
      [[7, sets[0].value]],
    );
    // What is written now comes behind it.
    await page.evaluate(() => window.test.insert("g"));
    assert.equal(await page.evaluate(() => window.test.status().waiting), 2);
    await page.close();
  });

  test("of a database of the second format everything is taken over", async () => {
    const context = await browser();
    let page = await open(context, 0, { name: "third" });
    await state(page, "synced");
    await page.evaluate(() => window.test.online(false));
    await state(page, "offline");
    await page.evaluate(() => window.test.insert("0 waits"));
    const before = await page.evaluate(() => window.test.titles());
    // What nodes told is kept a moment later.
    await page.waitForFunction(
      async ([read, name]) => {
        const { records } = await eval(`(${read})`)(name);
        return ["f", "v"].every((letter) => records.some(({ store }) => store === letter));
      },
      [readDatabase.toString(), DATABASE("third")],
    );
    const { records } = await page.evaluate(readDatabase, DATABASE("third"));
    await page.evaluate(writeSecondDatabase, [DATABASE("second"), records]);
    await page.close();
    for (const how of ["taken over", "as it was written"]) {
      page = await open(context, NOWHERE, { name: "second" });
      await titles(page, before);
      assert.equal(await page.evaluate(() => window.test.status().waiting), 1, how);
      await page.close();
    }
  });

  test("a newer version's data is left alone, and one that opens meanwhile is not held up", async () => {
    const context = await browser();
    const page = await bare(context);
    await page.evaluate(writeNewerDatabase, DATABASE("newer"));
    const late = await open(context, 0, { name: "newer" });
    await until(late, () => window.test.errors.some(({ code }) => code === "NEWER_STORAGE"));
    const early = await open(context, 0, { name: "early" });
    await state(early, "synced");
    await page.evaluate(writeNewerDatabase, DATABASE("early"));
    await early.evaluate(() => {
      window.test.last = window.test.db.todo.insert({ title: "0 beside a newer version" });
    });
    const { kept, confirmed } = await outcome(early);
    assert.deepEqual([kept, confirmed], ["NEWER_STORAGE", "confirmed"]);
    await early.evaluate(() => window.test.db.todo.delete(window.test.last.value).confirmed);
    await Promise.all([page.close(), late.close(), early.close()]);
  });

  test("where the disk takes nothing more a write says so, and reaches a node all the same", async () => {
    const context = await browser();
    // Before anything is written: the browser asks itself only now and then what is left.
    const devtools = await context.newCDPSession(await bare(context));
    await devtools.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 });
    const page = await open(context, 0, { name: "quota" });
    await state(page, "synced");
    await page.evaluate(() => {
      const title = `0 ${"x".repeat(200_000)}`;
      window.test.last = window.test.db.todo.insert({ title });
    });
    const { kept, confirmed } = await outcome(page);
    assert.deepEqual([kept, confirmed], ["STORAGE_FULL", "confirmed"]);
    assert.ok(await page.evaluate(() => window.test.errors.some(({ code }) => code === "STORAGE_FULL")));
    await devtools.send("Storage.overrideQuotaForOrigin", { origin });
    await page.evaluate(() => {
      window.test.last = window.test.db.todo.delete(window.test.last.value);
    });
    assert.deepEqual(await outcome(page), {
      kept: "kept",
      confirmed: "confirmed",
      status: "confirmed",
      superseded: [],
    });
    await page.close();
  });

  test("an engine that stops is started again, and the writes under way are not lost", async () => {
    const page = await open(await browser(), 0, { name: "breaks", breaks: "write=2" });
    await state(page, "synced");
    await page.evaluate(async () => {
      await window.test.insert("0 before");
      window.test.last = window.test.db.todo.insert({ title: "0 in it" });
    });
    const { kept, confirmed } = await outcome(page);
    assert.deepEqual([kept, confirmed], ["kept", "confirmed"]);
    assert.ok(await page.evaluate(() => window.test.errors.some(({ code }) => code === "ENGINE_FAILED")));
    await until(page, () => ["0 before", "0 in it"].every((title) => window.test.titles().includes(title)));
    await until(page, () => window.test.status().waiting === 0 && window.test.status().result === "synced");
    await page.evaluate(() => {
      const mine = window.test.result().data.filter((todo) => todo.title.startsWith("0 "));
      return window.test.db.tx((tx) => mine.forEach((todo) => tx.todo.delete(todo))).confirmed;
    });
    await page.close();
  });

  test("a worker that is gone is made anew, and the writes under way are not lost", async () => {
    const page = await open(await browser(), 0, { name: "gone", breaks: "close=2" });
    await state(page, "synced");
    await page.evaluate(async () => {
      await window.test.insert("0 before");
      window.test.last = window.test.db.todo.insert({ title: "0 in it" });
    });
    const { kept, confirmed } = await outcome(page);
    assert.deepEqual([kept, confirmed], ["kept", "confirmed"]);
    await until(page, () => window.test.status().waiting === 0 && window.test.status().result === "synced");
    await page.evaluate(() => {
      const mine = window.test.result().data.filter((todo) => todo.title.startsWith("0 "));
      return window.test.db.tx((tx) => mine.forEach((todo) => tx.todo.delete(todo))).confirmed;
    });
    await page.close();
  });

  test("clearing removes everything, and the same page goes on", async () => {
    const context = await browser();
    const page = await open(context, NOWHERE, { name: "clear" });
    await page.evaluate(() => window.test.insert("gone soon"));
    await titles(page, ["gone soon"]);
    await page.evaluate(() => window.test.db.clear());
    await titles(page, []);
    await page.evaluate(() => window.test.insert("anew"));
    await titles(page, ["anew"]);
    const { records } = await page.evaluate(readDatabase, DATABASE("clear"));
    assert.equal(records.filter(({ store }) => store === "s").length, 1);
    await page.close();
  });

  test("two in a room, in two regions: presence, status, events, leaving", async () => {
    const [first, second] = [
      await open(await browser(), 0, { name: "rooms", user: "ann" }),
      await open(await browser(), 2, { name: "rooms", user: "bob" }),
    ];
    const since = Date.UTC(2026, 0, 2);
    await first.evaluate((since) => window.test.enter("d1", { since: new Date(since) }), since);
    await second.evaluate(() => window.test.enter("d1", { cursor: { x: 1 } }));
    const peers = (page, check) =>
      page.waitForFunction(
        (check) =>
          eval(check)(window.test.room.state.peers.map(({ user, presence }) => ({ user, ...presence }))),
        check.toString(),
      );
    await peers(first, (all) => all.length === 1 && all[0].user === "bob" && all[0].cursor.x === 1);
    await peers(second, (all) => all.length === 1 && all[0].since instanceof Date);
    assert.equal(
      await second.evaluate(() => window.test.room.state.peers[0].presence.since.getTime()),
      since,
    );
    // Of many only the latest counts, and it comes.
    await second.evaluate(() => {
      for (let x = 2; x <= 200; x += 1) window.test.room.set({ cursor: { x } });
    });
    await peers(first, (all) => all[0].cursor.x === 200);
    await first.evaluate(() => window.test.room.setStatus({ mode: "review" }));
    for (const page of [first, second])
      await until(page, () => window.test.room.state.status.mode === "review");
    await second.evaluate(() => window.test.room.setStatus({ mode: null }));
    for (const page of [first, second])
      await until(page, () => window.test.room.state.status.mode === undefined);
    await first.evaluate(() => window.test.room.send("ping", { count: 3 }));
    await until(second, () => window.test.heard.length === 1);
    const self = await first.evaluate(() => window.test.room.state.self);
    assert.deepEqual(await second.evaluate(() => window.test.heard), [{ count: 3, from: self }]);
    // To one, who is named.
    await second.evaluate(() =>
      window.test.room.send("ping", { count: 4 }, [window.test.room.state.peers[0].id]),
    );
    await until(first, () => window.test.heard.length === 1);
    // Another tab of a browser is somebody else in the room.
    const third = await open(first.context(), 0, { name: "rooms", user: "ann" });
    await third.evaluate(() => window.test.enter("d1", { cursor: { x: 7 } }));
    await peers(third, (all) => all.length === 2);
    await peers(first, (all) => all.length === 2 && all.some(({ cursor }) => cursor?.x === 7));
    await third.close();
    await peers(first, (all) => all.length === 1);
    // Who is cut off is gone, and back when the way is free.
    await second.evaluate(() => window.test.online(false));
    await until(second, () => !window.test.room.state.isConnected);
    await peers(first, (all) => all.length === 0);
    await second.evaluate(() => window.test.online(true));
    await peers(first, (all) => all.length === 1 && all[0].cursor.x === 200);
    await second.evaluate(() => window.test.leave());
    await peers(first, (all) => all.length === 0);
    await Promise.all([first.close(), second.close()]);
  });
}
