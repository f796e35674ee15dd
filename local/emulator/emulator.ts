/**
 * A stand-in for the Google AI (Gemini) API on one's own machine, to develop against without a key, and to be refused
 * by in tests: it enforces limits per project and model by itself and shares no code with the gateway.
 */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { CONTROL_PATH, controlOf, type EmulatorControl, handleControl } from "./control.ts";
import { EmulatedApi } from "./emulated_api.ts";
import { Exchange } from "./exchange.ts";
import { type EmulatorOptions, readConfig } from "./options.ts";

export type { EmulatorControl, LimitChange, Stats } from "./control.ts";
export type { ErrorName } from "./errors.ts";
export type { FaultSpec } from "./faults.ts";
export type { AdmittedRequest, SeenRequest } from "./journal.ts";
export type { Limits, ModelOption } from "./models.ts";
export type { EmulatorConfig, EmulatorOptions } from "./options.ts";
export type { WindowShape } from "./quota.ts";
export { fingerprint } from "./fingerprint.ts";

export interface Emulator {
  /** Where it listens, without a slash at the end: the `baseUrl` of a client. */
  url: string;
  port: number;
  control: EmulatorControl;
  /** Closes every connection and forgets everything. */
  stop(): Promise<void>;
}

/**
 * Starts an emulator.
 *
 * @throws Error when an option is wrong, or the port is taken.
 */
export async function startEmulator(options: EmulatorOptions = {}): Promise<Emulator> {
  const { now = Date.now, ...config } = options;
  const settings = readConfig(config);
  const api = new EmulatedApi(settings, now);
  const control = controlOf(api);
  const server = createServer((req, res) => {
    const exchange = new Exchange(req, res);
    const controls = exchange.url.pathname.startsWith(CONTROL_PATH);
    void (controls ? handleControl(exchange, control) : api.handle(exchange));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(settings.port, settings.hostname, () => resolve());
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${settings.hostname}:${port}`,
    port,
    control,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
