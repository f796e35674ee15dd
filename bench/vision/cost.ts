/** What a decision and a result that is kept cost, per core: by the time that this process's own processor took. */
import { cpuUsage } from "node:process";
import { createAddressSigner } from "../../shared/media/signed_address.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createVisionCache } from "../../shared/vision/cache.ts";
import { decide, USUAL_POLICY, visionPolicy } from "../../shared/vision/policy.ts";
import { checkedResult } from "../../shared/vision/result.ts";
import { mediaOver } from "../../tests/harness/media_api.ts";
import { median } from "../statistics.ts";

const TURNS = 5;
const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const RESULT = {
  description: "A poster of a concert in the city's garden, with a guitar and the names of four bands.",
  labels: ["poster", "concert", "афиша", "guitar"],
  objects: [{ name: "guitar", count: 2 }],
  ocr_text: "Вход свободный. Начало в 12:00, на трёх сценах выступят более сорока коллективов. "
    .repeat(10),
  is_meme: false,
  nsfw: false,
  scene: "garden",
  confidence: 0.9,
};

/** Seconds of one core that this process has used. */
function coreSeconds(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1e6;
}

/** How many a second of one core, the median of some turns. */
async function perCoreSecond(
  times: number,
  once: (n: number) => unknown,
): Promise<number> {
  const rates: number[] = [];
  // The first is for what is compiled.
  for (let turn = -1; turn < TURNS; turn++) {
    const began = coreSeconds();
    for (let n = 0; n < times; n++) await once(n);
    if (turn >= 0) rates.push(times / (coreSeconds() - began));
  }
  return median(rates);
}

const analysts = ["model:a", "model:b", "tesseract"].map((name) => ({
  name,
  capabilities: {
    mimeTypes: new Set(TYPES),
    maxBytes: 14e6,
    maxPixels: null,
    spendsTokens: name !== "tesseract",
    readsTextOnly: name === "tesseract",
  },
}));

/** Decisions by a policy that looks at everything it can; beside it what such a row of facts costs to read as JSON. */
export async function decisions(times: number) {
  const policy = visionPolicy.parse({
    ...USUAL_POLICY,
    sample_permille: 900,
    max_age_days: 30,
    skip_sources: ["telegram:spam*", "rss:*"],
    text_first: ["tesseract"],
  });
  const now = Date.parse("2026-11-21T00:00:00Z");
  const facts = Array.from({ length: 1_000 }, (_, n) => ({
    sha256: (n * 2_654_435_761 >>> 0).toString(16).padStart(8, "0").padEnd(
      64,
      "0",
    ),
    mimeType: TYPES[n % 4]!,
    sizeBytes: 1_000 + n * 4_000,
    width: 50 + n,
    height: 60 + n * 3 % 2_000,
    source: n % 9 === 0 ? "rss:news" : `telegram:${n % 50}`,
    publishedAtMs: now - n * 3_600_000,
    similar: null,
    underWay: null,
  }));
  const texts = facts.map((one) => JSON.stringify(one));
  return {
    decisions: await perCoreSecond(
      times,
      (n) => decide(policy, facts[n % 1_000]!, analysts, now),
    ),
    rows_read: await perCoreSecond(times, (n) => JSON.parse(texts[n % 1_000]!)),
  };
}

/**
 * Results found again among the files in the database, as a job finds them; beside it the statement that finds such a file and the check
 * of its text alone.
 * @param url of a database with the migrations
 */
export async function cacheHits(url: string, times: number) {
  const transport = directTransport({ url, connections: 1, pooler: false });
  const log = (_: string, message: string, fields: unknown) => console.error(message, fields);
  try {
    const addresses = createAddressSigner({
      baseUrl: "http://x.test",
      secrets: ["secret"],
      now: Date.now,
    });
    const media = mediaOver(transport.call, { addresses, now: Date.now, log });
    const cache = createVisionCache(() => Promise.resolve(media), log);
    const key = (n: number) => ({
      tenantId: "default",
      sha256: n.toString(16).padStart(64, "0"),
      analyst: "model:gemma-4-31b-it",
      resolution: "medium" as const,
    });
    const kept = 50;
    for (let n = 0; n < kept; n++) {
      await cache.save(key(n), {
        provider: "google",
        model: "gemma-4-31b-it",
        inputTokens: 300,
        outputTokens: 200,
        result: { ...RESULT, scene: String(n) },
      });
    }
    let missed = 0;
    const hits = await perCoreSecond(times, async (n) => {
      if (await cache.find(key(n % kept)) === null) missed++;
    });
    const text = JSON.stringify(RESULT);
    const signal = new AbortController().signal;
    const floor = await perCoreSecond(times, async () => {
      await transport.call("eve_vision_metrics", {}, signal);
      checkedResult(JSON.parse(text));
    });
    return { hits, missed, floor };
  } finally {
    await transport.close();
  }
}
