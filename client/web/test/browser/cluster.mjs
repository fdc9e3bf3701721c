// Clusters of three regions on this machine: one as `halcyon dev` makes it, with the demo tenant, and one of a process
// for each node, so that a node can be killed.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const REGIONS = ["eu-west", "us-east", "ap-south"];
/** How long `halcyon dev` may take until it runs, on a machine that does many things at once. */
const START_MS = 300_000;

/** `port` and the next two are for clients, those ten higher for peers. With `apps` it serves the example apps too. */
export async function cluster(binary, port, { issues = 200, apps = false } = {}) {
  const dir = await mkdtemp(join(tmpdir(), "halcyon-web-"));
  const data = join(dir, "data");
  const args = ["dev", "--data", data, "--port", String(port), "--fresh", "--issues", String(issues)];
  if (!apps) args.push("--no-web");
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
  const last = apps ? "Open in a browser" : "Ctrl-C stops";
  let said = "";
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      child.kill();
      reject(new Error(`halcyon dev does not say "${last}": ${said}`));
    }, START_MS);
    const on = (text) => {
      said += text;
      if (said.includes("no example apps")) reject(new Error(said));
      if (!said.includes(last)) return;
      clearTimeout(late);
      resolve(undefined);
    };
    child.on("exit", (code) => reject(new Error(`halcyon dev ended with ${code}: ${said}`)));
    child.stdout.on("data", on);
    child.stderr.on("data", on);
  });
  const env = {
    ...process.env,
    HALCYON_CLUSTER: `127.0.0.1:${port}`,
    HALCYON_ADMIN: join(data, "eu-west/admin.credential"),
    HALCYON_KEY: join(data, "demo.key"),
  };
  const halcyon = async (...words) => (await run(binary, words, { env })).stdout;
  return {
    node: (region) => `http://127.0.0.1:${port + region}`,
    key: join(data, "demo.key"),
    halcyon,
    stop: async () => {
      child.removeAllListeners("exit");
      await ended(child, "SIGINT");
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A node in a process of its own for each region, and a tenant `app` in all of them. */
export async function processes(binary, port, regions = REGIONS) {
  const dir = await mkdtemp(join(tmpdir(), "halcyon-nodes-"));
  const children = [];
  const address = (at) => `127.0.0.1:${port + at}`;
  const env = {
    ...process.env,
    HALCYON_CLUSTER: regions.map((_, at) => address(at)).join(","),
    HALCYON_ADMIN: join(dir, "eu-west/admin.credential"),
  };
  const halcyon = async (...words) => (await run(binary, words, { env })).stdout;
  const start = async (at, ...how) => {
    const data = join(dir, regions[at]);
    const listen = ["--listen", address(at), "--peer-listen", `127.0.0.1:${port + 10 + at}`];
    const args = ["node", "start", "--region", regions[at], "--data", data, ...listen, ...how];
    const child = spawn(binary, args, {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, HALCYON_LOG_FILTER: "error" },
    });
    children[at] = child;
    await until(`node ${at} is ready`, () =>
      fetch(`http://${address(at)}/readyz`).then(
        (answer) => answer.ok,
        () => {
          if (child.exitCode !== null) throw new Error(`node ${at} ended with ${child.exitCode}`);
          return false;
        },
      ),
    );
  };
  await start(0, "--bootstrap");
  for (const at of regions.keys()) {
    if (at === 0) continue;
    const { token } = JSON.parse(await halcyon("--json", "token", "create"));
    await start(at, "--join", token);
  }
  const { key } = JSON.parse(
    await halcyon("--json", "tenant", "create", "app", "--regions", regions.join(",")),
  );
  await until("the tenant serves everywhere", async () => {
    const { replicas } = JSON.parse(await halcyon("--json", "tenant", "show", "app"));
    return replicas.length === regions.length && replicas.every((replica) => replica.state === "active");
  });
  return {
    node: (region) => `http://${address(region)}`,
    key,
    halcyon,
    pid: (at) => children[at].pid,
    /** As a power cut takes it. */
    kill: (at) => ended(children[at], "SIGKILL"),
    start,
    stop: async () => {
      await Promise.all(children.map((child) => ended(child, "SIGKILL")));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export const secret = async (path) => (await readFile(path, "utf8")).trim();

const LOOK_EVERY_MS = 50;
const LONG_MS = 60_000;

async function until(what, check) {
  for (let waited = 0; waited < LONG_MS; waited += LOOK_EVERY_MS) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  throw new Error(`not within a minute: ${what}`);
}

function ended(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.on("exit", resolve);
    child.kill(signal);
  });
}
