import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { RequestRow } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { EVERY_MS } from "../queries.ts";

/** More are nobody's to read as they pass; the list below has them. */
const SHOWN = 500;
/** Of one look; what is more comes with the next one. */
const PAGE = 1_000;

export const idOf = ({ request_no, refusal_no }: RequestRow) => `${request_no}/${refusal_no}`;

/** What has ended or was refused since `on` became true, the last one first. A hidden tab asks for nothing, and then for all that it missed. */
export function useLiveRequests(on: boolean): RequestRow[] {
  const { api } = useConsole();
  const cursor = useRef<string | null>(null);
  const [rows, setRows] = useState<RequestRow[]>([]);
  useEffect(() => {
    cursor.current = null;
    setRows([]);
  }, [on]);
  const tail = useQuery({
    queryKey: ["tail"],
    queryFn: async ({ signal }) => {
      const begun = cursor.current;
      const { events, next } = await api.get("/requests/tail", {
        after: begun,
        limit: begun === null ? 1 : PAGE,
      }, signal);
      cursor.current = next;
      // What had ended before is in the list already.
      return begun === null ? [] : events;
    },
    enabled: on,
    gcTime: 0,
    staleTime: 0,
    refetchInterval: EVERY_MS.tail,
    placeholderData: undefined,
    structuralSharing: false,
  });
  useEffect(() => {
    const news = tail.data ?? [];
    if (!on || news.length === 0) return;
    setRows((now) => {
      // The last two seconds are told again.
      const known = new Set(now.map(idOf));
      return [...news.filter((row) => !known.has(idOf(row))).toReversed(), ...now].slice(0, SHOWN);
    });
  }, [on, tail.data]);
  return rows;
}
