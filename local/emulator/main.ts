/**
 * The emulator as a process: `deno run --allow-net --allow-env local/emulator/main.ts`.
 *
 * `EMULATOR_CONFIG` holds its configuration as JSON (see options.ts); what it leaves out is the demonstration's: keys
 * demo-key-a and demo-key-b in project demo-one, demo-key-c in demo-two, the default models with the free tier's
 * limits. When it is ready it prints one line, `listening <url>`.
 */

import { startEmulator } from "./emulator.ts";
import type { EmulatorConfig } from "./options.ts";

/** Beside the stack's own default port 54321 and its database's 54322. */
const DEFAULT_PORT = 54_323;
/** Quick, but slow enough to see a stream arrive. */
const DEFAULT_LATENCY_MS = 120;
const DEFAULT_CHUNK_DELAY_MS = 15;

function configured(): EmulatorConfig {
  const text = Deno.env.get("EMULATOR_CONFIG");
  if (text === undefined || text === "") return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`EMULATOR_CONFIG is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

try {
  const emulator = await startEmulator({
    port: DEFAULT_PORT,
    latencyMs: DEFAULT_LATENCY_MS,
    chunkDelayMs: DEFAULT_CHUNK_DELAY_MS,
    ...configured(),
  });
  console.log(`listening ${emulator.url}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  Deno.exit(1);
}
