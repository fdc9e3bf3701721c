// Two regions side by side. Each pane is the same page, served by that region's own node, with its own engine, its own
// local data and its own connection. A switch cuts one of them off.

import { useCallback, useEffect, useRef, useState } from "react";
import { changes, WORDS } from "../shell/connection";
import type { FromFrame, Standing, ToFrame } from "../shell/frame";
import { go, useRoute } from "../shell/route";
import { session, type Region } from "../shell/session";

const APPS = { issues: "Issue tracker", todo: "To-do list" } as const;
type AppName = keyof typeof APPS;

const CONNECTING: Standing = { state: "connecting", waiting: 0 };

interface PaneOptions {
  readonly of: Region;
  readonly app: AppName;
  readonly isOnline: boolean;
  readonly onStanding: (region: string, standing: Standing) => void;
}

function Pane({ of, app, isOnline, onStanding }: PaneOptions) {
  const frame = useRef<HTMLIFrameElement>(null);
  const [standing, setStanding] = useState(CONNECTING);
  const say = useCallback(() => {
    const said: ToFrame = { halcyon: "online", isOnline };
    frame.current?.contentWindow?.postMessage(said, of.origin);
  }, [of.origin, isOnline]);
  useEffect(say, [say]);
  useEffect(() => {
    const on = (event: MessageEvent<FromFrame>): void => {
      if (event.source !== frame.current?.contentWindow || event.origin !== of.origin) return;
      if (event.data.halcyon !== "standing") return;
      setStanding(event.data.standing);
      onStanding(of.region, event.data.standing);
    };
    addEventListener("message", on);
    return () => {
      removeEventListener("message", on);
    };
  }, [of, onStanding]);
  return (
    <section className={`pane ${isOnline ? "" : "cut"}`} aria-label={of.region}>
      <h2 className={standing.state}>
        <span className="lamp" aria-hidden="true" />
        {of.region}
        <span className="quiet">{of.origin.replace("http://", "")}</span>
        <span className="standing">
          {isOnline ? WORDS[standing.state] : "cut off"}
          {standing.waiting > 0 ? `, ${changes(standing.waiting)} waiting` : ""}
        </span>
      </h2>
      <iframe ref={frame} title={`${APPS[app]} in ${of.region}`} src={`${of.origin}/demo/#/${app}`} />
    </section>
  );
}

/** What happened, the latest first. */
function useStory(): readonly [readonly string[], (line: string) => void] {
  const [story, setStory] = useState<readonly string[]>([]);
  const tell = useCallback((line: string) => {
    setStory((before) => [line, ...before].slice(0, 6));
  }, []);
  return [story, tell];
}

function Story({ lines, other }: { readonly lines: readonly string[]; readonly other: string }) {
  const hint = `Change something on one side and look at the other. Then cut ${other} off, change both, and connect it again.`;
  return (
    <ol className="story" aria-live="polite" aria-label="What happened">
      {(lines.length === 0 ? [hint] : lines).map((line, at) => (
        <li key={`${lines.length - at} ${line}`}>{line}</li>
      ))}
    </ol>
  );
}

interface SwitchOptions {
  readonly region: string;
  readonly isOnline: boolean;
  readonly onTurn: () => void;
}

function Switch({ region, isOnline, onTurn }: SwitchOptions) {
  return (
    <button type="button" role="switch" aria-checked={isOnline} className="switch" onClick={onTurn}>
      <span className="track" aria-hidden="true" />
      {region} is {isOnline ? "connected" : "cut off"}
    </button>
  );
}

function Chooser({ app }: { readonly app: AppName }) {
  return (
    <nav aria-label="Example" className="tabs">
      {(Object.keys(APPS) as AppName[]).map((name) => (
        <a key={name} href={`#/side/${name}`} aria-current={name === app ? "page" : undefined}>
          {APPS[name]}
        </a>
      ))}
    </nav>
  );
}

function Two({ left, right, app }: { readonly left: Region; readonly right: Region; readonly app: AppName }) {
  const [isOnline, setIsOnline] = useState(true);
  const [story, tell] = useStory();
  const waited = useRef(0);
  const since = useRef<number | undefined>(undefined);
  const onStanding = useCallback(
    (region: string, { state, waiting }: Standing) => {
      if (region !== right.region) return;
      if (since.current === undefined) {
        waited.current = state === "offline" ? waiting : 0;
        return;
      }
      if (state !== "synced" || waiting > 0) return;
      const took = Math.round(performance.now() - since.current);
      since.current = undefined;
      const sent = waited.current > 0 ? `; ${changes(waited.current)} made there arrived` : "";
      tell(`${region} is back and has what it missed after ${took} ms${sent}.`);
    },
    [right.region, tell],
  );
  const turn = (): void => {
    setIsOnline(!isOnline);
    since.current = isOnline ? undefined : performance.now();
    if (isOnline) {
      tell(`${right.region} is cut off. Both sides go on: what is changed there waits on that device.`);
    }
  };
  return (
    <main className="side">
      <header>
        <h1>Two regions, one tenant</h1>
        <Chooser app={app} />
        <Switch region={right.region} isOnline={isOnline} onTurn={turn} />
      </header>
      <Story lines={story} other={right.region} />
      <div className="panes">
        <Pane key={`left ${app}`} of={left} app={app} isOnline onStanding={onStanding} />
        <Pane key={`right ${app}`} of={right} app={app} isOnline={isOnline} onStanding={onStanding} />
      </div>
    </main>
  );
}

export default function App() {
  const [, wanted] = useRoute();
  const app: AppName = wanted === "todo" ? "todo" : "issues";
  const regions = session?.regions ?? [];
  const [left, right] = [regions[0], regions[regions.length - 1]];
  const isOne = !left || !right || left === right;
  useEffect(() => {
    document.title = "Halcyon: two regions, one tenant";
    // There is no second region to stand beside.
    if (isOne) go(app);
  }, [isOne, app]);
  return isOne ? null : <Two left={left} right={right} app={app} />;
}
