// Makes the module smaller on the wire: names are dropped, of functions that are the same one stays, and functions that are
// alike lie side by side. Compilers write one function for each pair of types; gzip sees that they are nearly the same only
// where they are near each other.

/** What `gzip` can look back to is small, and so is what tells two functions apart. */
const SHINGLE = 5;
const HASHES = 16;

const FUNCTION = 3;
const EXPORT = 7;
const START = 8;
const ELEMENT = 9;
const CODE = 10;

class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  number() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  }

  /** Passes over bytes whose number stands before them. */
  passBytes() {
    const length = this.number();
    this.at += length;
  }

  /** Passes over a number of any size and sign. */
  pass() {
    while (this.byte() >= 0x80);
  }
}

function leb(value) {
  const bytes = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** The sections that make the module: id and content. */
function sections(module) {
  const reader = new Reader(module, 8);
  const all = [];
  while (reader.at < module.length) {
    const id = reader.byte();
    const length = reader.number();
    if (id !== 0) all.push({ id, content: module.subarray(reader.at, reader.at + length) });
    reader.at += length;
  }
  return all;
}

/** Passes over what follows an instruction's code; calls `onFunction` where that is a function's number. */
function passOperands(reader, code, onFunction) {
  if (code === 0x10 || code === 0x12 || code === 0xd2) onFunction();
  else if (code === 0x0e) for (let left = reader.number() + 1; left > 0; left -= 1) reader.pass();
  else if (code === 0x11 || code === 0x13 || (code >= 0x28 && code <= 0x3e)) {
    reader.pass();
    reader.pass();
  } else if (code === 0x1c) reader.passBytes();
  else if (code === 0x43) reader.at += 4;
  else if (code === 0x44) reader.at += 8;
  else if (code === 0xfc) passExtended(reader);
  else if ((code >= 0x02 && code <= 0x04) || code === 0x0c || code === 0x0d) reader.pass();
  else if ((code >= 0x20 && code <= 0x26) || (code >= 0x3f && code <= 0x42) || code === 0xd0) reader.pass();
  else if (code > 0x1b && code < 0x45) throw new Error(`an instruction that is not known here: ${code}`);
  else if (code > 0xc4 && code !== 0xd1) throw new Error(`an instruction that is not known here: ${code}`);
}

function passExtended(reader) {
  const code = reader.number();
  if (code > 17) throw new Error(`an instruction that is not known here: 0xfc ${code}`);
  const operands = [8, 10, 12, 14].includes(code) ? 2 : code < 8 ? 0 : 1;
  for (let at = 0; at < operands; at += 1) reader.pass();
}

/** A function's body with other functions' numbers in it. */
function renumbered(body, numbers) {
  const reader = new Reader(body);
  for (let groups = reader.number(); groups > 0; groups -= 1) {
    reader.pass();
    reader.byte();
  }
  const out = [];
  let from = 0;
  while (reader.at < body.length) {
    const code = reader.byte();
    passOperands(reader, code, () => {
      out.push(body.subarray(from, reader.at));
      out.push(Uint8Array.from(leb(numbers[reader.number()])));
      from = reader.at;
    });
  }
  out.push(body.subarray(from));
  return Buffer.concat(out);
}

function bodiesOf(code) {
  const reader = new Reader(code);
  return Array.from({ length: reader.number() }, () => {
    const length = reader.number();
    reader.at += length;
    return code.subarray(reader.at - length, reader.at);
  });
}

/** For each body the least hashes of its shingles: two bodies share as many of them as they are alike. */
function sketches(bodies) {
  const all = new Uint32Array(bodies.length * HASHES).fill(0xffffffff);
  for (const [at, body] of bodies.entries()) {
    for (let from = 0; from + SHINGLE <= body.length; from += 1) {
      let hash = 0;
      for (let next = 0; next < SHINGLE; next += 1)
        hash = Math.imul(hash ^ body[from + next], 0x01000193) + 0x1b873593;
      for (let which = 0; which < HASHES; which += 1) {
        let value = Math.imul(hash ^ (hash >>> 15), (which + 1) * 0x9e3779b1);
        value = Math.imul(value ^ (value >>> 13), 0x85ebca6b) >>> 0;
        if (value < all[at * HASHES + which]) all[at * HASHES + which] = value;
      }
    }
  }
  return all;
}

/** An order in which each function follows the one that is most like it, of those that are left. */
function order(bodies) {
  const all = sketches(bodies);
  const left = bodies.map((_, at) => at).sort((a, b) => bodies[b].length - bodies[a].length || a - b);
  const ordered = [left.shift()];
  while (left.length > 0) {
    const last = ordered[ordered.length - 1] * HASHES;
    let best = 0;
    let most = -1;
    for (let at = 0; at < left.length; at += 1) {
      const one = left[at] * HASHES;
      let same = 0;
      for (let which = 0; which < HASHES; which += 1) if (all[last + which] === all[one + which]) same += 1;
      if (same > most) {
        most = same;
        best = at;
      }
    }
    ordered.push(...left.splice(best, 1));
  }
  return ordered;
}

function exported(content, numbers) {
  const reader = new Reader(content);
  const out = [];
  let from = 0;
  for (let left = reader.number(); left > 0; left -= 1) {
    reader.passBytes();
    const kind = reader.byte();
    out.push(content.subarray(from, reader.at));
    const number = reader.number();
    out.push(Uint8Array.from(leb(kind === 0 ? numbers[number] : number)));
    from = reader.at;
  }
  return Buffer.concat(out);
}

/** Tables of functions, in the one form that the linker writes. */
function elements(content, numbers) {
  const reader = new Reader(content);
  const out = [];
  let from = 0;
  for (let left = reader.number(); left > 0; left -= 1) {
    if (reader.number() !== 0) throw new Error("a table of functions in a form that is not known here");
    while (reader.byte() !== 0x0b);
    const count = reader.number();
    out.push(content.subarray(from, reader.at));
    for (let at = 0; at < count; at += 1) out.push(Uint8Array.from(leb(numbers[reader.number()])));
    from = reader.at;
  }
  return Buffer.concat(out);
}

/**
 * For each function the first that does the same: its type and its body are equal, once the functions that it calls are
 * replaced by the first of theirs. Each round may make others equal.
 */
function firsts(bodies, types) {
  let numbers = Uint32Array.from(bodies.keys());
  for (;;) {
    const seen = new Map();
    const next = numbers.map((_, at) => {
      const key = `${types[at]} ${renumbered(bodies[at], numbers).toString("latin1")}`;
      if (!seen.has(key)) seen.set(key, at);
      return seen.get(key);
    });
    if (next.every((first, at) => first === numbers[at])) return numbers;
    numbers = next;
  }
}

function typesOf(content) {
  const reader = new Reader(content);
  return Array.from({ length: reader.number() }, () => reader.number());
}

/** The same module without names and without functions twice, in another order. It must import no function. */
export function pack(module) {
  const all = sections(module);
  const contentOf = (wanted) => all.find(({ id }) => id === wanted).content;
  const [bodies, types] = [bodiesOf(contentOf(CODE)), typesOf(contentOf(FUNCTION))];
  if (all.some(({ id }) => id === 2)) throw new Error("the module has imports");
  const first = firsts(bodies, types);
  const kept = bodies.flatMap((_, at) => (first[at] === at ? [at] : []));
  const ordered = order(kept.map((at) => bodies[at])).map((at) => kept[at]);
  const numbers = new Uint32Array(bodies.length);
  for (const [at, number] of ordered.entries()) numbers[number] = at;
  for (const at of bodies.keys()) numbers[at] = numbers[first[at]];
  const packed = all.map(({ id, content }) => ({ id, content: rewritten(id, content) }));
  return Buffer.concat([
    module.subarray(0, 8),
    ...packed.flatMap(({ id, content }) => [Uint8Array.from([id, ...leb(content.length)]), content]),
  ]);

  function rewritten(id, content) {
    if (id === EXPORT) return exported(content, numbers);
    if (id === ELEMENT) return elements(content, numbers);
    if (id === START) return Uint8Array.from(leb(numbers[new Reader(content).number()]));
    if (id === FUNCTION)
      return Uint8Array.from([...leb(ordered.length), ...ordered.flatMap((number) => leb(types[number]))]);
    if (id !== CODE) return content;
    const moved = ordered.map((number) => renumbered(bodies[number], numbers));
    return Buffer.concat([
      Uint8Array.from(leb(moved.length)),
      ...moved.flatMap((body) => [Uint8Array.from(leb(body.length)), body]),
    ]);
  }
}
