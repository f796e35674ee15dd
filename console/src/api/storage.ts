import type {
  ApiAnswers,
  FileKind,
  StorageCleanup,
  StorageGrowth,
  StorageStats,
} from "../../../shared/api/answers.ts";
import type { Api, GetOf } from "./api.ts";

export type {
  FileKind,
  StorageCleanup,
  StorageCounter,
  StorageGrowth,
  StorageStats,
} from "../../../shared/api/answers.ts";

/** Each kind once: a record, so that the compiler misses one that is left out. */
const KINDS: Record<FileKind, true> = { media: true, vision: true, crawl: true };
export const FILE_KINDS = Object.keys(KINDS) as FileKind[];

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
  const get = api.get as GetOf;
  return {
    async address(sha256, tenantId, signal) {
      const path = `/v1/media/${sha256}/url?tenant_id=${encodeURIComponent(tenantId)}`;
      const answer = await api.open(path, { expires_in: ADDRESS_SECONDS }, signal);
      return (await answer.json() as ApiAnswers["POST /v1/media/{name}/url"]).url;
    },
    stats: (signal) => get("/v1/storage/stats", {}, signal),
    growth: (days, signal) => get("/v1/storage/growth", { days }, signal),
    cleanUp: async (terms, signal) =>
      await (await api.open("/v1/storage/cleanup", { force: true, ...terms }, signal)).json(),
  };
}
