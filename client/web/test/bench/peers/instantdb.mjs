// InstantDB's local engine: instaql over its store in memory. Its server is a cloud, so nothing goes over a wire here.
//
// Each live query there has a store of its own, which the server fills. Here its own transactions make the triples. Its
// files are imported one by one: the package exports neither the store nor the query.

import { issueAt, teamAt, TEAMS, TOP, userAt, USERS } from "../schema.js";
import { importFrom, list, pause, timed } from "./common.mjs";

const HOPS = { author: { team: {} } };
const LIVE = { issue: { $: { order: { rank: "desc" }, limit: 50 } } };
/** Its ids are UUIDs. */
const KINDS = { t: 1, u: 2, i: 3 };
const uuid = (id) => `00000000-0000-4000-8000-${KINDS[id[0]]}${id.slice(1).padStart(11, "0")}`;

async function importsFrom(dir) {
  // It does nothing outside of browsers, and this is how it tells.
  globalThis.window = globalThis;
  const from = (name) => importFrom(dir, `@instantdb/core/dist/esm/${name}.js`);
  const names = ["index", "store", "instaml", "instaql", "utils/linkIndex", "InMemoryStorage"];
  const modules = await Promise.all(names.map(async (name) => [name, await from(name)]));
  return Object.fromEntries(modules);
}

const schemaOf = ({ i }) =>
  i.schema({
    entities: {
      team: i.entity({ name: i.string() }),
      user: i.entity({ name: i.string() }),
      issue: i.entity({
        title: i.string(),
        open: i.boolean().indexed(),
        rank: i.number().indexed(),
        created: i.number().indexed(),
      }),
    },
    links: {
      issueAuthor: {
        forward: { on: "issue", has: "one", label: "author" },
        reverse: { on: "user", has: "many", label: "issues" },
      },
      userTeam: {
        forward: { on: "user", has: "one", label: "team" },
        reverse: { on: "team", has: "many", label: "users" },
      },
    },
  });

/** The attributes of the schema and the triples of all entities, as its server would send them. */
function contents(instant, schema, many) {
  const { tx } = instant.index;
  const { transform } = instant.instaml;
  const linkIndex = instant["utils/linkIndex"].createLinkIndex(schema);
  const attrsStore = (attrs) =>
    new instant.store.AttrsStoreClass(Object.fromEntries(attrs.map((attr) => [attr.id, attr])), linkIndex);
  const ofTeam = ({ id, ...team }) => tx.team[uuid(id)].create(team);
  const ofUser = ({ id, team, ...user }) => tx.user[uuid(id)].create(user).link({ team: uuid(team) });
  const ofIssue = ({ id, author, ...issue }) =>
    tx.issue[uuid(id)].create(issue).link({ author: uuid(author) });
  const teams = list(TEAMS, (at) => ofTeam(teamAt(at)));
  const users = list(USERS, (at) => ofUser(userAt(at)));
  const issues = list(many, (at) => ofIssue(issueAt(at)));
  // The first write of a kind brings the attributes along.
  const first = transform({ attrsStore: attrsStore([]), schema, stores: [] }, [
    teams[0],
    users[0],
    issues[0],
  ]);
  const attrs = first
    .filter(([step]) => step === "add-attr")
    .map(([, attr]) => ({ ...attr, isUnsynced: false }));
  const known = attrsStore(attrs);
  const steps = transform({ attrsStore: known, schema, stores: [] }, [...teams, ...users, ...issues]);
  const triples = steps.map(([, entity, attr, value], at) => [entity, attr, value, at]);
  return { attrs, attrsStore: known, triples };
}

/** From a transaction until the live query tells of it. */
async function ownWrites(instant, schema, attrs, triples) {
  const { id, init } = instant.index;
  // It dials when it knows whether it is online, so it never does.
  const network = { getIsOnline: () => new Promise(() => undefined), listen: () => () => undefined };
  const db = init({ appId: id(), schema }, instant.InMemoryStorage.default, network);
  const reactor = db._reactor;
  let tell = () => undefined;
  db.subscribeQuery(LIVE, ({ data }) => data && tell(data.issue[0].title));
  reactor._setAttrs(attrs);
  reactor._addQueryData(LIVE, { triples }, true);
  // It puts what it has been given into its storage in the background.
  await pause(1_000);
  const all = [];
  for (let at = 0; at < 50; at += 1) {
    const title = `own ${at}`;
    const seen = new Promise((resolve) => (tell = (first) => first === title && resolve()));
    const from = performance.now();
    db.transact(db.tx.issue[id()].create({ title, open: true, rank: TOP + at, created: 2 * TOP + at }));
    await seen;
    all.push(performance.now() - from);
    // As if a server had answered; otherwise each write would do all before it again.
    reactor._updatePendingMutations((pending) => pending.clear());
    await pause(10 + (at % 7));
  }
  return all;
}

export async function figures(dir, many) {
  const instant = await importsFrom(dir);
  const schema = schemaOf(instant.index);
  const { attrs, attrsStore, triples } = contents(instant, schema, many);
  const store = instant.store.createStore(attrsStore, triples, true, false);
  const ask = (issue) => instant.instaql.default({ store, attrsStore }, { issue }).data.issue;
  const least = (rank) => ({
    $: { where: { open: true, rank: { $gte: rank } }, order: { created: "desc" }, limit: 50 },
  });
  const filter = await timed(15, (at) => ask(least(1_000 + at)));
  const whole = await timed(15, (at) => ask({ ...least(2_000 + at), ...HOPS }));
  const all = await timed(5, (at) => ask({ $: { where: { rank: { $gte: -1 - at } } }, ...HOPS }));
  const write = await ownWrites(instant, schema, attrs, triples);
  // Its server sends for a live query what that query needs, and no more.
  const held = new Set(ask(LIVE.issue).map(({ id }) => id));
  const ofHeld = triples.filter(([entity]) => held.has(entity));
  const fifty = await ownWrites(instant, schema, attrs, ofHeld);
  return { filter, whole, all, write, fifty };
}
