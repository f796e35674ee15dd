import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** A scrape has ten seconds by default; counting gives up by itself after two. */
const TIMEOUT_MS = 9_000;

const labels = z.record(z.string(), z.string());

const metrics = z.object({
  samples: z.array(
    z.tuple([z.string(), labels, z.number()])
      .transform(([name, labels, value]) => ({ name, labels, value })),
  ),
  histograms: z.array(
    z.tuple([z.string(), labels, z.array(z.number()), z.array(z.number().int().nonnegative()), z.number()])
      .transform(([name, labels, bounds, counts, sum]) => ({ name, labels, bounds, counts, sum })),
  ),
});

/** What the database knows of the gateway: one value per name and labels. */
export type GatewayMetrics = z.output<typeof metrics>;

export async function readMetrics(transport: Transport): Promise<GatewayMetrics> {
  const parts = await Promise.all(
    [
      "eve_metrics",
      "eve_storage_metrics",
      "eve_event_metrics",
      "eve_job_metrics",
      "eve_chat_metrics",
      "eve_vision_metrics",
      "eve_telegram_metrics",
      "eve_graph_metrics",
      "eve_cache_metrics",
    ].map((
      name,
    ) => call(transport, name, {}, metrics, TIMEOUT_MS)),
  );
  return {
    samples: parts.flatMap(({ samples }) => samples),
    histograms: parts.flatMap(({ histograms }) => histograms),
  };
}

const counted = z.object({ requests: z.number().int().default(0), refusals: z.number().int().default(0) });

/** Adds to the counters what has ended since the last time; answers how much that was. */
export async function countMetrics(transport: Transport): Promise<number> {
  const { requests, refusals } = await call(transport, "eve_metrics_count", {}, counted, TIMEOUT_MS);
  return requests + refusals;
}
