/**
 * npm run worker: runs jobs as the function worker does, on any machine. It needs the function's own environment (SUPABASE_URL,
 * SUPABASE_SECRET_KEYS, the secrets of the keys), and makes outbound connections only. It goes on until it is interrupted, and gives back
 * then what it has not sent.
 */
import { safeForTerminal } from "./eve/terminal.ts";
import { filesAreInS3 } from "../shared/database/media/media_stores.ts";
import { rpcTransport } from "../shared/database/transport/rpc_transport.ts";
import { readStorageSettings } from "../shared/media/settings.ts";
import { GatewayError } from "../shared/contract/gateway_error.ts";
import { networkOf } from "../shared/http/outgoing/runtime_network.ts";
import { openWorker } from "../shared/jobs/open_worker.ts";
import { systemClock as clock } from "../shared/runtime/clock.ts";
import { createLog } from "../shared/runtime/log.ts";
import { readSettings } from "../shared/runtime/settings.ts";
import { TESSERACT_MISSING } from "../shared/vision/analysts/tesseract.ts";
import { findTesseract } from "./tesseract.ts";

/** Between two looks while there is nothing to do. */
const REST_MS = 1_000;

const variable = (name: string) => Deno.env.get(name);
const say = (text: string) => console.error(safeForTerminal(text, false));
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
  const { project, databaseKey: secretKey } = settings;
  const files = readStorageSettings(variable).s3 !== null ||
    // While the database does not answer nobody knows; a job that it then cannot do goes back.
    !await filesAreInS3(rpcTransport({ url: project.url, secretKey })).catch(() => false);
  const worker = openWorker({
    place: "outside",
    tesseract,
    files,
    settings,
    read: variable,
    fetch,
    createClient: (options) => Deno.createHttpClient(options),
    ...networkOf(Deno),
    clock,
    newId: () => crypto.randomUUID(),
    log: createLog(variable("EVE_LOG_LEVEL"), (line) => safeForTerminal(line, false)),
  });
  say(`The worker runs jobs of ${settings.project.url}. Interrupt it to end it.`);
  say(
    !files
      ? "Jobs about files (vision, ocr, crawl, telegram) are left to others: the project's are in S3, and S3_BUCKET_NAME and its keys are not set here."
      : tesseract === null
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
  say(thrown instanceof GatewayError ? thrown.detail ?? thrown.message : Deno.inspect(thrown));
  if (thrown instanceof GatewayError && thrown.code === "gateway_misconfigured") {
    say("It needs the variables of the project's functions: docs/jobs.md shows how it is started.");
  }
  Deno.exit(1);
}
