// What a page and the page around it say to each other, where two regions stand side by side: the inner one how it is
// connected, the outer one whether it may be. Neither says anything that is secret.

import type { ConnectionState } from "@halcyon/client";
import { useEffect } from "react";
import { session } from "./session";

export interface Standing {
  readonly state: ConnectionState;
  readonly waiting: number;
}

export interface FromFrame {
  readonly halcyon: "standing";
  readonly standing: Standing;
}

export interface ToFrame {
  readonly halcyon: "online";
  readonly isOnline: boolean;
}

const isFramed = window.parent !== window;
const around = location.ancestorOrigins?.[0] ?? "*";

/** Inside a frame: tells the page around it how things stand, and goes off and on as it says. */
export function useFrame({ state, waiting }: Standing, onOnline: (isOnline: boolean) => void): void {
  useEffect(() => {
    if (!isFramed) return;
    const said: FromFrame = { halcyon: "standing", standing: { state, waiting } };
    window.parent.postMessage(said, around);
  }, [state, waiting]);
  useEffect(() => {
    if (!isFramed) return;
    const on = (event: MessageEvent<ToFrame>): void => {
      const isKnown = session?.regions.some((region) => region.origin === event.origin);
      if (event.source === window.parent && isKnown && event.data.halcyon === "online") {
        onOnline(event.data.isOnline);
      }
    };
    addEventListener("message", on);
    return () => {
      removeEventListener("message", on);
    };
  }, [onOnline]);
}
