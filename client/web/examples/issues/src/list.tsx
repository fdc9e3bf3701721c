// The list: by state, label and words of the title, newest first, as many as are asked for.

import { useQuery } from "@halcyon/client/react";
import { useState } from "react";
import { db } from "./db";

const PAGE = 50;

interface Chosen {
  readonly selected: string | undefined;
  readonly onSelect: (id: string) => void;
}

export function List({ selected, onSelect }: Chosen) {
  const [open, setOpen] = useState(true);
  const [label, setLabel] = useState("");
  const [words, setWords] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const labels = useQuery(db, db.label.orderBy("name"));
  const issues = useQuery(
    db,
    db.issue
      .where({
        open,
        ...(label === "" ? {} : { labels: { has: label } }),
        ...(words === "" ? {} : { title: { contains: words } }),
      })
      .orderBy("created", "desc")
      .limit(limit)
      .include({ labels: { orderBy: "name" }, assignee: true }),
  );
  return (
    <nav aria-label="Issues">
      <form
        onSubmit={(event) => {
          event.preventDefault();
        }}
      >
        <input
          aria-label="Words in the title"
          placeholder="Words in the title"
          value={words}
          onChange={(event) => {
            setWords(event.target.value);
          }}
        />
        <select
          aria-label="State"
          value={open ? "open" : "closed"}
          onChange={(event) => {
            setOpen(event.target.value === "open");
          }}
        >
          <option value="open">open</option>
          <option value="closed">closed</option>
        </select>
        <select
          aria-label="Label"
          value={label}
          onChange={(event) => {
            setLabel(event.target.value);
          }}
        >
          <option value="">every label</option>
          {labels.data.map((one) => (
            <option key={one.id} value={one.id}>
              {one.name}
            </option>
          ))}
        </select>
      </form>
      {issues.error ? <p role="alert">{issues.error.message}</p> : null}
      <ul>
        {issues.data.map((issue) => (
          <li key={issue.id}>
            <button
              type="button"
              aria-current={issue.id === selected}
              onClick={() => {
                onSelect(issue.id);
              }}
            >
              <span className="title">{issue.title}</span>
              <span className="meta">
                #{issue.number}
                {issue.assignee ? ` · ${issue.assignee.name}` : ""}
                {issue.labels.map((one) => (
                  <span
                    className="label"
                    key={one.id}
                    style={{ "--color": one.color } as React.CSSProperties}
                  >
                    {one.name}
                  </span>
                ))}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {issues.hasMore ? (
        <button
          type="button"
          className="more"
          onClick={() => {
            setLimit(limit + PAGE);
          }}
        >
          Show more
        </button>
      ) : null}
    </nav>
  );
}
