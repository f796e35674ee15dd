import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

/** A call waits for it. */
const TIMEOUT_MS = 5_000;

/**
 * Milliseconds between two starts of a model, over all its lanes; null: nobody has called it yet, or nothing limits its calls.
 * @throws GatewayError `database_unavailable`
 */
export async function startEveryMs(transport: Transport, model: string): Promise<number | null> {
  const answer = z.object({ start_every_ms: z.number().nullable() });
  return (await call(transport, "eve_start_interval", { model }, answer, TIMEOUT_MS)).start_every_ms;
}
