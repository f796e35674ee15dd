/**
 * Real pictures the whole way, in simulated time, with workers that are killed in the middle of what they do. EVE_VISION_PICTURES asks for
 * more of them: 300 take some minutes.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { seededRandom } from "../../bench/quota/random.ts";
import { pictureBreachesOf, quotaBreachesOf } from "../../local/emulator/breaches.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { realPictures } from "../harness/real_pictures.ts";
import { openVision, type VisionPlatform } from "../harness/simulated/vision_platform.ts";

const MANY = Number(Deno.env.get("EVE_VISION_PICTURES") ?? 40);
const LANES = 2;
const RPM = 30;
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const KILL_EVERY_MS = 8 * SECOND;
/** Where a worker's death hurts most. */
const DOOMS = [
  "eve_vision_begin",
  "eve_vision_picture",
  "eve_vision_reserve",
  "eve_settle",
  "eve_vision_settle",
  "eve_vision_finish",
  "eve_jobs_complete",
];

let db: TestDatabase;
let vision: VisionPlatform;
const random = seededRandom(18);
beforeAll(async () => {
  db = await cloneDatabase();
  await db.sql`insert into eve.tenants (id) values ('other') on conflict do nothing`;
  vision = await openVision({ url: db.url, lanes: LANES, rpm: RPM, random, workers: 3 });
  await db.sql`
    insert into eve.event_consumers (name, kind, types, retry_s) values ('test', 'test', '{vision.analyzed.v1}', '{1}')`;
});
afterAll(async () => {
  await vision?.close();
  await db?.drop();
});

const rows = (tenant: string) =>
  db.sql`select * from public.post_enrichment where tenant_id = ${tenant} order by created_at, id`;
const calls = () =>
  vision.emulator.control.stats().lastAdmitted.filter(({ method }) => method === "generateContent");
const spent = async (tenant: string) =>
  (await db.sql`
    select tokens::int, tokens_reserved::int, pictures::int, pictures_reserved::int
    from eve.vision_spending where tenant_id = ${tenant} and provider = '*' and period = 'month'`)[0];

