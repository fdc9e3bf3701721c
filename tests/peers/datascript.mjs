/**
 * Queries over a million triples in memory: DataScript in Node and Halcyon's engine, in turns.
 *
 *   node datascript.mjs DIR HALCYON ROUNDS      DIR holds node_modules/datascript; HALCYON is the command
 *
 * The triples are those of core/src/query/testing/blog.rs, made by the same steps; both sides must find as many rows.
 */
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";

const [dir, halcyon, rounds] = [process.argv[2], process.argv[3], Number(process.argv[4] ?? 3)];
const d = createRequire(join(dir, "package.json"))("datascript");

const ENTITIES = 100_000;
const [USERS, POSTS] = [(ENTITIES * 12) / 100, (ENTITIES * 55) / 100];
const DAY = 86_400_000;
const MASK = (1n << 64n) - 1n;

/** splitmix64, as the Rust side draws. */
function draws(seed) {
  let state = seed & MASK;
  const next = () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return z ^ (z >> 31n);
  };
  return { next, below: (count) => Number(next() % BigInt(count)) };
}

/** The fields of an entity, in the order in which they are drawn. Entities are numbers from 1, as DataScript has them. */
function fields(number) {
  const draw = draws(BigInt(number) ^ 0x5eedn);
  const { below } = draw;
  const date = () => 1_600_000_000_000 + below(150_000_000) * 1_000 + DAY;
  const some = (from, count) => 1 + from + below(count);
  if (number < USERS) {
    return {
      "user/name": `User Number ${number}`,
      "user/email": `user${number}@example.com`,
      "user/age": 12 + below(67),
      "user/city": `City of ${below(100)}`,
      "user/bio": `Born in ${below(9_999)}, likes ${below(99_999)}`,
      "user/joined": date(),
      "user/active": below(2) === 0,
      "user/score": below(1_000),
      "user/language": ["en", "de", "fr", "pt"][below(4)],
      "user/friend": some(0, USERS),
    };
  }
  if (number < USERS + POSTS) {
    return {
      "post/title": `Thoughts on ${below(1_000)} and ${number}`,
      "post/body": `It is ${below(99)} again, and number ${draw.next()} is still open`,
      "post/author": some(0, USERS),
      "post/category": `category-${below(100)}`,
      "post/created": date(),
      "post/updated": date(),
      "post/views": below(100_000),
      "post/published": below(10) !== 0,
      "post/slug": `thoughts-on-${number}`,
      "post/rating": below(6),
    };
  }
  return {
    "comment/text": `I agree with point ${below(100_000)}`,
    "comment/post": some(USERS, POSTS),
    "comment/author": some(0, USERS),
    "comment/created": date(),
    "comment/likes": below(50),
    "comment/edited": below(20) === 0,
    "comment/language": "en",
    "comment/kind": "reply",
    "comment/score": below(100),
    "comment/spam": false,
  };
}

const ref = { ":db/valueType": ":db.type/ref" };
const indexed = { ":db/index": true };
const SCHEMA = {
  "user/friend": ref,
  "post/author": ref,
  "comment/post": ref,
  "comment/author": ref,
  "user/age": indexed,
  "user/city": indexed,
  "post/category": indexed,
  "post/created": indexed,
};

function load() {
  const datoms = [];
  for (let number = 0; number < ENTITIES; number++) {
    for (const [field, value] of Object.entries(fields(number))) datoms.push([number + 1, field, value]);
  }
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const start = performance.now();
  const db = d.init_db(datoms, SCHEMA);
  const took = performance.now() - start;
  globalThis.gc?.();
  return { db, rate: datoms.length / (took / 1_000), bytes: (process.memoryUsage().heapUsed - before) / datoms.length };
}

const first = (rows, at) => rows.sort((a, b) => b[at] - a[at]).slice(0, 20);

/** By the names that `halcyon bench query` gives them; each answers with how many rows it found. */
const QUESTIONS = {
  "one entity of 10 fields": (db) => Object.keys(d.pull(db, '["*"]', 50_001)).length - 1,
  "one category of 100": (db) => d.q('[:find ?p :where [?p "post/category" "category-42"]]', db).length,
  "posts by authors, age > 30": (db) =>
    d.q('[:find ?p :where [?u "user/age" ?a] [(> ?a 30)] [?p "post/author" ?u]]', db).length,
  "posts by authors, age = 42": (db) => d.q('[:find ?p :where [?u "user/age" 42] [?p "post/author" ?u]]', db).length,
  "three hops, age > 30": (db) =>
    d.q('[:find ?c :where [?u "user/age" ?a] [(> ?a 30)] [?p "post/author" ?u] [?c "comment/post" ?p]]', db).length,
  "three hops from one city": (db) =>
    d.q('[:find ?c :where [?u "user/city" "City of 42"] [?p "post/author" ?u] [?c "comment/post" ?p]]', db).length,
  "posts per author city": (db) =>
    d.q('[:find ?city (count ?p) :where [?p "post/author" ?u] [?u "user/city" ?city]]', db).length,
  "count by predicate over all": (db) => d.q("[:find ?p (count ?s) :where [?s ?p ?o]]", db).length,
  "newest 20 posts": (db) => first(d.q('[:find ?t ?p :where [?p "post/created" ?t]]', db), 0).length,
  "newest 20 in a category": (db) =>
    first(d.q('[:find ?t ?p :where [?p "post/category" "category-42"] [?p "post/created" ?t]]', db), 0).length,
};

/** Milliseconds of one run, over as many as fill 40 ms. */
function time(run) {
  const start = performance.now();
  for (let runs = 1; ; runs++) {
    run();
    const took = performance.now() - start;
    if (took >= 40) return took / runs;
  }
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

const { db, rate, bytes } = load();
const ours = new Map(Object.keys(QUESTIONS).map((name) => [name, []]));
const theirs = new Map(Object.keys(QUESTIONS).map((name) => [name, []]));
const rates = [];
for (let round = 0; round < rounds; round++) {
  const told = execFileSync(halcyon, ["bench", "query", "--memory", "--json"], { stdio: ["ignore", "pipe", "ignore"] });
  for (const figure of JSON.parse(told).figures) {
    if (figure.name === "load into memory") rates.push(figure.median);
    const [, name, rows] = /^(.*) \(([\d,]+) rows\), in memory$/.exec(figure.name) ?? [];
    if (!name) continue;
    const found = QUESTIONS[name](db);
    if (found !== Number(rows.replaceAll(",", ""))) throw new Error(`${name}: ${rows} rows and ${found}`);
    ours.get(name).push(figure.median);
  }
  for (const [name, ask] of Object.entries(QUESTIONS)) theirs.get(name).push(time(() => ask(db)));
}

console.log(`medians of ${rounds} rounds in turns, milliseconds`);
console.log(`${"".padEnd(32)}${"halcyon".padStart(12)}${"datascript".padStart(12)}${"times".padStart(10)}`);
for (const name of ours.keys()) {
  const [our, their] = [median(ours.get(name)), median(theirs.get(name))];
  const columns = [our.toFixed(4).padStart(12), their.toFixed(3).padStart(12), (their / our).toFixed(0).padStart(10)];
  console.log(name.padEnd(32) + columns.join(""));
}
console.log(`load: halcyon ${median(rates).toFixed(0)} triples/s; datascript ${rate.toFixed(0)}, ${bytes.toFixed(0)} bytes each`);
