// An issue tracker: a list with filters and pages, and one issue with its comments. Everything is read and written on
// this device; the lamp says how far nodes know of it.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Connection } from "./connection";
import { key } from "./db";
import { Detail } from "./detail";
import { List } from "./list";
import "./style.css";

function App() {
  const [selected, setSelected] = useState<string>();
  if (key === "") {
    return (
      <p role="alert">
        Name the tenant's key in the address: <code>?key=…</code> (<code>halcyon dev</code> says where it is).
      </p>
    );
  }
  return (
    <>
      <Connection />
      <main>
        <List selected={selected} onSelect={setSelected} />
        {selected === undefined ? (
          <section className="empty">Choose an issue.</section>
        ) : (
          <Detail id={selected} />
        )}
      </main>
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
