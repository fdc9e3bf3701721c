// The little Markdown that issues are written in: paragraphs, lists, quotes, code, bold.

import { Fragment, type ReactNode } from "react";

function inline(text: string): ReactNode[] {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((part, at) => {
    if (part.startsWith("**")) return <b key={at}>{part.slice(2, -2)}</b>;
    if (part.startsWith("`")) return <code key={at}>{part.slice(1, -1)}</code>;
    return <Fragment key={at}>{part}</Fragment>;
  });
}

function Block({ text }: { readonly text: string }) {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.every((line) => /^\s*\d+\. /.test(line))) {
    return (
      <ol>
        {lines.map((line, at) => (
          <li key={at}>{inline(line.replace(/^\s*\d+\. /, ""))}</li>
        ))}
      </ol>
    );
  }
  if (lines.every((line) => /^\s*[-*] /.test(line))) {
    return (
      <ul>
        {lines.map((line, at) => (
          <li key={at}>{inline(line.replace(/^\s*[-*] /, ""))}</li>
        ))}
      </ul>
    );
  }
  if (lines.every((line) => line.startsWith(">"))) {
    return <blockquote>{inline(lines.map((line) => line.slice(1).trim()).join(" "))}</blockquote>;
  }
  return <p>{inline(text)}</p>;
}

export function Text({ of }: { readonly of: string }) {
  const parts = of.split(/```[^\n]*\n([\s\S]*?)(?:```|$)/);
  return (
    <div className="text">
      {parts.map((part, at) =>
        at % 2 === 1 ? (
          // Long lines scroll, also with the keyboard.
          <pre key={at} tabIndex={0}>
            {part.trimEnd()}
          </pre>
        ) : (
          part
            .split(/\n{2,}/)
            .filter((block) => block.trim() !== "")
            .map((block, within) => <Block key={`${at}.${within}`} text={block} />)
        ),
      )}
    </div>
  );
}
