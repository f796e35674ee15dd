import { Table } from "@mantine/core";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import {
  Children,
  cloneElement,
  type ReactElement,
  type ReactNode,
  useLayoutEffect,
  useRef,
  useState,
} from "react";

/** So many rows are drawn whole: find in page, print and screen readers have all of them. */
const DRAWN_WHOLE = 150;
/** Before it has been measured. */
const ROW_PX = 44;
/** Beyond both edges of the screen. */
const AHEAD = 20;

/** The rows of a table; of long ones only those that are near the screen are drawn. */
export function VirtualBody({ children }: { children: ReactNode }) {
  const rows = Children.toArray(children) as ReactElement<Record<string, unknown>>[];
  return rows.length <= DRAWN_WHOLE ? <Table.Tbody>{rows}</Table.Tbody> : <Window rows={rows} />;
}

function Window({ rows }: { rows: ReactElement<Record<string, unknown>>[] }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [top, setTop] = useState(0);
  useLayoutEffect(() => {
    const now = Math.round((body.current?.getBoundingClientRect().top ?? 0) + scrollY);
    if (now !== top) setTop(now);
    // With its headings, which are the first row.
    body.current?.closest("table")?.setAttribute("aria-rowcount", String(rows.length + 1));
  });
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: () => ROW_PX,
    getItemKey: (at) => rows[at]!.key!,
    overscan: AHEAD,
    scrollMargin: top,
  });
  const shown = virtual.getVirtualItems();
  const above = (shown[0]?.start ?? top) - top;
  const below = virtual.getTotalSize() - ((shown.at(-1)?.end ?? top) - top);
  return (
    <Table.Tbody ref={body}>
      <Gap px={above} />
      {shown.map(({ index }) =>
        cloneElement(rows[index]!, {
          ref: virtual.measureElement,
          "data-index": index,
          "aria-rowindex": index + 2,
        })
      )}
      <Gap px={below} />
    </Table.Tbody>
  );
}

const Gap = ({ px }: { px: number }) => px > 0 && <tr aria-hidden className="gap" style={{ height: px }} />;
