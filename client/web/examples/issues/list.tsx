// The list: as many as were asked for, more as it is scrolled.

import { useQuery } from "@halcyon/client/react";
import { useEffect, useRef, useState } from "react";
import { to } from "../shell/route";
import { useSteady } from "../shell/steady";
import { db } from "./db";
import { listed, statusOf, type Filter } from "./issues";
import { Ago, Avatar, Label, PriorityMark, StatusMark } from "./parts";

const PAGE = 50;

/** A button for more, which presses itself when it comes into view. */
export function More({ onMore }: { readonly onMore: () => void }) {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const watch = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) onMore();
    });
    if (button.current) watch.observe(button.current);
    return () => {
      watch.disconnect();
    };
  });
  return (
    <button ref={button} type="button" className="more" onClick={onMore}>
      Show more
    </button>
  );
}

export function List({
  filter,
  selected,
}: {
  readonly filter: Filter;
  readonly selected: string | undefined;
}) {
  const [limit, setLimit] = useState(PAGE);
  useEffect(() => {
    setLimit(PAGE);
  }, [filter]);
  const { data, error, hasMore, isLoaded } = useSteady(useQuery(db, listed(filter, limit)));
  const more = (): void => {
    // One page at a time: the next one when this one is there.
    if (data.length >= limit) setLimit(limit + PAGE);
  };
  return (
    <section className="list" aria-label="Issues">
      {error ? <p role="alert">{error.message}</p> : null}
      {isLoaded && data.length === 0 ? <p className="quiet empty">No issue is like that.</p> : null}
      <ul>
        {data.map((issue) => (
          <li key={issue.id}>
            <a
              href={to("issues", "list", issue.id)}
              data-at={issue.id}
              aria-current={issue.id === selected ? "true" : undefined}
            >
              <PriorityMark of={issue.priority} />
              <span className="number">{issue.number > 0 ? `#${issue.number}` : "new"}</span>
              <StatusMark status={statusOf(issue)} />
              <span className="title">{issue.title}</span>
              <span className="labels">
                {issue.labels.map((one) => (
                  <Label key={one.id} of={one} />
                ))}
              </span>
              <Avatar of={issue.assignee} />
              <Ago at={issue.created} />
            </a>
          </li>
        ))}
      </ul>
      {hasMore ? <More onMore={more} /> : null}
    </section>
  );
}
