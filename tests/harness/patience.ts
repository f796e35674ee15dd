/** Waiting for what happens, however long a busy machine takes to do it. */

/** What has not happened by then is not slow: it will not happen. No outcome of a test is decided by it. */
export const PATIENCE_MS = 120_000;
const POLL_MS = 10;
/** The runtime's own, also in tests that move timers by hand. */
const { setTimeout } = globalThis;
const now = performance.now.bind(performance);

/** Waits until it holds. @throws `otherwise` when it never does */
export async function until(
  holds: () => unknown,
  otherwise = "what was waited for did not happen",
): Promise<void> {
  const since = now();
  while (!await holds()) {
    if (now() - since > PATIENCE_MS) throw new Error(otherwise);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * Waits until `read` gives the same for `stillMs`. For what must not go on: a machine too busy to show it within that time
 * hides a fault, and makes none.
 */
export async function stillAt<Value>(read: () => Value | Promise<Value>, stillMs: number): Promise<Value> {
  let last = await read();
  let since = now();
  while (now() - since < stillMs) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const next = await read();
    if (next !== last) [last, since] = [next, now()];
  }
  return last;
}
