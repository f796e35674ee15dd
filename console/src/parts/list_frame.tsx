import { Table } from "@mantine/core";
import { type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";

/**
 * Around a table: where it is wider than the page it scrolls, and on a phone each of its rows is a card, whose lines are named by the
 * headings of the columns.
 */
export function ListFrame({ minWidth, children }: { minWidth: number; children: ReactNode }) {
  const id = useId();
  const frame = useRef<HTMLDivElement>(null);
  const [headings, setHeadings] = useState<string[]>([]);
  useLayoutEffect(() => {
    const found = [...frame.current?.querySelectorAll("thead th") ?? []].map((cell) =>
      cell.textContent ?? ""
    );
    if (found.join("\n") !== headings.join("\n")) setHeadings(found);
  });
  // Of the cells alone: what names a row is the card's title.
  const names = headings.map((name, at) =>
    `[data-list="${id}"] tr > td:nth-child(${at + 1})::before { content: ${JSON.stringify(name)}; }`
  );
  return (
    <div ref={frame} className="list" data-list={id}>
      <style>{`@media (max-width: 36em) { ${names.join("\n")} }`}</style>
      <Table.ScrollContainer minWidth={minWidth} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
        {children}
      </Table.ScrollContainer>
    </div>
  );
}
