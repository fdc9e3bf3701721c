// What is measured on: issues, their authors and the authors' teams. An issue is five triples.

/** The schema, for a page and for Node, which find the package in different places. */
export const schemaOf = ({ defineSchema, t }) =>
  defineSchema(
    {
      team: t.entity({ name: t.string() }),
      user: t.entity({ name: t.string(), team: t.ref("team", { inverse: "users" }) }),
      issue: t.entity({
        title: t.string(),
        open: t.boolean().default(true),
        rank: t.number().default(0),
        created: t.number().default(0),
        author: t.ref("user", { inverse: "issues" }),
      }),
    },
    { rooms: { doc: { presence: { cursor: t.json() } } } },
  );

/** How many issues. */
export const MANY = 20_000;
/** Above every rank of the issues that are there, so that what is written comes first. */
export const TOP = 1e6;
export const TEAMS = 20;
export const USERS = 500;

/** Issue number so-and-so: the same in every store that is measured. */
export const issueAt = (at) => ({
  id: `i${at}`,
  title: `Issue ${at} of many, with a title as long as titles are`,
  open: at % 5 !== 0,
  rank: at,
  // Not in the order of the ids.
  created: (at * 7_919) % 1_000_003,
  author: `u${at % USERS}`,
});
export const userAt = (at) => ({ id: `u${at}`, name: `User ${at}`, team: `t${at % TEAMS}` });
export const teamAt = (at) => ({ id: `t${at}`, name: `Team ${at}` });
