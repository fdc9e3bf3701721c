// What the keyboard does: `/` looks for words, `c` writes a new issue, `j` and `k` go through the list, Escape goes back.

import { useEffect } from "react";
import { go } from "../shell/route";

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.closest("input, select, textarea") !== null;

function focus(selector: string): void {
  document.querySelector<HTMLElement>(selector)?.focus();
}

/** Goes so many rows or cards on from the one that has the focus. */
function step(by: number): void {
  const links = [...document.querySelectorAll<HTMLElement>(".list li a, .card a")];
  const at = links.findIndex((link) => link === document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)];
  next?.focus();
}

/** Closes what is open: a choice of labels, else the issue. The focus goes back to where it came from. */
function back(id: string | undefined, view: string): void {
  const open = document.querySelector<HTMLDetailsElement>("details[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary")?.focus();
    return;
  }
  if (id === undefined) return;
  go("issues", view);
  focus(`[href$="/${CSS.escape(id)}"]`);
}

export function useKeys(id: string | undefined, view: string): void {
  useEffect(() => {
    const on = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (event.key === "Escape" && isTyping(event.target)) {
        (event.target as HTMLElement).blur();
        return;
      }
      if (isTyping(event.target)) return;
      const act = {
        "/": () => focus(".filters input"),
        c: () => focus(".new input"),
        j: () => step(1),
        k: () => step(-1),
        Escape: () => back(id, view),
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", on);
    return () => {
      removeEventListener("keydown", on);
    };
  }, [id, view]);
}
