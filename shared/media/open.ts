import { functionUrl } from "../runtime/function_names.ts";
import { createMedia } from "../database/media/media.ts";
import { countStorage } from "../database/media/media_counts.ts";
import { createMediaSpool } from "../database/media/media_spool.ts";
import { keptAbilities } from "../database/media/media_stores.ts";
import type { Transport } from "../database/transport/transport.ts";
import type { Background } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { createAbsence } from "./absence.ts";
import { createStorageCounts } from "./counts.ts";
import { createPostgresStore } from "./postgres/store.ts";
import { createS3Store } from "./s3/store.ts";
import { readStorageSettings } from "./settings.ts";
import { type AddressSigner, createAddressSigner } from "./signed_address.ts";
import { type Media, readLimits, readStorageMode } from "./storage.ts";

export interface MediaOptions {
  read: ReadVariable;
  call: Transport;
  projectUrl: string;
  /** Sign addresses of files in the database; the first signs, all are valid. */
  secrets: readonly string[];
  fetch: typeof fetch;
  clock: Clock;
  background: Background;
  log: Log;
  /** Milliseconds since 1970. */
  now: () => number;
  /** 0 up to 1. */
  random: () => number;
}

export interface OpenMedia {
  media: Media;
  addresses: AddressSigner;
  /** Where `api` is served. */
  baseUrl: string;
  /** Sets what the environment says of limits and the default tenant, the first time. */
  seed(): Promise<void>;
}

/**
 * Files as the environment sets them up: in S3, in the database, or in S3 with the database for when it is away.
 * @throws GatewayError `gateway_misconfigured`
 */
export function openMedia(options: MediaOptions): OpenMedia {
  const { read, call, clock, log, now } = options;
  const settings = readStorageSettings(read);
  const mode = readStorageMode(read, settings.s3 !== null);
  const limits = readLimits(read);
  const baseUrl = functionUrl(options.projectUrl, "api");
  const addresses = createAddressSigner({ baseUrl, secrets: options.secrets, now });
  const counts = createStorageCounts({
    count: countStorage(call),
    clock,
    background: options.background,
    log,
  });
  const registry = counts.registry(createMedia(call));
  const rows = counts.spool(createMediaSpool(call));
  const { maxFileBytes, partBytes } = settings;
  const absence = createAbsence(clock);
  return {
    media: {
      registry,
      mode,
      s3: settings.s3 === null || mode === "postgres"
        ? null
        : createS3Store({ ...settings.s3, maxFileBytes, memory: keptAbilities(call) }, {
          fetch: options.fetch,
          clock,
          now,
          random: options.random,
          observe: (operation) => {
            counts.observe(operation);
            absence.note(operation.result);
          },
        }),
      absence,
      spool: createPostgresStore({
        spool: rows,
        addresses,
        moves: settings.s3 !== null && mode !== "postgres",
        maxFileBytes,
        now,
      }),
      rows,
      maxFileBytes,
      partBytes,
      clock,
      log,
    },
    addresses,
    baseUrl,
    async seed() {
      if (Object.keys(limits).length > 0 || settings.defaultTenantId !== null) {
        await registry.seed(limits, settings.defaultTenantId);
      }
    },
  };
}
