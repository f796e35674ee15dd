/** What `npm run bench:storage -- --days` copies: it runs for hours and in no suite, and would break unseen. */
import { expect, test } from "vitest";
import { copySample } from "../../bench/storage/days.ts";
import { Site } from "../../bench/storage/site.ts";
import { cloneDatabase } from "../harness/database.ts";

test("a day is copied from its sample, with the rows beside the audit that each call leaves", async () => {
  const database = await cloneDatabase();
  try {
    const site = await Site.open(database.url);
    try {
      for (let place = 0; place < 3; place++) await site.call(place);
      const later = site.nowMs + 3_600_000;
      await copySample(site, "0", later, 600_000, 9, 3);
      const [left] = await site.sql`
        select (select count(*)::int from eve.requests) as requests, count(*)::int as usage,
          count(distinct t.request_id)::int as ids, bool_and(t.meta ->> 'source' = 'eve') as ours
        from public.token_usage t`;
      expect(left).toEqual({ requests: 12, usage: 12, ids: 12, ours: true });
      const [counters] = await site.sql`
        select count(*)::int as minutes from public.google_ai_usage_counters c
        where c.minute_bucket >= to_timestamp(${later}::float8 / 1000.0)`;
      expect(counters!.minutes).toBe(2 * 10);
    } finally {
      await site.close();
    }
  } finally {
    await database.drop();
  }
});
