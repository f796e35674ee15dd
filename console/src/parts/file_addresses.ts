import { useQueries } from "@tanstack/react-query";
import { ADDRESS_SECONDS } from "../api/storage.ts";
import { useConsole } from "../console_context.tsx";

/** Asked for again before it ends. */
const FRESH_MS = 0.8 * ADDRESS_SECONDS * 1_000;

/** Addresses of files that elements of the page may load, by SHA-256. Some come later, or never. */
export function useFileAddresses(hashes: readonly string[], tenantId: string): Record<string, string> {
  const { files } = useConsole();
  return useQueries({
    queries: hashes.map((sha256) => ({
      queryKey: ["file", tenantId, sha256],
      queryFn: ({ signal }: { signal: AbortSignal }) => files.address(sha256, tenantId, signal),
      staleTime: FRESH_MS,
      retry: false,
      // Another file is no stand-in.
      placeholderData: undefined,
    })),
    combine: (results) =>
      Object.fromEntries(hashes.flatMap((sha256, nr) => {
        const address = results[nr]?.data;
        return address === undefined ? [] : [[sha256, address]];
      })),
  });
}
