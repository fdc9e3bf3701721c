// A cluster of three regions on this machine, as `halcyon dev` makes it, with a tenant for the test.

import { spawn, execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Starts it; `port` and the next two are for clients, those ten higher for peers. */
export async function cluster(binary, port) {
  const dir = await mkdtemp(join(tmpdir(), "halcyon-web-"));
  const data = join(dir, "data");
  const args = ["dev", "--data", data, "--port", String(port), "--fresh", "--issues", "200"];
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  await new Promise((resolve, reject) => {
    child.on("exit", (code) => reject(new Error(`halcyon dev ended with ${code}: ${said}`)));
    child.stdout.on("data", (text) => {
      said += text;
      if (said.includes("its key")) resolve(undefined);
    });
  });
  const env = {
    ...process.env,
    HALCYON_CLUSTER: `127.0.0.1:${port}`,
    HALCYON_ADMIN: join(data, "eu-west/admin.credential"),
  };
  const halcyon = async (...words) => (await run(binary, words, { env })).stdout;
  return {
    node: (region) => `http://127.0.0.1:${port + region}`,
    key: join(data, "demo.key"),
    halcyon,
    stop: async () => {
      child.removeAllListeners("exit");
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.kill("SIGINT");
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}
