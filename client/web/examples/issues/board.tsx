// The board: a column for each status. Cards are dragged, or moved by the choice on each of them.

import { useQuery } from "@halcyon/client/react";
import { useState, type DragEvent } from "react";
import { to } from "../shell/route";
import { useSteady } from "../shell/steady";
import { db } from "./db";
import { Choice } from "./filters";
import { move, standing, STATUSES, type Filter, type Status } from "./issues";
import { Avatar, Label, PriorityMark, StatusMark } from "./parts";

const PAGE = 20;
const KIND = "text/x-halcyon-issue";

interface CardIssue {
  readonly id: string;
  readonly number: number;
  readonly title: string;
  readonly priority: string | undefined;
  readonly labels: readonly { readonly id: string; readonly name: string; readonly color: string }[];
  readonly assignee: { readonly id: string; readonly name: string; readonly login: string } | null;
}

function Card({ issue, status }: { readonly issue: CardIssue; readonly status: Status }) {
  return (
    <li
      className="card"
      data-at={issue.id}
      draggable
      onDragStart={(event) => {
        event.dataTransfer.setData(KIND, issue.id);
        event.dataTransfer.effectAllowed = "move";
      }}
    >
      <span className="line">
        <span className="number">{issue.number > 0 ? `#${issue.number}` : "new"}</span>
        <PriorityMark of={issue.priority} />
        <Avatar of={issue.assignee} />
      </span>
      <a href={to("issues", "board", issue.id)}>{issue.title}</a>
      <span className="line">
        <span className="labels">
          {issue.labels.map((one) => (
            <Label key={one.id} of={one} />
          ))}
        </span>
        <Choice
          label={`Move ${issue.title}`}
          value={status}
          onChoose={(next) => {
            move(issue.id, next as Status);
          }}
        >
          {Object.entries(STATUSES).map(([name, text]) => (
            <option key={name} value={name}>
              {text}
            </option>
          ))}
        </Choice>
      </span>
    </li>
  );
}

function Column({ filter, status }: { readonly filter: Filter; readonly status: Status }) {
  const [limit, setLimit] = useState(PAGE);
  const [isOver, setIsOver] = useState(false);
  const { data, error, hasMore } = useSteady(useQuery(db, standing(filter, status, limit)));
  const over = (event: DragEvent): void => {
    if (!event.dataTransfer.types.includes(KIND)) return;
    event.preventDefault();
    setIsOver(true);
  };
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setIsOver(false);
    const id = event.dataTransfer.getData(KIND);
    if (id !== "" && !data.some((issue) => issue.id === id)) move(id, status);
  };
  return (
    <section
      className={isOver ? "column over" : "column"}
      aria-label={STATUSES[status]}
      onDragOver={over}
      onDragLeave={() => {
        setIsOver(false);
      }}
      onDrop={drop}
    >
      <h2>
        <StatusMark status={status} />
        {STATUSES[status]}
        <span className="quiet">{hasMore ? `${data.length}+` : data.length}</span>
      </h2>
      {error ? <p role="alert">{error.message}</p> : null}
      <ul tabIndex={-1}>
        {data.map((issue) => (
          <Card key={issue.id} issue={issue} status={status} />
        ))}
        {hasMore ? (
          <li>
            <button
              type="button"
              className="more"
              onClick={() => {
                setLimit(limit + PAGE);
              }}
            >
              Show more
            </button>
          </li>
        ) : null}
      </ul>
    </section>
  );
}

export function Board({ filter }: { readonly filter: Filter }) {
  return (
    <div className="board">
      {(Object.keys(STATUSES) as Status[]).map((status) => (
        <Column key={status} filter={filter} status={status} />
      ))}
    </div>
  );
}
