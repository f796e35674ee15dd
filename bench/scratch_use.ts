import postgres from "postgres";
import { withFilledCluster } from "./filled_cluster.ts";
import { jobsUse } from "./jobs/use.ts";
const graces = Deno.args.map(Number);
const src = Deno.readTextFileSync("supabase/migrations/20261122001000_booking.sql");
const begin = src.indexOf("create or replace function eve.queued_before(");
const fn = src.slice(begin, src.indexOf("$$;", begin) + 3);
await withFilledCluster(async () => {}, async (url) => {
  for (const grace of graces) {
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    await sql.unsafe(fn.replace("- 1500", `- ${grace}`));
    await sql.end();
    const began = performance.now();
    const killed = await jobsUse(url, { jobs: 1500, workers: 4, killEveryMs: 20_000 });
    const s2 = postgres(url, { max: 1, onnotice: () => {} });
    const lost =
      await s2`select state, error_code, losses, count(*)::int from eve.jobs group by 1,2,3 order by 1,2,3`;
    await s2.end();
    console.log(
      grace,
      JSON.stringify(killed),
      JSON.stringify(lost),
      Math.round((performance.now() - began) / 1000),
      "s",
    );
  }
});
Deno.exit(0);
