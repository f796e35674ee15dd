/** Load on one address: a closed loop (so many at once) or an open one (so many a second, answered or not). */
import { percentile } from "../statistics.ts";

export interface Target {
  url: string;
  headers: Record<string, string>;
  body: unknown;
}

export interface Measured {
  calls: number;
  failed: number;
  per_second: number;
  p50_ms: number;
  p99_ms: number;
}

/** Time to the whole answer; with `firstByte`, to the first byte of its body. */
async function call(target: Target, firstByte: boolean): Promise<{ ms: number; ok: boolean }> {
  const started = performance.now();
  try {
    const response = await fetch(target.url, {
      method: "POST",
      headers: { "content-type": "application/json", ...target.headers },
      body: JSON.stringify(target.body),
    });
    if (firstByte) {
      const reader = response.body!.getReader();
      await reader.read();
      const ms = performance.now() - started;
      while (!(await reader.read()).done);
      return { ms, ok: response.ok };
    }
    await response.arrayBuffer();
    return { ms: performance.now() - started, ok: response.ok };
  } catch {
    return { ms: performance.now() - started, ok: false };
  }
}

export async function closedLoop(
  target: Target,
  workers: number,
  ms: number,
  firstByte = false,
): Promise<Measured> {
  const results: { ms: number; ok: boolean }[] = [];
  const started = performance.now();
  await Promise.all(Array.from({ length: workers }, async () => {
    while (performance.now() - started < ms) results.push(await call(target, firstByte));
  }));
  return summary(results, performance.now() - started);
}

/** Calls begin on time whatever became of those before: a slow server cannot slow its own load. */
export async function openLoop(target: Target, perSecond: number, ms: number): Promise<Measured> {
  const running: Promise<{ ms: number; ok: boolean }>[] = [];
  const started = performance.now();
  for (let n = 0; n < perSecond * ms / 1000; n++) {
    const due = started + n * 1000 / perSecond;
    const early = due - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    running.push(call(target, false));
  }
  const results = await Promise.all(running);
  return summary(results, performance.now() - started);
}

function summary(results: { ms: number; ok: boolean }[], ms: number): Measured {
  const times = results.filter((result) => result.ok).map((result) => result.ms);
  const round = (value: number) => Math.round(value * 100) / 100;
  return {
    calls: results.length,
    failed: results.length - times.length,
    per_second: Math.round(times.length / ms * 1000),
    p50_ms: round(percentile(times, 0.5)),
    p99_ms: round(percentile(times, 0.99)),
  };
}
