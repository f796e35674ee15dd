/**
 * npm run worker: runs jobs as the function worker does, on any machine. It needs the function's own environment (SUPABASE_URL,
 * SUPABASE_SECRET_KEYS, the secrets of the keys), and makes outbound connections only. It goes on until it is interrupted, and gives back
 * then what it has not sent.
 */
import { GatewayError } from "../shared/contract/gateway_error.ts";
import { networkOf } from "../shared/http/runtime_network.ts";
import { openWorker } from "../shared/jobs/open_worker.ts";
import { systemClock as clock } from "../shared/runtime/clock.ts";
import { createLog } from "../shared/runtime/log.ts";
import { readSettings } from "../shared/runtime/settings.ts";
import { TESSERACT_MISSING } from "../shared/vision/analysts/tesseract.ts";
import { findTesseract } from "./tesseract.ts";

/** Between two looks while there is nothing to do. */
const REST_MS = 1_000;

const variable = (name: string) => Deno.env.get(name);
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  try {
    Deno.addSignalListener(signal, () => stop.abort());
  } catch {
    // Windows has no SIGTERM.
  }
}

try {
  const settings = readSettings(variable);
  const tesseract = await findTesseract();
  const worker = openWorker({
    place: "outside",
    tesseract,
    settings,
    read: variable,
    fetch,
    createClient: (options) => Deno.createHttpClient(options),
    ...networkOf(Deno),
    clock,
    newId: () => crypto.randomUUID(),
    log: createLog(variable("EVE_LOG_LEVEL")),
  });
  console.error(`The worker runs jobs of ${settings.project.url}. Interrupt it to end it.`);
  console.error(
    tesseract === null
      ? `Jobs of the kind ocr wait: ${TESSERACT_MISSING}.`
      : `It reads pictures with ${tesseract.version}.`,
  );
  while (!stop.signal.aborted) {
    await worker.work(stop.signal);
    await clock.sleep(REST_MS, stop.signal).catch(() => {});
  }
  worker.leave();
  Deno.exit(0);
} catch (thrown) {
  console.error(thrown instanceof GatewayError ? thrown.detail ?? thrown.message : thrown);
  Deno.exit(1);
}
