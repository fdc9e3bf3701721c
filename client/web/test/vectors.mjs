// The vectors that Rust recorded (client/wasm/testdata), through the module. Node and a browser run this alike.

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const bytesOf = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

/** Runs all cases; returns what differs, as `[name, what, got, expected]`. */
export async function run(Engine, module, cases) {
  const differing = [];
  const check = (name, what, got, expected) => {
    const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
    if (a !== b) differing.push([name, what, a, b]);
  };
  for (const { name, writes, pushes, events, reversed, fingerprint, answers } of cases) {
    for (const [at, { client, wall, changes }] of writes.entries()) {
      const world = { client: [0n, BigInt(client)], now: () => BigInt(wall) };
      const engine = await Engine.open(module, "app", undefined, world);
      engine.durable(engine.write(JSON.stringify(changes)));
      check(name, `push ${at}`, hex(engine.nextPush()), pushes[at]);
    }
    for (const order of [events, reversed]) {
      const world = { client: [0n, 99n], now: () => 0n };
      const engine = await Engine.open(module, "app", undefined, world);
      for (const [at, { query }] of answers.entries()) engine.follow(at + 1, JSON.stringify(query));
      for (const event of order) {
        engine.onEvent(bytesOf(event));
        // Numbers are given to subscriptions when they are asked for.
        while (engine.nextCall());
      }
      engine.takeNews();
      check(name, "fingerprint", engine.fingerprint(), fingerprint);
      for (const [at, { query, rows, shared }] of answers.entries()) {
        engine.follow(0, JSON.stringify(query));
        const [frame] = engine.takeNews();
        engine.unfollow(0);
        const news = JSON.parse(frame?.text ?? "null");
        check(name, `answer ${at}`, [news.rows, news.shared], [rows, shared]);
      }
    }
  }
  return differing;
}
