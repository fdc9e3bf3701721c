// An issue tracker. Everything is read and written on this device; the lamp says how far nodes know of it.

import { useQuery } from "@halcyon/client/react";
import { useDeferredValue, useEffect, useState, type FormEvent } from "react";
import { Connection } from "../shell/connection";
import { go, to, useRoute } from "../shell/route";
import { Board } from "./board";
import { db } from "./db";
import { Detail } from "./detail";
import { Choice, Filters } from "./filters";
import { EVERYTHING } from "./issues";
import { useKeys } from "./keys";
import { List } from "./list";
import { become, people, useMe } from "./me";
import { nameOf } from "./parts";
import { Here, Pointers, usePointer } from "./together";

function Views({ view }: { readonly view: string }) {
  return (
    <nav aria-label="View" className="tabs">
      <a href={to("issues", "list")} aria-current={view === "list" ? "page" : undefined}>
        List
      </a>
      <a href={to("issues", "board")} aria-current={view === "board" ? "page" : undefined}>
        Board
      </a>
    </nav>
  );
}

function Who() {
  const { data } = useQuery(db, people);
  const me = useMe();
  return (
    <Choice label="You are" value={me ?? ""} onChoose={become}>
      {data.map((one) => (
        <option key={one.id} value={one.id}>
          {nameOf(one)}
        </option>
      ))}
    </Choice>
  );
}

function New({ view }: { readonly view: string }) {
  const [title, setTitle] = useState("");
  const me = useMe();
  const add = (event: FormEvent): void => {
    event.preventDefault();
    if (title.trim() === "") return;
    const now = new Date();
    const values = {
      title: title.trim(),
      created: now,
      modified: now,
      status: "backlog",
      creator: me ?? null,
    };
    go("issues", view, db.issue.insert(values).value);
    setTitle("");
  };
  return (
    <form className="new" onSubmit={add}>
      <input
        aria-label="Title of a new issue"
        placeholder="New issue"
        value={title}
        onChange={(event) => {
          setTitle(event.target.value);
        }}
      />
      <button type="submit" className="primary">
        Add
      </button>
    </form>
  );
}

export default function App() {
  const [, wanted, id] = useRoute();
  const view = wanted === "board" ? "board" : "list";
  const [filter, setFilter] = useState(EVERYTHING);
  // Typing stays fluent while the list follows.
  const shown = useDeferredValue(filter);
  useEffect(() => {
    document.title = "Issues";
  }, []);
  useKeys(id, view);
  const point = usePointer(id);
  return (
    <div className="tracker" onPointerMove={point} onPointerLeave={point}>
      <header>
        <h1>Issues</h1>
        <Views view={view} />
        <New view={view} />
        <span className="gap" />
        <Here />
        <Who />
        <Connection db={db} />
      </header>
      <Filters filter={filter} onFilter={setFilter} isBoard={view === "board"} />
      <main className={id ? `${view} opened` : view}>
        {view === "board" ? <Board filter={shown} /> : <List filter={shown} selected={id} />}
        {id ? <Detail id={id} onClose={() => go("issues", view)} /> : null}
      </main>
      <Pointers />
    </div>
  );
}
