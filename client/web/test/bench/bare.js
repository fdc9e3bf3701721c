// A shared worker that does nothing of its own: what its page tells it goes to a bare server, or back as so much text.

const HEADERS = {
  "content-type": "application/grpc-web+proto",
  "x-grpc-web": "1",
  authorization: "Bearer nobody",
};
/** About what a change set takes. */
const BODY_BYTES = 200;

globalThis.onconnect = ({ ports: [port] }) => {
  port.onmessage = async ({ data: { echo, post, listen, number } }) => {
    if (echo !== undefined) port.postMessage("x".repeat(echo));
    if (post !== undefined) {
      const body = JSON.stringify({ number }).padEnd(BODY_BYTES);
      const answer = await fetch(`${post}/write`, {
        method: "POST",
        headers: HEADERS,
        body,
        cache: "no-store",
      });
      await answer.arrayBuffer();
      port.postMessage({ written: number });
    }
    if (listen !== undefined) {
      const { body } = await fetch(`${listen}/listen`, { method: "POST", headers: HEADERS });
      port.postMessage({ listening: true });
      const text = new TextDecoder();
      let held = "";
      for await (const chunk of body) {
        for (held += text.decode(chunk); held.length >= BODY_BYTES; held = held.slice(BODY_BYTES))
          port.postMessage({ seen: JSON.parse(held.slice(0, BODY_BYTES)).number });
      }
    }
  };
};
