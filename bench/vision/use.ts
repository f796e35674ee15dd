/** How much of the quota pictures use that wait, in simulated time. */
import { quotaBreachesOf } from "../../local/emulator/breaches.ts";
import { jpegOf, scene } from "../../tests/harness/made_pictures.ts";
import { openVision } from "../../tests/harness/simulated/vision_platform.ts";
import { seededRandom } from "../quota/random.ts";

const LANES = 3;
const RPM = 30;
const MINUTE_MS = 60_000;
/** Batch spreads what it started at once in its first minute over the second: the third is the first that shows a pace. */
const SETTLED_MS = 2 * MINUTE_MS;
/** Longer than any run. */
const MOST_MS = 24 * 60 * MINUTE_MS;

/**
 * Pictures that wait from the beginning, over lanes that nobody else uses. Starts are counted from the third minute on, as long as a
 * minute's worth of pictures waits.
 * @param url of a database with the migrations, which nobody else uses
 */
export async function visionUse(url: string, pictures: number) {
  const vision = await openVision({
    url,
    lanes: LANES,
    rpm: RPM,
    random: seededRandom(1),
    workers: 4,
  });
  const { platform, emulator } = vision;
  const { sql, time } = platform;
  let saturatedUntil = 0;
  try {
    // Each is looked at, however alike they are.
    const saved = await vision.api.call("PUT", "/v1/vision/policy", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ policy: { same_bits: null, min_bytes: 0 } }),
    });
    if (!saved.ok) throw new Error(await saved.text());
    await vision.bring(
      Array.from({ length: pictures }, (_, n) => jpegOf(scene(n + 1, 128, 96))),
      "default",
      "bench",
    );
    const began = platform.now;
    platform.start();
    await platform.until(async () => {
      const [row] = await time.tracked(sql`
        select count(*)::integer as waiting from public.post_enrichment where status = 'waiting'`);
      if (row!.waiting >= LANES * RPM) saturatedUntil = time.now();
      return row!.waiting === 0;
    }, MOST_MS);
    const [ended] = await sql`
      select count(*) filter (where status = 'done')::integer as done, count(*) filter (where reason like '%tesseract%')::integer as read
      from public.post_enrichment`;
    const calls = emulator.control.stats().lastAdmitted;
    const minutes = Math.floor((saturatedUntil - SETTLED_MS) / MINUTE_MS);
    const starts = calls.filter(({ at }) =>
      at - began >= SETTLED_MS && at - began < SETTLED_MS + minutes * MINUTE_MS
    ).length;
    return {
      pictures,
      done: ended!.done as number,
      lanes: LANES,
      rpm: RPM,
      /** Those whose starts were counted. */
      minutes,
      sent_again: calls.length - pictures,
      refused_by_emulator: emulator.control.stats().refused.total,
      /** By a check of the emulator's journal that shares no code with its quota. */
      breaches: quotaBreachesOf(calls, { rpm: RPM, tpm: null, rpd: null }).length,
      share_used: Math.round(10_000 * starts / (minutes * LANES * RPM)) /
        10_000,
    };
  } finally {
    await vision.close();
  }
}
