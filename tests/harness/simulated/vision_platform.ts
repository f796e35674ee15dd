/**
 * Pictures as they are looked at in a project, in simulated time: real workers with the real gateway, which can be killed; the real SQL
 * and the files in it; and the emulator of Google AI, which counts and answers by itself.
 */
import { type Emulator, startEmulator } from "../../../local/emulator/emulator.ts";
import { createVisionBooks } from "../../../shared/database/vision.ts";
import { startEveryMs } from "../../../shared/database/start_interval.ts";
import { analystLines } from "../../../shared/jobs/line.ts";
import { MOST_WAIT_OF_A_PICTURE_MS } from "../../../shared/jobs/open_worker.ts";
import { visionRunner } from "../../../shared/jobs/vision_runner.ts";
import { createAddressSigner } from "../../../shared/media/signed_address.ts";
import { googleProvider } from "../../../shared/providers/google/provider.ts";
import { createVisionCache } from "../../../shared/vision/cache.ts";
import { modelAnalyst } from "../../../shared/vision/analysts/model.ts";
import { beginningOf, storedPicture } from "../../../shared/vision/stored_picture.ts";
import { empty } from "../rows.ts";
import { apiOver, type ApiUnderTest, mediaOver } from "../media_api.ts";
import { JobPlatform, MODEL, type PlatformOptions, type WorkerParts } from "./job_platform.ts";

const TABLES = [
  "public.posts",
  "eve.vision_pictures",
  "eve.vision_policies",
  "eve.vision_decisions",
  "eve.vision_budgets",
  "eve.vision_spending",
  "eve.vision_reservations",
  "eve.media_references",
  "public.media_objects",
  "eve.events",
  "eve.event_consumers",
  "eve.metric_counters",
];

export interface VisionPlatform {
  platform: JobPlatform;
  emulator: Emulator;
  api: ApiUnderTest;
  /** Stores pictures and brings a post with each. @returns their hashes */
  bring(pictures: readonly Uint8Array<ArrayBuffer>[], tenant: string, round: string): Promise<string[]>;
  /** Until no picture waits. */
  ended(mostMs: number): Promise<void>;
  close(): Promise<void>;
}

export async function openVision(
  options: Omit<PlatformOptions, "runners" | "upstream">,
): Promise<VisionPlatform> {
  let platform: JobPlatform | null = null;
  const emulator = await startEmulator({
    keys: Array.from({ length: options.lanes }, (_, lane) => ({
      key: `KEY_${lane}`,
      project: `project-${lane}`,
    })),
    models: [{ name: MODEL, images: true, limits: { rpm: options.rpm, tpm: null, rpd: null } }],
    window: { kind: "sliding" },
    keepAdmitted: 100_000,
    keepRequests: 10_000,
    now: () => platform?.now ?? 0,
  });
  const google = googleProvider({ baseUrl: emulator.url });
  const log = () => {};
  const addresses = createAddressSigner({
    baseUrl: "http://project.test",
    secrets: ["secret"],
    now: Date.now,
  });
  const runners = ({ transport, gateway, clock }: WorkerParts) => {
    const media = mediaOver(transport, { addresses, now: Date.now, log });
    const opened = () => Promise.resolve(media);
    const vision = visionRunner({
      books: createVisionBooks(transport),
      cache: createVisionCache(opened, log),
      analysts: [modelAnalyst({
        gateway,
        resolve: (target) =>
          Promise.resolve({
            models: target.kind === "models" ? target.models : [],
            excludeKeys: [],
            stage: null,
          }),
        clock,
        joinLine: analystLines({
          maxWaitMs: MOST_WAIT_OF_A_PICTURE_MS,
          startEveryMs: (model) => startEveryMs(transport, model),
          clock,
        }),
        target: { kind: "models", models: [MODEL] },
        provider: "google",
      })],
      beginning: (object, atMost) => beginningOf(media, object, atMost),
      picture: (stored, whole) => storedPicture(opened, stored, whole),
      clock,
      log,
    });
    return { vision };
  };
  const jobs = platform = await JobPlatform.open({
    ...options,
    runners,
    upstream: (call) => google.text.generate(call),
  });
  const { sql, time } = jobs;
  await empty(sql, ...TABLES);
  const api = apiOver({ url: options.url });
  const send = async (path: string, headers: Record<string, string>, body: BodyInit) => {
    const response = await api.call("POST", path, { headers, body });
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
    return await response.json();
  };
  return {
    platform: jobs,
    emulator,
    api,
    async bring(pictures, tenant, round) {
      const hashes: string[] = [];
      for (const [n, bytes] of pictures.entries()) {
        const path = `/v1/media?tenant_id=${tenant}`;
        const { sha256 } = await send(path, { "content-type": typeOf(bytes) }, bytes);
        await send(
          "/v1/intake/posts",
          { "content-type": "application/json" },
          JSON.stringify({ tenant_id: tenant, source: round, external_id: String(n), media: [sha256] }),
        );
        hashes.push(sha256);
      }
      return hashes;
    },
    ended: (mostMs) =>
      jobs.until(
        async () =>
          (await time.tracked(sql`select from public.post_enrichment where status = 'waiting' limit 1`))
            .length === 0,
        mostMs,
      ),
    async close() {
      await jobs.close();
      await api.close();
      await emulator.stop();
    },
  };
}

function typeOf(bytes: Uint8Array): string {
  const types: Record<number, string> = { 0x89: "image/png", 0xff: "image/jpeg", 0x47: "image/gif" };
  return types[bytes[0]!] ?? "application/octet-stream";
}
