// A list of things to do that several people edit at once, online or not.

import { useConnection, useQuery } from "@halcyon/client/react";
import { StrictMode, useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { db, settings } from "./db";

const todos = db.todos.orderBy("done").orderBy("made", "desc");

function Connection() {
  const connection = useConnection(db);
  const [isOnline, setIsOnline] = useState(true);
  const toggle = () => {
    db.setOnline(!isOnline);
    setIsOnline(!isOnline);
  };
  const waiting = connection.waiting > 0 ? `, ${connection.waiting} waiting` : "";
  return (
    <header className={connection.state}>
      <span className="lamp" aria-hidden="true" />
      <span role="status">
        {connection.state}
        {waiting}
        {connection.region ? ` · ${connection.region}` : ""}
      </span>
      <button type="button" onClick={toggle} aria-pressed={!isOnline}>
        {isOnline ? "Go offline" : "Go online"}
      </button>
    </header>
  );
}

function Add() {
  const [text, setText] = useState("");
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (text.trim() === "") return;
    db.todos.insert({ text: text.trim(), made: new Date() });
    setText("");
  };
  return (
    <form onSubmit={add}>
      <label htmlFor="new">What is to be done?</label>
      <input
        id="new"
        autoFocus
        value={text}
        onChange={(event) => {
          setText(event.target.value);
        }}
        placeholder="Water the plants"
      />
      <button type="submit">Add</button>
    </form>
  );
}

function Todos() {
  const { data, isLoaded, error } = useQuery(db, todos);
  if (error) return <p role="alert">{error.message}</p>;
  if (isLoaded && data.length === 0) return <p className="empty">Nothing to do. Add something above.</p>;
  return (
    <ul>
      {data.map((todo) => (
        <li key={todo.id} className={todo.done ? "done" : ""}>
          <label>
            <input
              type="checkbox"
              checked={todo.done}
              onChange={() => {
                db.todos.update(todo, { done: !todo.done });
              }}
            />
            <span>{todo.text}</span>
          </label>
          <button
            type="button"
            aria-label={`Delete ${todo.text}`}
            onClick={() => {
              db.todos.delete(todo);
            }}
          >
            ×
          </button>
        </li>
      ))}
    </ul>
  );
}

function App() {
  if (settings.key === "") {
    return (
      <main>
        <h1>To do, together</h1>
        <p role="alert">
          Name the tenant's key in the address: <code>?key=…</code> (<code>halcyon dev</code> says where it
          is).
        </p>
      </main>
    );
  }
  return (
    <main>
      <Connection />
      <h1>To do, together</h1>
      <Add />
      <Todos />
    </main>
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
