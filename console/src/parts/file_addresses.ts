import { useQueries } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { useConsole } from "../console_context.tsx";

/** Addresses of files that elements of the page may load, by SHA-256: what the gateway has is asked for with the session. Some come later, or never. */
export function useFileAddresses(hashes: readonly string[], tenantId: string): Record<string, string> {
  const { files } = useConsole();
  const found = useQueries({
    queries: hashes.map((sha256) => ({
      queryKey: ["file", tenantId, sha256],
      queryFn: ({ signal }: { signal: AbortSignal }) => files.file(sha256, tenantId, signal),
      staleTime: Infinity,
      retry: false,
      // Another file is no stand-in.
      placeholderData: undefined,
    })),
    combine: (results) => results.map(({ data }) => data),
  });
  const here = hashes.filter((_, nr) => found[nr] !== undefined).join(" ");
  const blobs = useMemo(
    () =>
      new Map(hashes.flatMap((sha256, nr) => found[nr] === undefined ? [] : [[sha256, found[nr]] as const])),
    [here],
  );
  const [addresses, setAddresses] = useState<Record<string, string>>({});
  useEffect(() => {
    const made = Object.fromEntries([...blobs].map(([sha256, blob]) => [sha256, URL.createObjectURL(blob)]));
    setAddresses(made);
    return () => Object.values(made).forEach((address) => URL.revokeObjectURL(address));
  }, [blobs]);
  return addresses;
}
