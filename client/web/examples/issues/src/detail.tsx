// One issue, its comments, and what can be changed of it.

import { useQuery } from "@halcyon/client/react";
import { useState, type FormEvent } from "react";
import { db } from "./db";

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

function Comment({ issue }: { readonly issue: string }) {
  const [body, setBody] = useState("");
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (body.trim() === "") return;
    db.tx((tx) => {
      tx.comment.insert({ body: body.trim(), created: new Date(), issue });
      tx.issue.update(issue, { modified: new Date() });
    });
    setBody("");
  };
  return (
    <form onSubmit={send}>
      <label htmlFor="comment">Comment</label>
      <textarea
        id="comment"
        rows={3}
        value={body}
        onChange={(event) => {
          setBody(event.target.value);
        }}
      />
      <button type="submit">Comment</button>
    </form>
  );
}

export function Detail({ id }: { readonly id: string }) {
  const { data, isLoaded } = useQuery(
    db,
    db.issue.where({ id }).include({
      creator: true,
      labels: { orderBy: "name" },
      comments: { orderBy: "created", include: { author: true } },
    }),
  );
  const [issue] = data;
  if (!issue) return <section className="empty">{isLoaded ? "This issue is gone." : ""}</section>;
  return (
    <section aria-label="Issue">
      <h1>
        {issue.title} <span className="number">#{issue.number}</span>
      </h1>
      <p className="meta">
        <span className={issue.open ? "state open" : "state closed"}>{issue.open ? "open" : "closed"}</span>
        {issue.creator ? `${issue.creator.name}, ` : ""}
        {day.format(issue.created)}
        <button
          type="button"
          onClick={() => {
            db.issue.update(issue, { open: !issue.open, modified: new Date() });
          }}
        >
          {issue.open ? "Close" : "Open again"}
        </button>
      </p>
      <p className="text">{issue.description}</p>
      {issue.comments.map((comment) => (
        <article key={comment.id}>
          <p className="meta">
            {comment.author?.name ?? "You"}, {day.format(comment.created)}
          </p>
          <p className="text">{comment.body}</p>
        </article>
      ))}
      <Comment issue={issue.id} />
    </section>
  );
}
