// The same things with other libraries, in Node: installed into a directory of their own, which npm fills once.
//
//   node peers.mjs dir yjs|tinybase|triplit [clients]
//   node peers.mjs dir datascript|instantdb [issues]        prints one line of JSON

const [dir, which, count = "200", role] = process.argv.slice(2);
const peer = await import(`./peers/${which}.mjs`);

if (role === "server") {
  // Not longer than who started it.
  process.once("disconnect", () => process.exit(0));
  process.send(await peer.serve(dir));
} else {
  console.log(JSON.stringify(await peer.figures(dir, Number(count))));
  process.exit(0);
}
