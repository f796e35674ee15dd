/** Load on one address: a closed loop (so many at once) or an open one (so many a second, answered or not). */
import { type Answered, Connection, requestBytes, type Target } from "./http_client.ts";

export type { Target } from "./http_client.ts";

/** One turn's calls. */
export interface Turn {
  calls: Answered[];
  /** From the first call's begin to the last one's end. */
  ms: number;
}

/** So many callers, each with the next call as soon as the last is answered. */
export async function closedLoop(
  target: Target,
  callers: number,
  ms: number,
  now = () => performance.now(),
): Promise<Turn> {
  const request = requestBytes(target);
  const connections = await Promise.all(
    Array.from({ length: callers }, () => Connection.to(target.url, now)),
  );
  const calls: Answered[] = [];
  const started = now();
  await Promise.all(connections.map(async (connection) => {
    try {
      while (now() - started < ms) {
        calls.push(await connection.call(request, target.content));
      }
    } catch {
      calls.push({ ms: NaN, ok: false });
    } finally {
      connection.close();
    }
  }));
  return { calls, ms: now() - started };
}

/**
 * Calls begin on time whatever became of those before, each on a connection of its own while it lasts: a slow server
 * cannot slow its own load. Connecting is not part of a call.
 */
export async function openLoop(
  target: Target,
  perSecond: number,
  ms: number,
): Promise<Turn> {
  const request = requestBytes(target);
  const idle: Connection[] = [await Connection.to(target.url)];
  const calls: Answered[] = [];
  const running = new Set<Promise<void>>();
  const one = async () => {
    let connection: Connection | undefined;
    try {
      connection = idle.pop() ?? await Connection.to(target.url);
      calls.push(await connection.call(request, target.content));
      idle.push(connection);
    } catch {
      connection?.close();
      calls.push({ ms: NaN, ok: false });
    }
  };
  const started = performance.now();
  for (let n = 0; n < perSecond * ms / 1000; n++) {
    const early = started + n * 1000 / perSecond - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    const call = one().finally(() => running.delete(call));
    running.add(call);
  }
  await Promise.all(running);
  const took = performance.now() - started;
  for (const connection of idle) connection.close();
  return { calls, ms: took };
}
