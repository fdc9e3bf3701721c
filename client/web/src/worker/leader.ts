// Without SharedWorker: every tab has its own worker, and the one that holds the lock runs the engine for all.
//
// When the leading tab closes, its lock passes on; the new leader tells every page, and pages say again what they
// follow and which of their writes have no answer. A write that the old leader had kept is then in the outbox already,
// so pages send again only what was not said to be written.

import type { ToPage, ToWorker } from "../protocol";

interface Port {
  postMessage(message: ToPage): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

type Serve = (send: (message: ToPage) => void) => (message: ToWorker) => void;

type OnChannel =
  | { readonly to: "leader"; readonly tab: string; readonly message: ToWorker }
  | { readonly to: "tab"; readonly tab: string; readonly message: ToPage }
  | { readonly to: "all" };

type Hello = Extract<ToWorker, { type: "hello" }>;

export function follow(port: Port, serve: Serve): void {
  const tab = crypto.randomUUID();
  let toLeader: ((message: ToWorker) => void) | undefined;
  let channel: BroadcastChannel | undefined;
  const post = (message: OnChannel): void => {
    channel?.postMessage(message);
  };
  const toPage = (message: ToPage): void => {
    port.postMessage(message);
  };

  const open = (hello: Hello): void => {
    const name = `halcyon:${hello.settings.name}:${hello.settings.tenant}`;
    channel = new BroadcastChannel(name);
    toLeader = (message) => {
      post({ to: "leader", tab, message });
    };
    channel.onmessage = (event: MessageEvent<OnChannel>) => {
      const said = event.data;
      if (said.to === "tab" && said.tab === tab) toPage(said.message);
      // A new leader knows nobody: the page begins anew.
      if (said.to === "all") toPage({ type: "restarted" });
    };
    void navigator.locks.request(name, () => lead());
  };

  const lead = (): Promise<never> => {
    const tabs = new Map<string, (message: ToWorker) => void>();
    toLeader = serve(toPage);
    const passOn = channel?.onmessage;
    if (channel) {
      channel.onmessage = (event: MessageEvent<OnChannel>) => {
        const said = event.data;
        if (said.to !== "leader") return passOn?.call(channel as BroadcastChannel, event);
        let on = tabs.get(said.tab);
        if (!on) {
          on = serve((message) => {
            post({ to: "tab", tab: said.tab, message });
          });
          tabs.set(said.tab, on);
        }
        on(said.message);
      };
    }
    post({ to: "all" });
    toPage({ type: "restarted" });
    // The lock is held until this worker ends.
    return new Promise<never>(() => undefined);
  };

  port.onmessage = (event) => {
    if (event.data.type === "ping") {
      toPage({ type: "pong" });
      return;
    }
    if (event.data.type === "hello" && !channel) open(event.data);
    toLeader?.(event.data);
  };
}
