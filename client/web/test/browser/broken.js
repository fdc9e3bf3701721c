// Puts itself between the worker and the engine, and moves the worker's clock. Loaded before the worker.

const options = new URL(self.location.href).searchParams;
const [last, end] = [Number(options.get("write")), Number(options.get("close"))];
const instantiate = WebAssembly.instantiate.bind(WebAssembly);
let writes = 0;

const rightTime = Date.now;
Date.now = () => rightTime() + Number(options.get("ahead"));

WebAssembly.instantiate = async (module) => {
  const { exports } = await instantiate(module);
  const halcyon_write = (...args) => {
    writes += 1;
    if (writes === end) self.close();
    if (writes === last || writes === end) throw new WebAssembly.RuntimeError("unreachable");
    return exports.halcyon_write(...args);
  };
  return { exports: { ...exports, halcyon_write } };
};
