// Tenant, key and nodes of the page. The node that serves it tells them (`halcyon dev`); elsewhere the address names
// them: ?key=…&node=…&tenant=…

export interface Region {
  readonly region: string;
  readonly origin: string;
}

export interface Session {
  readonly tenant: string;
  readonly key: string;
  readonly nodes: readonly string[];
  /** All regions that serve this page. */
  readonly regions: readonly Region[];
  /** This one. */
  readonly here: string | undefined;
}

type Told = Omit<Session, "nodes">;

async function find(): Promise<Session | undefined> {
  const address = new URLSearchParams(location.search);
  const key = address.get("key");
  if (key) {
    const nodes = address.getAll("node");
    return { tenant: address.get("tenant") ?? "demo", key, nodes, regions: [], here: undefined };
  }
  try {
    const answer = await fetch("session.json", { cache: "no-store" });
    return answer.ok ? { ...((await answer.json()) as Told), nodes: [location.origin] } : undefined;
  } catch {
    return undefined;
  }
}

export const session = await find();

/** What `createClient` needs of it. Apps are loaded only where there is a session. */
export function access() {
  if (!session) throw new Error("there is no session");
  const { tenant, key, nodes } = session;
  return { tenant, endpoints: nodes, auth: { key } };
}
