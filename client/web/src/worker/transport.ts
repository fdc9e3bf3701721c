// gRPC-web by fetch: unary calls, and streams from a node. Frames and trailers only; bodies are the engine's.

const FRAME_HEADER = 5;
const TRAILER = 0x80;

/** A frame beyond this is no message of ours. */
const FRAME_BYTES_MAX = 8 << 20;

/** Why a call failed. `details` hold a node's refusal; without them the connection failed. */
export class CallError extends Error {
  override readonly name = "CallError";
  readonly details: Uint8Array;

  constructor(message: string, details: Uint8Array = new Uint8Array()) {
    super(message);
    this.details = details;
  }
}

export interface Caller {
  readonly key: string;
  readonly user: string | undefined;
}

interface Frame {
  readonly isTrailer: boolean;
  readonly body: Uint8Array;
}

function frame(body: Uint8Array): Uint8Array<ArrayBuffer> {
  const framed = new Uint8Array(FRAME_HEADER + body.length);
  new DataView(framed.buffer).setUint32(1, body.length);
  framed.set(body, FRAME_HEADER);
  return framed;
}

function base64Bytes(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Throws unless the status is good. Trailers that never came mean that the answer was cut off. */
function checkStatus(get: (name: string) => string | null): void {
  const status = get("grpc-status");
  if (status === "0") return;
  if (status === null) throw new CallError("the answer was cut off");
  const details = get("grpc-status-details-bin");
  const message = decodeURIComponent(get("grpc-message") ?? "");
  throw new CallError(`${message} (gRPC status ${status})`, details ? base64Bytes(details) : undefined);
}

function trailers(body: Uint8Array): (name: string) => string | null {
  const lines = new TextDecoder().decode(body).split("\r\n");
  const pairs = lines.map((line) => line.split(/:\s*(.*)/s));
  const map = new Map(pairs.map(([name, value]) => [name?.trim().toLowerCase() ?? "", value ?? ""]));
  return (name) => map.get(name) ?? null;
}

/** The whole frames that bytes begin with, and where they end. */
function split(bytes: Uint8Array): { readonly frames: readonly Frame[]; readonly end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (bytes.length - at >= FRAME_HEADER) {
    const length = view.getUint32(at + 1);
    if (length > FRAME_BYTES_MAX) throw new CallError("the answer is not gRPC-web");
    const end = at + FRAME_HEADER + length;
    if (bytes.length < end) break;
    const isTrailer = ((bytes[at] ?? 0) & TRAILER) !== 0;
    frames.push({ isTrailer, body: bytes.subarray(at + FRAME_HEADER, end) });
    at = end;
  }
  return { frames, end: at };
}

/** Gives each frame of a body to `take` as it comes, which says whether it wants more. */
async function readFrames(body: ReadableStream<Uint8Array>, take: (frame: Frame) => boolean): Promise<void> {
  const reader = body.getReader();
  // Of a frame that is not whole yet: its parts, and how many bytes are wanted before it is worth a look.
  let parts: Uint8Array[] = [];
  let [held, wanted] = [0, FRAME_HEADER];
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(fail);
      if (done) return;
      parts.push(value);
      held += value.length;
      if (held < wanted) continue;
      const bytes = joined(parts, held);
      const { frames, end } = split(bytes);
      for (const frame of frames) if (!take(frame)) return;
      const rest = bytes.subarray(end);
      parts = rest.length > 0 ? [rest] : [];
      held = rest.length;
      wanted = FRAME_HEADER;
      if (held >= FRAME_HEADER) wanted += new DataView(rest.buffer, rest.byteOffset).getUint32(1);
    }
  } finally {
    // Whoever stops listening early wants the connection closed.
    await reader.cancel().catch(() => undefined);
  }
}

/** Throws what a connection failed with, as a {@link CallError}. */
function fail(error: unknown): never {
  throw new CallError(error instanceof Error ? error.message : String(error));
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1 && parts[0]) return parts[0];
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function open(
  base: string,
  path: string,
  body: Uint8Array,
  caller: Caller | undefined,
  signal: AbortSignal,
) {
  const headers: Record<string, string> = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
  if (caller) headers.authorization = `Bearer ${caller.key}`;
  if (caller?.user !== undefined) headers["halcyon-user"] = caller.user;
  const response = await fetch(`${base}/halcyon.v1.${path}`, {
    method: "POST",
    headers,
    body: frame(body),
    signal,
    cache: "no-store",
    credentials: "omit",
  }).catch(fail);
  const type = response.headers.get("content-type") ?? "";
  // A captive portal answers everything, with a page of its own.
  if (!type.startsWith("application/grpc-web"))
    throw new CallError(`not a Halcyon node: ${response.status} ${type}`);
  if (response.headers.has("grpc-status")) checkStatus((name) => response.headers.get(name));
  return response;
}

/**
 * Gives each message of a server stream to `take`, which says whether it wants more. Throws a {@link CallError} where the
 * stream ends badly. A callback and no generator: through two of those each message would wait for several microtasks.
 */
export async function stream(
  base: string,
  path: string,
  body: Uint8Array,
  caller: Caller | undefined,
  signal: AbortSignal,
  take: (message: Uint8Array) => boolean,
): Promise<void> {
  const response = await open(base, path, body, caller, signal);
  if (!response.body) return;
  let status = (name: string) => response.headers.get(name);
  let wantsMore = true;
  await readFrames(response.body, (next) => {
    if (next.isTrailer) status = trailers(next.body);
    else wantsMore = take(next.body);
    return wantsMore && !next.isTrailer;
  });
  if (wantsMore) checkStatus(status);
}

/** One call with one answer, within a deadline, unless it is called off. */
export async function call(
  base: string,
  path: string,
  body: Uint8Array,
  caller: Caller | undefined,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const deadline = AbortSignal.timeout(deadlineMs);
  const either = signal ? AbortSignal.any([deadline, signal]) : deadline;
  const response = await open(base, path, body, caller, either);
  const bytes = await response.arrayBuffer().catch(fail);
  const { frames } = split(new Uint8Array(bytes));
  const trailer = frames.find(({ isTrailer }) => isTrailer);
  checkStatus(trailer ? trailers(trailer.body) : (name) => response.headers.get(name));
  const answer = frames.find(({ isTrailer }) => !isTrailer);
  if (!answer) throw new CallError("the answer is empty");
  return answer.body;
}
