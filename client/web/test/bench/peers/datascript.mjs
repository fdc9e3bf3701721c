// DataScript with the same issues; the queries as its own users write them.

import { issueAt, teamAt, TEAMS, TOP, userAt, USERS } from "../schema.js";
import { list, requireFrom, timed } from "./common.mjs";

export async function figures(dir, many) {
  const d = requireFrom(dir)("datascript");
  const one = { ":db/cardinality": ":db.cardinality/one", ":db/valueType": ":db.type/ref" };
  const schema = {
    id: { ":db/unique": ":db.unique/identity" },
    author: one,
    team: one,
    rank: { ":db/index": true },
  };
  const link = (entity, name) => ({ ...entity, [name]: ["id", entity[name]] });
  const users = list(USERS, (at) => link(userAt(at), "team"));
  const issues = list(many, (at) => link(issueAt(at), "author"));
  let db = d.empty_db(schema);
  for (const entities of [list(TEAMS, teamAt), users, issues]) db = d.db_with(db, entities);
  const query = `[:find ?e ?created :in $ ?least :where [?e "open" true] [?e "rank" ?rank] [(>= ?rank ?least)]
    [?e "created" ?created]]`;
  const top = (least) =>
    d
      .q(query, db, least)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 50)
      .map(([id]) => id);
  const hops = '["*" {"author" ["*" {"team" ["*"]}]}]';
  const filter = await timed(15, (at) => d.pull_many(db, '["*"]', top(1_000 + at)));
  const whole = await timed(15, (at) => d.pull_many(db, hops, top(2_000 + at)));
  const ranked = () => d.datoms(db, ":avet", "rank").map(({ e }) => e);
  const all = await timed(3, () => d.pull_many(db, hops, ranked()));
  const write = await timed(50, (at) => {
    db = d.db_with(db, [
      { id: `own ${at}`, title: `own ${at}`, open: true, rank: TOP + at, created: 2 * TOP + at },
    ]);
    d.pull_many(db, '["*"]', ranked().slice(-50).reverse());
  });
  return { filter, whole, all, write };
}
