import { GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import type { MediaRegistry } from "../database/media/media.ts";
import type { MediaSpool } from "../database/media/media_spool.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Absence } from "./absence.ts";
import type { ObjectStore } from "./object_store.ts";

/** `s3`: only there. `postgres`: only in the database. `s3 with spool`: in the database while S3 is away. */
export const STORAGE_MODES = ["s3", "postgres", "s3 with spool"] as const;
export type StorageMode = (typeof STORAGE_MODES)[number];

export const STORAGE_VARIABLE = "EVE_STORAGE";

/** Where files go, and what is known of them. */
export interface Media {
  registry: MediaRegistry;
  mode: StorageMode;
  /** Null: no S3 is set up, or the mode is `postgres`. */
  s3: ObjectStore | null;
  /** Whether S3 has been seen to be away. */
  absence: Pick<Absence, "isRecent">;
  /** The database as a store. */
  spool: ObjectStore;
  /** Its rows, for what moves on to S3. */
  rows: MediaSpool;
  maxFileBytes: number;
  /** Larger files are sent to S3 in parts, each of so many bytes but the last. */
  partBytes: number;
  clock: Clock;
  log: Log;
}

/** @throws GatewayError `gateway_misconfigured` */
export function readStorageMode(read: ReadVariable, hasS3: boolean): StorageMode {
  const said = read(STORAGE_VARIABLE)?.trim().replaceAll(/[_-]/g, " ");
  if (!said) return hasS3 ? "s3 with spool" : "postgres";
  const mode = STORAGE_MODES.find((each) => each === said);
  if (mode === undefined) {
    throw new GatewayError("gateway_misconfigured", {
      detail: `settings: ${STORAGE_VARIABLE}: must be ${STORAGE_MODES.join(", ")}`,
    });
  }
  if (mode !== "postgres" && !hasS3) {
    throw new GatewayError("gateway_misconfigured", {
      detail:
        `settings: ${STORAGE_VARIABLE}: ${mode} needs S3_BUCKET_NAME, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY`,
    });
  }
  return mode;
}

/** Limits that the environment may set, with the names of their rows. */
const LIMIT_VARIABLES: Readonly<Record<string, string>> = {
  S3_TOTAL_LIMIT_GB: "total",
  S3_EMERGENCY_THRESHOLD_GB: "emergency",
  S3_PER_TENANT_LIMIT_GB: "tenant",
};
/** 1 GB is 10^9 bytes, as stores count. */
export const BYTES_PER_GB = 1_000_000_000;

/** @throws GatewayError `gateway_misconfigured`, naming the variable that is wrong */
export function readLimits(read: ReadVariable): Record<string, number> {
  const limits: Record<string, number> = {};
  for (const [variable, name] of Object.entries(LIMIT_VARIABLES)) {
    const said = read(variable)?.trim();
    if (!said) continue;
    if (!/^\d{1,7}(\.\d{1,9})?$/.test(said)) {
      throw new GatewayError("gateway_misconfigured", {
        detail: `settings: ${variable}: must be a number of gigabytes, such as 15`,
      });
    }
    limits[name] = Math.round(Number(said) * BYTES_PER_GB);
  }
  return limits;
}

/** Where objects go at first. */
export function firstStore({ s3, spool }: Media): ObjectStore {
  return s3 ?? spool;
}

/** The store that has an object. @throws GatewayError `storage_misconfigured`: it is in S3, and none is set up */
export function storeOf({ s3, spool }: Media, storedIn: "s3" | "postgres"): ObjectStore {
  if (storedIn === "postgres") return spool;
  if (s3 !== null) return s3;
  throw new GatewayError("storage_misconfigured", {
    detail: "an object is stored in S3, and no S3 is set up: set S3_BUCKET_NAME and its keys again",
  });
}

export function isAway(thrown: unknown): boolean {
  return thrown instanceof GatewayError && thrown.code === "storage_unavailable";
}
