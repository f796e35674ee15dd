import { GatewayError } from "../contract/gateway_error.ts";
import { MEDIA_KINDS, type MediaRegistry } from "../database/media/media.ts";
import { type CountStorage, type StorageSums, UPLOAD_BOUNDS_S } from "../database/media/media_counts.ts";
import type { MediaSpool } from "../database/media/media_spool.ts";
import type { Background } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { S3Observation } from "./s3/transport.ts";

/** What happens within this time is counted with one call of the database. */
const HAND_OVER_MS = 1_000;
/** Of each list, in one call. Operations, results and kinds are few; tenants may be many, and those beyond are not told apart. */
const MAX_ENTRIES = 500;

export interface StorageCountDependencies {
  count: CountStorage;
  clock: Clock;
  background: Background;
  log: Log;
}

/** Counts for the metrics of storage. Nothing here waits for the database, and nothing fails. */
export interface StorageCounts {
  /** For the S3 driver. */
  observe(operation: S3Observation): void;
  /** The same, counting refusals for want of room and emergency clean-ups. */
  registry(registry: MediaRegistry): MediaRegistry;
  /** The same, counting refusals for want of room. */
  spool(spool: MediaSpool): MediaSpool;
}

/** Sends sums to the database a second after the first; what cannot be sent is logged and dropped, so nothing counts twice. */
export function createStorageCounts(dependencies: StorageCountDependencies): StorageCounts {
  const { count, clock, background, log } = dependencies;
  let counts = nothing();

  async function handOver(): Promise<void> {
    await clock.sleep(HAND_OVER_MS).catch(() => {});
    const { operations, uploads, violations, emergencyCleanups } = counts;
    counts = nothing();
    try {
      await count({
        operations: [...operations.values()],
        uploads: [...uploads.values()],
        violations: [...violations.values()],
        emergency_cleanups: emergencyCleanups,
      });
    } catch (thrown) {
      log("warn", "storage_not_counted", { detail: String(thrown) });
    }
  }

  function change(add: (sums: Counts) => void): void {
    add(counts);
    if (counts.isWaiting) return;
    counts.isWaiting = true;
    background(handOver());
  }

  /** Passes on what an operation throws, and counts it if it is for want of room. */
  async function counting<Value>(work: Promise<Value>, tenantOf: () => string): Promise<Value> {
    try {
      return await work;
    } catch (thrown) {
      if (thrown instanceof GatewayError && thrown.code === "storage_quota_exceeded") {
        const { tenant_id, limit = "" } = (thrown.details ?? {}) as {
          tenant_id?: string | null;
          limit?: string;
        };
        change(({ violations }) => {
          const [tenant, reason] = [tenant_id ?? tenantOf(), limit];
          const isFull = violations.size >= MAX_ENTRIES && !violations.has(`${tenant} ${reason}`);
          const named = isFull ? "" : tenant;
          entry(violations, `${named} ${reason}`, () => ({ tenant_id: named, reason, times: 0 })).times++;
        });
      }
      throw thrown;
    }
  }

  return {
    observe({ operation, key, result, durationMs, sentBytes }) {
      change(({ operations, uploads }) => {
        const content_type = kindOf(key);
        entry(
          operations,
          `${operation} ${result} ${content_type}`,
          () => ({ operation, result, content_type, times: 0 }),
        ).times++;
        if (operation !== "put" || result !== "ok") return;
        const size_bucket = sizeBucket(sentBytes);
        const upload = entry(
          uploads,
          `${size_bucket} ${content_type}`,
          () => ({
            content_type,
            size_bucket,
            counts: Array(UPLOAD_BOUNDS_S.length + 1).fill(0),
            seconds: 0,
          }),
        );
        const seconds = durationMs / 1_000;
        const place = UPLOAD_BOUNDS_S.findIndex((bound) => seconds <= bound);
        upload.counts[place < 0 ? UPLOAD_BOUNDS_S.length : place]!++;
        upload.seconds += seconds;
      });
    },
    registry: (registry) => ({
      ...registry,
      reserve: (actor, file) => counting(registry.reserve(actor, file), () => file.tenantId ?? ""),
      alert(alert, message) {
        if (alert === "storage_emergency_cleanup" && message !== null) {
          change((sums) => sums.emergencyCleanups++);
        }
        return registry.alert(alert, message);
      },
    }),
    spool: (spool) => ({
      ...spool,
      put: (key, object) => counting(spool.put(key, object), () => key.split("/")[1] ?? ""),
    }),
  };
}

interface Counts {
  operations: Map<string, StorageSums["operations"][number]>;
  uploads: Map<string, StorageSums["uploads"][number]>;
  violations: Map<string, StorageSums["violations"][number]>;
  emergencyCleanups: number;
  isWaiting: boolean;
}

const nothing = (): Counts => ({
  operations: new Map(),
  uploads: new Map(),
  violations: new Map(),
  emergencyCleanups: 0,
  isWaiting: false,
});

function entry<Value>(map: Map<string, Value>, key: string, create: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, value = create());
  return value;
}

/** Empty: about the bucket, about several objects, or about what is not ours. */
function kindOf(key: string | null): string {
  const [first] = key?.split("/") ?? [];
  return MEDIA_KINDS.find((kind) => kind === first) ?? "";
}

/** Files up to so many bytes, by the name of their bucket; 1 MB is 10^6 bytes. */
const SIZE_BUCKETS = [["100kB", 1e5], ["1MB", 1e6], ["10MB", 1e7], ["100MB", 1e8]] as const;

function sizeBucket(bytes: number): string {
  return SIZE_BUCKETS.find(([, most]) => bytes <= most)?.[0] ?? "larger";
}
