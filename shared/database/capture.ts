import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

export interface Captured {
  requestNo: number;
  prompt: unknown;
  answer: unknown;
}

/** Stores what was asked and answered beside its request. The database caps both; of what is longer it keeps the beginning. */
export async function capture(transport: Transport, captured: Captured, timeoutMs: number): Promise<void> {
  const args = { request_no: captured.requestNo, prompt: captured.prompt, answer: captured.answer };
  await call(transport, "eve_capture", args, z.unknown(), timeoutMs);
}