test(
  "each is looked at once and written once, no matter which worker dies; the same again costs nothing; tenants are apart",
  async () => {
    const { platform } = vision;
    const pictures = await realPictures(MANY);
    for (const tenant of ["default", "other"]) {
      // Icons too.
      const policy = { min_side: 16 };
      const put = await vision.api.call("PUT", "/v1/vision/policy", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ policy, tenant_id: tenant }),
      });
      expect(put.status, await put.text()).toBe(200);
    }
    const hashes = await vision.bring(pictures, "default", "first");
    let killed = 0;
    let killing = true;
    void (async () => {
      while (killing) {
        await platform.time.sleep(KILL_EVERY_MS * (0.5 + random()));
        const victim = [...platform.workers][Math.floor(random() * platform.workers.size)];
        if (victim === undefined || !killing) continue;
        killed++;
        const of = DOOMS[Math.floor(random() * DOOMS.length)]!;
        const when = (["call", "answer", null] as const)[Math.floor(random() * 3)]!;
        await platform.kill(victim, when === null ? null : { when, of });
      }
    })();
    platform.start();
    await vision.ended(12 * HOUR);
    killing = false;
    expect(killed).toBeGreaterThan(3);

    // Four workers died with it, and somebody is told, who has it looked at once more.
    const lost = await db.sql`
    select id from public.post_enrichment where status = 'failed' and reason like 'job_lost:%'`;
    if (lost.length > 0) {
      await vision.api.call("POST", "/v1/vision/requeue", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ status: "failed" }),
      });
      await vision.ended(HOUR);
    }

    const first = await rows("default");
    expect(first).toHaveLength(MANY);
    const ends = Map.groupBy(first, ({ status }) => status);
    const failed = first.filter(({ status }) => status !== "done" && status !== "skipped");
    expect(failed.map(({ status, reason }) => [status, reason])).toEqual([]);
    const analysed = first.filter(({ status, same_as, from_cache }) =>
      status === "done" && !same_as && !from_cache
    );
    const sent = calls().length;
    console.log(
      `${MANY} pictures, ${killed} workers killed, ${lost.length} jobs lost with four of them: ${analysed.length} analysed, ${
        first.filter(({ same_as }) => same_as).length
      } alike, ${ends.get("skipped")?.length ?? 0} skipped, ${sent} calls`,
    );
    expect(analysed.length).toBeGreaterThan(MANY / 3);
    // Each is told once.
    const given = await db
      .sql`select data ->> 'enrichment_id' as id from eve.events where type = 'vision.analyzed.v1' and data ->> 'status' <> 'failed'`;
    expect(given.map(({ id }) => id).toSorted()).toEqual(first.map(({ id }) => id).toSorted());
    // No step has two answers that were paid for: who comes after a death is given the first one again.
    expect(
      await db.sql`
      select substr(request_id, 1, 45) as step, count(*)::int as times from eve.requests
      where state = 'succeeded' group by 1 having count(*) > 1`,
    ).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(analysed.length);
    // The books know of every call that was sent. (One that was not, its worker having died before, counts as well.)
    const [books] = await db.sql`select sum(attempts)::int as calls from eve.requests where dispatched`;
    expect(books!.calls).toBeGreaterThanOrEqual(sent);
    const before = (await spent("default"))!;
    // What became of a call nobody knows whose job was lost, or whose picture took another's result after its worker had died: it counts
    // with its estimate.
    const open = await db.sql`
      select j.state, e.same_as is not null as is_alike, q.state as call
      from eve.vision_reservations r
      join eve.jobs j on j.id::text = substr(r.id, 1, 36)
      join public.post_enrichment e on e.post_id::text = j.body ->> 'post_id' and e.file_sha256 = j.body ->> 'file_sha256'
      join eve.requests q on q.request_id = r.request_id
      where r.state = 'reserved'`;
    expect(open).toHaveLength(before.pictures_reserved);
    // An answer that came to a worker which died with it, the last of a job that was lost by that, is known to the books of calls alone.
    expect(open.filter(({ call, state }) => call !== "expired" && state !== "failed")).toEqual([]);
    const alike = open.filter(({ state, is_alike }) => state === "succeeded" && is_alike).length;
    expect(open.length - alike).toBeLessThanOrEqual(lost.length);
    expect(before.pictures).toBeGreaterThanOrEqual(analysed.length);
    // A worker that died between its result and its job's end has been paid for too; the next one found the result kept.
    const kept = first.filter(({ same_as, from_cache }) => !same_as && from_cache).length;
    expect(before.pictures).toBeLessThanOrEqual(analysed.length + kept + lost.length);
    const paid = analysed.reduce((sum, { tokens }) => sum + Number(tokens), 0);
    expect(before.tokens).toBeGreaterThanOrEqual(paid);

    // The same files in other posts.
    expect(await vision.bring(pictures, "default", "second")).toEqual(hashes);
    await vision.ended(HOUR);
    const second = (await rows("default")).slice(MANY);
    expect(second.map(({ status }) => status).toSorted()).toEqual(
      first.map(({ status }) => status).toSorted(),
    );
    expect(second.filter(({ tokens }) => Number(tokens) > 0)).toEqual([]);
    expect(calls()).toHaveLength(sent);
    expect(await spent("default")).toEqual(before);

    // Of another tenant nothing is taken, neither a result nor a near-duplicate.
    const few = pictures.slice(0, 12);
    await vision.bring(few, "other", "first");
    await vision.ended(HOUR);
    const others = await rows("other");
    expect(others.map(({ from_cache }) => from_cache)).toEqual(few.map(() => false));
    const own = new Set(others.map(({ file_sha256 }) => file_sha256));
    expect(others.filter(({ same_as }) => same_as !== null && !own.has(same_as))).toEqual([]);
    expect(calls().length - sent).toBe(
      others.filter(({ status, same_as }) => status === "done" && same_as === null).length,
    );
    expect(await spent("default")).toEqual(before);

    const { refused } = vision.emulator.control.stats();
    expect(refused.total).toBe(0);
    expect(quotaBreachesOf(calls(), { rpm: RPM, tpm: null, rpd: null })).toEqual([]);
    expect(pictureBreachesOf(vision.emulator.control.requests())).toEqual([]);
  },
  600_000,
);
