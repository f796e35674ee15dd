import type { Api, Query } from "./api.ts";

/** What the function api answers about files (docs/storage.md); in bytes. */
export interface StorageCounter {
  limit_bytes: number;
  used_bytes: number;
  reserved_bytes: number;
  free_bytes: number;
  objects: number;
}

export const FILE_KINDS = ["media", "vision", "crawl"] as const;
export type FileKind = (typeof FILE_KINDS)[number];

export interface StorageStats {
  total: StorageCounter;
  kinds: Record<FileKind, StorageCounter>;
  spool: StorageCounter;
  emergency_threshold_bytes: number;
  tenants: ({ tenant_id: string } & StorageCounter)[];
}

export interface StorageGrowth {
  /** Of files that are there, by the UTC day on which they came; days on which none came are absent. */
  days: { day: string; kind: FileKind; objects: number; bytes: number }[];
}

export interface StorageCleanup {
  status: "not_needed" | "done" | "more" | "not_enough";
  dry_run: boolean;
  used_bytes_after: number;
  target_bytes: number;
  freed_bytes: number;
  deleted_objects: number;
  steps: { what: FileKind | "multipart"; min_age_days: number; objects: number; bytes: number }[];
}

export const ADDRESS_SECONDS = 3_600;

/** Files and their room. */
export interface StorageApi {
  /**
   * Where elements of the page may load a file from, for an hour. A file in S3 is on another origin, from which an element may show it, and
   * `fetch` may not read it.
   */
  address(sha256: string, tenantId: string, signal: AbortSignal): Promise<string>;
  stats(signal: AbortSignal): Promise<StorageStats>;
  growth(days: number, signal: AbortSignal): Promise<StorageGrowth>;
  /** Takes up to a minute, and says then whether there is more. One of the targets, in GB. */
  cleanUp(
    terms: { target_free_gb?: number; target_gb?: number; dry_run: boolean },
    signal?: AbortSignal,
  ): Promise<StorageCleanup>;
}

/** @param api of the function `api` */
export function createStorageApi(api: Api): StorageApi {
  const get = api.get as <Answer>(path: string, query: Query, signal: AbortSignal) => Promise<Answer>;
  return {
    async address(sha256, tenantId, signal) {
      const path = `/v1/media/${sha256}/url?tenant_id=${encodeURIComponent(tenantId)}`;
      const answer = await api.open(path, { expires_in: ADDRESS_SECONDS }, signal);
      return (await answer.json() as { url: string }).url;
    },
    stats: (signal) => get<StorageStats>("/v1/storage/stats", {}, signal),
    growth: (days, signal) => get<StorageGrowth>("/v1/storage/growth", { days }, signal),
    cleanUp: async (terms, signal) =>
      await (await api.open("/v1/storage/cleanup", { force: true, ...terms }, signal)).json(),
  };
}
