/** Free ports for what a test starts. */
import { freePorts as freePortsBetween, HIGHEST, LOWEST } from "../../local/ports.ts";

/** Of vitest's workers, and the process that they belong to; more than there ever are. */
const SHARES = 8;

/**
 * `count` free ports in a row. Between the look and the moment at which a server listens there, seconds may pass on a busy
 * machine: so the tests that run side by side look in different places.
 */
export function freePorts(count: number): number[] {
  const worker = Number(Deno.env.get("VITEST_POOL_ID") ?? 0) % SHARES;
  const share = Math.floor((HIGHEST - LOWEST) / SHARES);
  return freePortsBetween(count, LOWEST + worker * share, LOWEST + (worker + 1) * share);
}
