// A list of things to do that several people edit at once, online or not.

import { useQuery } from "@halcyon/client/react";
import { useEffect, useState, type FormEvent } from "react";
import { Connection } from "../shell/connection";
import { db } from "./db";

const todos = db.todos.orderBy("done").orderBy("made", "desc");

function Add() {
  const [text, setText] = useState("");
  const add = (event: FormEvent) => {
    event.preventDefault();
    if (text.trim() === "") return;
    db.todos.insert({ text: text.trim(), made: new Date() });
    setText("");
  };
  return (
    <form className="add" onSubmit={add}>
      <label htmlFor="new">What is to be done?</label>
      <input
        id="new"
        autoFocus
        autoComplete="off"
        value={text}
        onChange={(event) => {
          setText(event.target.value);
        }}
        placeholder="Water the plants"
      />
      <button type="submit" className="primary">
        Add
      </button>
    </form>
  );
}

function Todos() {
  const { data, isLoaded, error } = useQuery(db, todos);
  if (error) return <p role="alert">{error.message}</p>;
  if (isLoaded && data.length === 0) return <p className="quiet">Nothing to do. Add something above.</p>;
  return (
    <ul className="todos">
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
            className="bare"
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

export default function App() {
  useEffect(() => {
    document.title = "To do, together";
  }, []);
  return (
    <main className="sheet">
      <Connection db={db} />
      <h1>To do, together</h1>
      <Add />
      <Todos />
    </main>
  );
}
