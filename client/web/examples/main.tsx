// One page for all examples: `#/issues` is the issue tracker, `#/todo` the to-do list, and without either two regions
// stand side by side.

import { lazy, StrictMode, Suspense } from "react";
import { createRoot } from "react-dom/client";
import { useRoute } from "./shell/route";
import { session } from "./shell/session";
import "./shell/style.css";

const Issues = lazy(() => import("./issues/app"));
const Todo = lazy(() => import("./todo/app"));
const Side = lazy(() => import("./side/app"));

function NoSession() {
  return (
    <main className="notice">
      <h1>Which tenant?</h1>
      <p role="alert">
        This page asks the node that serves it, and got no answer. Open the link that <code>halcyon dev</code>{" "}
        ends at, on the machine where it runs, or name a key and a node in the address:{" "}
        <code>?key=…&amp;node=…</code>
      </p>
    </main>
  );
}

function App() {
  const [app] = useRoute();
  if (!session) return <NoSession />;
  if (app === "issues") return <Issues />;
  return app === "todo" ? <Todo /> : <Side />;
}

const root = document.getElementById("app");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Suspense>
        <App />
      </Suspense>
    </StrictMode>,
  );
}
