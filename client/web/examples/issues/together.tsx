// Who else has the tracker open: their faces, what they look at, and where they point. A pointer is a place in something
// that all see, such as a row: windows of any size and any scroll position show it in the right place.

import { usePresence } from "@halcyon/client/react";
import {
  useCallback,
  useEffect,
  useLayoutEffect,
  useRef,
  type CSSProperties,
  type PointerEvent,
} from "react";
import { db, type Pointer } from "./db";
import { useSelf } from "./me";
import { Avatar, hueOf, nameOf } from "./parts";

const room = db.room("tracker", "all");

/** Says who is here and at which issue; gives what says where the pointer is, once a frame. */
export function usePointer(issue: string | undefined): (event: PointerEvent) => void {
  const me = useSelf();
  const next = useRef<{ readonly event: PointerEvent; readonly target: Element }>(undefined);
  useEffect(() => {
    if (me) room.set({ user: me.id, name: nameOf(me), issue: issue ?? "" });
  }, [me, issue]);
  return useCallback((event: PointerEvent) => {
    const isFirst = next.current === undefined;
    next.current = { event, target: event.target as Element };
    if (!isFirst) return;
    requestAnimationFrame(() => {
      const last = next.current;
      next.current = undefined;
      if (last) room.set({ pointer: last.event.type === "pointerleave" ? null : placeOf(last) });
    });
  }, []);
}

function placeOf({
  event,
  target,
}: {
  readonly event: PointerEvent;
  readonly target: Element;
}): Pointer | null {
  const anchor = target.closest<HTMLElement>("[data-at]");
  const at = anchor?.dataset.at;
  if (!anchor || at === undefined) return null;
  const { left, top, width, height } = anchor.getBoundingClientRect();
  const part = (of: number, all: number): number => Math.round((10_000 * of) / Math.max(all, 1)) / 10_000;
  return { at, x: part(event.clientX - left, width), y: part(event.clientY - top, height) };
}

interface Somebody {
  readonly id: string;
  readonly user: string;
  readonly name: string;
  readonly region: string;
  readonly issue: string;
}

/** The others, without their pointers: this changes seldom. */
function useOthers(): readonly Somebody[] {
  const { peers } = usePresence(room, {
    select: ({ user = "", name = "", issue = "" }) => ({ user, name, issue }),
  });
  return peers
    .filter(({ presence }) => presence.name !== "")
    .map(({ id, region, presence }) => ({ id, region, ...presence }));
}

function Faces({ of, label }: { readonly of: readonly Somebody[]; readonly label: string }) {
  if (of.length === 0) return null;
  return (
    <ul className="faces" aria-label={label}>
      {of.slice(0, 5).map(({ id, user, name, region }) => (
        <li key={id}>
          <Avatar of={{ id: user, name: name, login: "" }} />
          <span className="unseen">{region ? `${name} in ${region}` : name}</span>
        </li>
      ))}
      {of.length > 5 ? <li className="quiet">+{of.length - 5}</li> : null}
    </ul>
  );
}

/** Everybody else who is here. */
export function Here() {
  return <Faces of={useOthers()} label="Also here" />;
}

/** Who else looks at an issue. */
export function Beside({ issue }: { readonly issue: string }) {
  return <Faces of={useOthers().filter((one) => one.issue === issue)} label="Also looking at this issue" />;
}

interface Pointing {
  readonly user: string;
  readonly name: string;
  readonly pointer: Pointer;
}

function Arrow({ of: { user, name, pointer } }: { readonly of: Pointing }) {
  const arrow = useRef<HTMLSpanElement>(null);
  const { at, x, y } = pointer;
  useLayoutEffect(() => {
    const place = (): void => {
      const anchor = document.querySelector(`[data-at="${CSS.escape(at)}"]`);
      const box = anchor?.getBoundingClientRect();
      const { style } = arrow.current ?? {};
      if (!style) return;
      style.display = box && box.height > 0 ? "" : "none";
      if (box) style.translate = `${box.left + x * box.width}px ${box.top + y * box.height}px`;
    };
    place();
    addEventListener("scroll", place, { capture: true, passive: true });
    addEventListener("resize", place);
    return () => {
      removeEventListener("scroll", place, { capture: true });
      removeEventListener("resize", place);
    };
  });
  return (
    <span ref={arrow} className="pointer" style={{ "--hue": String(hueOf(user)) } as CSSProperties}>
      <svg viewBox="0 0 12 16" aria-hidden="true">
        <path d="M1 1 L11 9 L6 9.6 L3.6 14.6 Z" />
      </svg>
      {name.split(" ")[0]}
    </span>
  );
}

/** Where the others point. For the eyes alone: who is here is said in the header. */
export function Pointers() {
  const { peers } = usePresence(room);
  return (
    <div className="pointers" aria-hidden="true">
      {peers.map(({ id, presence: { user = "", name = "", pointer } }) =>
        pointer ? <Arrow key={id} of={{ user, name, pointer }} /> : null,
      )}
    </div>
  );
}
