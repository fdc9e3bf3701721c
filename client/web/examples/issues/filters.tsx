// What the list and the board show.

import { useQuery } from "@halcyon/client/react";
import type { ReactNode } from "react";
import { db } from "./db";
import type { Filter } from "./issues";
import { people } from "./me";
import { nameOf } from "./parts";

interface FilterOptions {
  readonly filter: Filter;
  readonly onFilter: (filter: Filter) => void;
  readonly isBoard: boolean;
}

interface ChoiceOptions {
  readonly label: string;
  readonly value: string;
  readonly onChoose: (value: string) => void;
  readonly children: ReactNode;
}

export function Choice({ label, value, onChoose, children }: ChoiceOptions) {
  return (
    <select
      aria-label={label}
      value={value}
      onChange={(event) => {
        onChoose(event.target.value);
      }}
    >
      {children}
    </select>
  );
}

export function Filters({ filter, onFilter, isBoard }: FilterOptions) {
  const labels = useQuery(db, db.label.orderBy("name")).data;
  const everybody = useQuery(db, people).data;
  const set = (next: Partial<Filter>): void => {
    onFilter({ ...filter, ...next });
  };
  return (
    <form
      className="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
      }}
    >
      <input
        type="search"
        aria-label="Words in the title"
        placeholder="Words in the title"
        value={filter.words}
        onChange={(event) => {
          set({ words: event.target.value });
        }}
      />
      {isBoard ? null : (
        <Choice
          label="State"
          value={filter.state}
          onChoose={(state) => set({ state: state as Filter["state"] })}
        >
          <option value="open">Open</option>
          <option value="closed">Closed</option>
          <option value="all">Open and closed</option>
        </Choice>
      )}
      <Choice label="Label" value={filter.label} onChoose={(label) => set({ label })}>
        <option value="">Every label</option>
        {labels.map((one) => (
          <option key={one.id} value={one.id}>
            {one.name}
          </option>
        ))}
      </Choice>
      <Choice label="Assignee" value={filter.assignee} onChoose={(assignee) => set({ assignee })}>
        <option value="">Everybody</option>
        {everybody.map((one) => (
          <option key={one.id} value={one.id}>
            {nameOf(one)}
          </option>
        ))}
      </Choice>
      {isBoard ? null : (
        <Choice label="Order" value={filter.sort} onChoose={(sort) => set({ sort: sort as Filter["sort"] })}>
          <option value="newest">Newest first</option>
          <option value="changed">Last changed first</option>
          <option value="oldest">Oldest first</option>
        </Choice>
      )}
    </form>
  );
}
