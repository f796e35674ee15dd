import type { Log } from "../runtime/log.ts";

/** The worker answers at once, and works on. */
const WAKE_TIMEOUT_MS = 10_000;

/** Calls the function worker. If it cannot be reached, the schedule does within seconds. */
export function workerCall(
  fetch: typeof globalThis.fetch,
  url: string,
  secretKey: string,
  log: Log,
): () => Promise<void> {
  return async () => {
    try {
      const response = await fetch(url, {
        method: "POST",
        headers: { apikey: secretKey, "content-type": "application/json" },
        body: "{}",
        signal: AbortSignal.timeout(WAKE_TIMEOUT_MS),
        redirect: "manual",
      });
      await response.body?.cancel();
      if (!response.ok) log("warn", "worker_not_woken", { status: response.status });
    } catch (thrown) {
      log("warn", "worker_not_woken", { detail: String(thrown) });
    }
  };
}
