/** Telegram writes on while the functions are killed and the database goes: the stack with its own Bot API, schedule and worker. */
import pMap from "p-map";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { seededRandom } from "../../bench/quota/random.ts";
import { TROUBLES } from "../harness/load/troubles.ts";
import { until } from "../harness/patience.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { expectStory, type PostRow, tellStory } from "../harness/telegram_story.ts";
import { sha256Of } from "../../shared/runtime/sha256.ts";

/** By name more: EVE_TELEGRAM_UPDATES=5000 npm test -- tests/faults/telegram_intake.test.ts */
const MANY = Number(Deno.env.get("EVE_TELEGRAM_UPDATES") ?? 80);
/** A second for each of them, on the slowest machine. */
const HANGS_AFTER_MS = Math.max(900_000, MANY * 1_000);
/** One every so many updates, in turns. */
const TROUBLE_EVERY = Math.max(18, Math.floor(MANY / 40));

let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack({ schedule: true, startLate: ["admin", "issue-kaggle-token"] });
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});

/** A statement that must get through although the database may be coming up. */
async function insist<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  let answer: Answer;
  await until(() =>
    ask().then((given) => {
      answer = given;
      return true;
    }, () => false)
  );
  return answer!;
}

const kill = async (name: string) => {
  stack.functions.get(name)!.kill("SIGKILL");
  // What it had in hand is over with its leases; their time passes at once.
  if (name === "worker") {
    await insist(() =>
      sql`
      with over as (update eve.job_workers set lease_until = now())
      update eve.jobs set lease_until = now() where kind = 'telegram' and state = 'running'`
    );
  }
};
const troubles = () => {
  const site = { stack, sql, random: Math.random };
  return [
    () => kill("telegram"),
    () => kill("worker"),
    () => TROUBLES.postgres_restarted.run(site),
    () => kill("worker"),
    () => TROUBLES.postgres_killed.run(site),
  ];
};

test(
  `${MANY} updates while the functions are killed and the database is restarted: every post once, every album whole, every byte right`,
  async () => {
    const { emulator } = stack.telegram!;
    const happen = troubles();
    let happened = 0;
    const waiting = async () => {
      const [row] = await insist(() =>
        sql`select count(*)::int as n from eve.telegram_updates where state = 'waiting'`
      );
      return row!.n + emulator.bots.reduce((all, { token }) => all + emulator.deliveries.pending(token), 0);
    };
    /** Pauses pass at once: those of Telegram, and those of jobs that failed. */
    const hurry = async () => {
      emulator.deliveries.hurry();
      await insist(() =>
        sql`
      update eve.jobs set run_at = now() - interval '1 second'
      where kind = 'telegram' and state = 'queued' and run_at > now()`
      );
    };
    const expected = await tellStory({
      emulator,
      random: seededRandom(23),
      many: MANY,
      // Nothing goes out from here, and one server is asked once a second at most.
      hasLinks: false,
      async pause(sent) {
        if (sent < (happened + 1) * TROUBLE_EVERY) return;
        // In the middle of the work: something of what was sent is done, and something is not.
        await hurry();
        const before = await waiting();
        await until(async () => before === 0 || await waiting() < before);
        await happen[happened++ % happen.length]!();
      },
    });
    emulator.faults.length = 0;
    while (await waiting() > 0) {
      await hurry();
      const before = await waiting();
      await until(async () => before === 0 || await waiting() < before, "updates are left")
        .catch(async (error: Error) => {
          const left = await sql`
            select u.*, to_jsonb(j) as job from eve.telegram_updates u left join eve.jobs j on j.id = u.job_id
            where u.state = 'waiting' limit 3`;
          throw new Error(`${error.message}: ${JSON.stringify(left)}`);
        });
    }
    expect(happened).toBeGreaterThanOrEqual(Math.min(4, happen.length));

    const found = await sql<PostRow[]>`
    select p.*, array(select m.file_sha256 from public.post_media_map m where m.post_id = p.id order by m.place) as media
    from public.posts p`;
    await expectStory(found, expected);
    await pMap(
      new Set(found.flatMap(({ media }) => media)),
      async (sha256) => {
        const file = await fetch(`${stack.url}/functions/v1/api/v1/media/${sha256}`, {
          headers: { apikey: stack.keys.secret },
        });
        expect(await sha256Of(new Uint8Array(await file.arrayBuffer()))).toBe(sha256);
      },
      { concurrency: 8 },
    );
  },
  HANGS_AFTER_MS,
);
