// One issue: what it says, where it stands, what people say of it. All of it can be changed.

import { useQuery } from "@halcyon/client/react";
import { useEffect, useRef, useState, type FormEvent } from "react";
import { useSteady } from "../shell/steady";
import { db } from "./db";
import { Choice } from "./filters";
import { move, PRIORITIES, STATUSES, statusOf, type Status } from "./issues";
import { people, useMe } from "./me";
import { Ago, Avatar, Label, nameOf, StatusMark } from "./parts";
import { Beside } from "./together";
import { Text } from "./text";

/** An issue with all that is shown of it. */
function detailed(id: string) {
  return db.issue.where({ id }).include({
    creator: true,
    assignee: true,
    labels: { orderBy: "name" },
    comments: { orderBy: "created", include: { author: true } },
  });
}

type Issue = NonNullable<ReturnType<typeof detailed>["row"]>;

function Title({ issue }: { readonly issue: Issue }) {
  const [draft, setDraft] = useState<string>();
  const keep = (): void => {
    const title = draft?.trim();
    setDraft(undefined);
    if (title && title !== issue.title) db.issue.update(issue, { title, modified: new Date() });
  };
  return (
    <textarea
      rows={1}
      className="headline"
      aria-label="Title"
      value={draft ?? issue.title}
      onChange={(event) => {
        setDraft(event.target.value);
      }}
      onBlur={keep}
      onKeyDown={(event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          event.currentTarget.blur();
        }
        if (event.key === "Escape") setDraft(undefined);
      }}
    />
  );
}

function Labels({ issue }: { readonly issue: Issue }) {
  const all = useQuery(db, db.label.orderBy("name")).data;
  const has = new Set(issue.labels.map((label) => label.id));
  const toggle = (id: string): void => {
    const change = has.has(id) ? { remove: [id] } : { add: [id] };
    db.issue.update(issue, { labels: change, modified: new Date() });
  };
  return (
    <details className="pick">
      <summary>
        <span className="unseen">Labels</span>
        {issue.labels.length === 0 ? <span className="quiet">No label</span> : null}
        {issue.labels.map((one) => (
          <Label key={one.id} of={one} />
        ))}
      </summary>
      <fieldset>
        <legend>Labels</legend>
        {all.map((one) => (
          <label key={one.id}>
            <input
              type="checkbox"
              checked={has.has(one.id)}
              onChange={() => {
                toggle(one.id);
              }}
            />
            {one.name}
          </label>
        ))}
      </fieldset>
    </details>
  );
}

function Fields({ issue }: { readonly issue: Issue }) {
  const everybody = useQuery(db, people).data;
  const status = statusOf(issue);
  return (
    <div className="fields">
      <span className="field">
        <StatusMark status={status} />
        <Choice label="Status" value={status} onChoose={(next) => move(issue.id, next as Status)}>
          {Object.entries(STATUSES).map(([name, text]) => (
            <option key={name} value={name}>
              {text}
            </option>
          ))}
        </Choice>
      </span>
      <Choice
        label="Priority"
        value={issue.priority ?? ""}
        onChoose={(next) => {
          db.issue.update(issue, { priority: next === "" ? null : next, modified: new Date() });
        }}
      >
        <option value="">No priority</option>
        {PRIORITIES.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </Choice>
      <span className="field">
        <Avatar of={issue.assignee} />
        <Choice
          label="Assigned to"
          value={issue.assignee?.id ?? ""}
          onChoose={(next) => {
            db.issue.update(issue, { assignee: next === "" ? null : next, modified: new Date() });
          }}
        >
          <option value="">Nobody</option>
          {everybody.map((one) => (
            <option key={one.id} value={one.id}>
              {nameOf(one)}
            </option>
          ))}
        </Choice>
      </span>
      <Labels issue={issue} />
    </div>
  );
}

function Say({ issue }: { readonly issue: Issue }) {
  const [body, setBody] = useState("");
  const me = useMe();
  const send = (event: FormEvent): void => {
    event.preventDefault();
    if (body.trim() === "") return;
    // One change set: the comment and the issue's date show together, here and elsewhere.
    db.tx((tx) => {
      const created = new Date();
      tx.comment.insert({ body: body.trim(), created, issue, author: me ?? null });
      tx.issue.update(issue, { modified: created });
    });
    setBody("");
  };
  return (
    <form className="say" onSubmit={send}>
      <textarea
        aria-label="Comment"
        placeholder="Say something"
        rows={3}
        value={body}
        onChange={(event) => {
          setBody(event.target.value);
        }}
      />
      <button type="submit" className="primary">
        Comment
      </button>
    </form>
  );
}

function Comments({ issue }: { readonly issue: Issue }) {
  return (
    <>
      {issue.comments.map((comment) => (
        <article key={comment.id} data-at={comment.id}>
          <header>
            <Avatar of={comment.author} />
            <b>{nameOf(comment.author)}</b>
            <Ago at={comment.created} />
          </header>
          <Text of={comment.body} />
        </article>
      ))}
    </>
  );
}

export function Detail({ id, onClose }: { readonly id: string; readonly onClose: () => void }) {
  const { data, isLoaded } = useSteady(useQuery(db, detailed(id)));
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    panel.current?.scrollTo(0, 0);
  }, [id]);
  const issue = data.find((one) => one.id === id);
  const isGone = isLoaded && data.length === 0;
  return (
    <section ref={panel} className="detail" aria-label="Issue">
      <p className="line">
        <span className="number">{issue && issue.number > 0 ? `#${issue.number}` : "issue"}</span>
        {issue ? (
          <span className="quiet">
            by {nameOf(issue.creator)}, <Ago at={issue.created} />
          </span>
        ) : null}
        <span className="gap" />
        <Beside issue={id} />
        {issue ? (
          <button
            type="button"
            className="bare"
            onClick={() => {
              db.issue.delete(issue);
            }}
          >
            Delete
          </button>
        ) : null}
        <button type="button" className="bare" aria-label="Back to all issues" onClick={onClose}>
          ×
        </button>
      </p>
      {isGone ? <p className="quiet empty">This issue is gone.</p> : null}
      {issue ? (
        <>
          <div data-at={`about ${id}`}>
            <Title issue={issue} />
            <Fields issue={issue} />
            <Text of={issue.description} />
          </div>
          <Comments issue={issue} />
          <Say issue={issue} />
        </>
      ) : null}
    </section>
  );
}
