/** Files of calls as the owner hands them in at the command line: watched, taken up again, fetched; with workers that are killed meanwhile. */
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eve } from "../../cli/eve.ts";
import type { CommandDependencies } from "../../cli/eve/command.ts";
import { connect } from "../../cli/eve/connection.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const MODEL = "gemma-4-31b-it";
let stack: TestStack;
let sql: postgres.Sql;
beforeAll(async () => {
  stack = await startTestStack({
    startLate: ["admin", "api", "issue-kaggle-token", "maintenance", "telegram"],
    emulator: { latencyMs: 20, models: [{ name: MODEL, limits: { rpm: null, tpm: null, rpd: null } }] },
  });
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null where model = ${MODEL}`;
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

async function run(args: string[], around: Partial<CommandDependencies> = {}) {
  const said: string[] = [];
  const complained: string[] = [];
  const code = await eve(args, {
    say: (text) => said.push(text),
    complain: (text) => complained.push(text),
    connect: () => connect(stack.url, stack.keys.secret),
    ...around,
  });
  return { code, said: said.join("\n"), complained: complained.join("\n") };
}
const withFile = (text: string, around: Partial<CommandDependencies> = {}) => ({
  read: () => Promise.resolve(text),
  ...around,
});
const linesOf = (text: string) =>
  text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
const jsonl = (lines: unknown[]) => lines.map((line) => JSON.stringify(line)).join("\n");

/** The schedule is off here: what is due is begun when somebody looks. */
async function callWorker() {
  if ((await sql`select public.eve_jobs_due() as is_due`)[0]!.is_due) {
    // One that was killed is not back yet.
    const response = await stack.invoke("worker", {}).catch(() => null);
    await response?.body?.cancel();
  }
}
const FILE = jsonl(
  Array.from(
    { length: 500 },
    (_, number) =>
      number % 2 === 0
        ? { model: MODEL, prompt: `What is number ${number}?`, request_id: `native-${number}` }
        : {
          custom_id: `openai-${number}`,
          method: "POST",
          url: "/v1/chat/completions",
          body: { model: MODEL, messages: [{ role: "user", content: `What is number ${number}?` }] },
        },
  ),
);

test(
  "500 lines in both forms are handed in, watched while the worker and its upstream are killed, and fetched in order",
  async () => {
    const progress: string[] = [];
    let kills = 0;
    const around = withFile(FILE, {
      progress: (text) => progress.push(text),
      sleep: async () => {
        await callWorker();
        await new Promise((resolve) => setTimeout(resolve, 100));
        // Where some have been answered, and others are under way: the worker and what it calls go at once.
        const [{ done }] = await sql`
        select count(*)::int as done from eve.jobs where finished_at is not null` as unknown as [
          { done: number },
        ];
        if (kills === 0 && done > 50) {
          kills++;
          stack.functions.get("worker")!.kill("SIGKILL");
          stack.emulator!.kill("SIGKILL");
          // The leases end at once, and not in half a minute.
          await sql`
          update eve.jobs set lease_until = now()
          where id in (select id from eve.jobs where lease_until is not null order by id for update)`;
          await sql`delete from eve.job_workers`;
        }
        if (kills > 0) {
          // The reservations of calls whose worker has died end as well, and not in three minutes. What somebody is at is left for the
          // next time: workers take these rows in their own order, and neither is to wait for the other.
          await sql`
          update eve.inflight set lease_until = now()
          where request_no in (
            select i.request_no from eve.inflight i join eve.jobs j on starts_with(i.request_id, j.id::text)
            where j.state = 'queued' for update of i skip locked
          )`;
          await sql`
          update eve.jobs set run_at = now()
          where id in (select id from eve.jobs where state = 'queued' and run_at > now() for update skip locked)`;
        }
      },
    });
    const watched = await run(["jobs", "submit", "calls.jsonl", "--watch"], around);
    expect(watched).toMatchObject({ complained: "", code: 0 });
    expect(kills).toBe(1);
    expect(watched.said).toMatch(
      /^500 jobs were handed in as [0-9a-f-]{36}\.\n500 of 500 jobs have ended: 500 succeeded/,
    );
    expect(progress.some((line) => /█+ .*\d+ of 500 {2}\d+ a minute/.test(line))).toBe(true);

    // Nothing is handed in twice.
    const again = await run(["jobs", "submit", "calls.jsonl", "--json"], around);
    expect(JSON.parse(again.said)).toMatchObject({ lines: 500, added: 0 });
    expect((await sql`select count(*)::int as jobs from eve.jobs`)[0]!.jobs).toBe(500);

    const results = await run(["jobs", "results", "calls.jsonl"], around);
    expect(results).toMatchObject({ code: 0, complained: "" });
    const lines = linesOf(results.said);
    expect(lines.map(({ line }) => line)).toEqual(Array.from({ length: 500 }, (_, number) => number + 1));
    expect(lines[0]).toMatchObject({
      custom_id: "native-0",
      status: "succeeded",
      response: { status_code: 200, body: { text: expect.any(String), model: MODEL } },
      error: null,
    });
    expect(lines[1]).toMatchObject({
      custom_id: "openai-1",
      response: { status_code: 200, body: { object: "chat.completion" } },
    });
    const { id } = JSON.parse(again.said);
    expect((await run(["jobs", "results", id])).said).toBe(results.said);
    const [{ answered }] = await sql`
    select count(distinct request_id)::int as answered from eve.requests where state = 'succeeded'` as unknown as [
      { answered: number },
    ];
    expect(answered).toBe(500);
  },
  240_000,
);

test("a line that is too long for the table of jobs is kept with the files of its consumer's tenant, and answered as any other", async () => {
  await run(["consumers", "add", "writer", "--kind", "service"]);
  const long = `What is in here? ${"Nothing of this matters. ".repeat(4_000)}`;
  const file = jsonl([{ model: MODEL, prompt: "Short." }, { model: MODEL, prompt: long }]);
  const around = withFile(file, { sleep: callWorker });
  const watched = await run(["jobs", "submit", "f", "--consumer", "writer", "--watch", "--json"], around);
  expect(watched).toMatchObject({ complained: "", code: 0 });
  const { id } = JSON.parse(watched.said);
  const rows = (id: string) =>
    sql`
      select j.place, j.state, j.body is null as in_media, r.ref_id is not null as is_used, public.eve_batch_file_tenant(j.consumer_id) ->> 'tenant_id' = r.tenant_id as is_theirs
      from eve.jobs j
      left join eve.media_references r on r.ref_kind = 'job' and r.ref_id = j.id::text and j.body_media = r.tenant_id || '/' || r.file_sha256
      where j.batch_id = ${id} order by j.place`;
  expect([...await rows(id)]).toEqual([
    { place: 0, state: "succeeded", in_media: false, is_used: false, is_theirs: null },
    { place: 1, state: "succeeded", in_media: true, is_used: true, is_theirs: true },
  ]);
  const lines = linesOf((await run(["jobs", "results", "f", "--consumer", "writer"], around)).said);
  expect(lines[1].response.body.usage.input_tokens).toBeGreaterThan(10_000);
  // Where the files have no room it stays in the table.
  await sql`update eve.media_limits set limit_bytes = 1 where name = 'total'`;
  const full = await run(["jobs", "submit", "f", "--json"], withFile(file.replaceAll("Nothing", "Little")));
  expect(full).toMatchObject({ complained: "", code: 0 });
  expect((await rows(JSON.parse(full.said).id)).map(({ in_media }) => in_media)).toEqual([false, false]);
  await sql`update eve.media_limits set limit_bytes = 15000000000 where name = 'total'`;
});

test("a file is another consumer's when it is handed in for one, and counts as its own", async () => {
  await run(["consumers", "add", "reader", "--kind", "service"]);
  const file = jsonl([{ model: MODEL, prompt: "One." }, { model: MODEL, prompt: "Two." }]);
  const mine = await run(["jobs", "submit", "f", "--json"], withFile(file));
  const theirs = await run(["jobs", "submit", "f", "--json", "--consumer", "reader"], withFile(file));
  expect(JSON.parse(theirs.said)).toMatchObject({ lines: 2, added: 2 });
  expect(JSON.parse(theirs.said).id).not.toBe(JSON.parse(mine.said).id);
  const listed = JSON.parse((await run(["jobs", "list", "--consumer", "reader", "--json"])).said);
  expect(listed).toMatchObject([{ custom_id: "line-2" }, { custom_id: "line-1" }]);
  expect((await run(["jobs", "list", "--consumer", "nobody"])).complained).toContain(
    "no consumer named nobody",
  );
  const shown = await run(["jobs", "show", listed[0].id, "--consumer", "reader"]);
  expect(shown.said).toMatch(/name +line-2/);
  await run(["jobs", "cancel", "f"], withFile(file));
  await run(["jobs", "cancel", "f", "--consumer", "reader"], withFile(file));
});

test("what has not ended is cancelled, and told as such", async () => {
  // For later, so that no worker has it.
  await sql`update eve.job_queues set paused_until = now() + interval '1 hour'`;
  const file = jsonl(
    [1, 2, 3].map((number) => ({ model: "gemma-4-26b-a4b-it", prompt: `${number}`, class: "batch" })),
  );
  await run(["jobs", "submit", "f"], withFile(file));
  await sql`update eve.job_queues set paused_until = now() + interval '1 hour'`;
  const cancelled = await run(["jobs", "cancel", "f", "--json"], withFile(file));
  const after = await run(["jobs", "show", "f", "--json"], withFile(file));
  const { states } = JSON.parse(after.said);
  expect(states.cancelled).toBe(JSON.parse(cancelled.said).cancelled);
  const results = await run(["jobs", "results", "f"], withFile(file));
  expect(results.code).toBe(1);
  expect(linesOf(results.said).filter(({ status }) => status === "cancelled")[0]).toMatchObject({
    response: null,
  });
  await sql`update eve.job_queues set paused_until = null`;
});

test("where there is no room the rest is handed in later, and nothing twice", async () => {
  // What waits of other tests takes room, too.
  await sql`delete from eve.jobs where finished_at is null`;
  await sql`update eve.job_queues set paused_until = now() + interval '1 hour'`;
  await sql`update eve.settings set value = 500 where name = 'jobs_queued_max'`;
  const file = jsonl(
    Array.from({ length: 700 }, (_, number) => ({ model: "gemma-4-26b-a4b-it", prompt: `${number}` })),
  );
  const refused = await run(["jobs", "submit", "f"], withFile(file));
  expect(refused).toMatchObject({
    code: 1,
    complained: expect.stringMatching(
      /^jobs_full: [^]*\n500 of 700 lines were handed in\. Submit the file again/,
    ),
  });
  await sql`update eve.settings set value = 100000 where name = 'jobs_queued_max'`;
  expect(JSON.parse((await run(["jobs", "submit", "f", "--json"], withFile(file))).said)).toMatchObject({
    lines: 700,
    added: 200,
  });
  await run(["jobs", "cancel", "f"], withFile(file));
  await sql`update eve.job_queues set paused_until = null`;
});

test("the lines that are no calls are named, and nothing is handed in", async () => {
  const before = (await sql`select count(*)::int as jobs from eve.jobs`)[0]!.jobs;
  const file = [
    '{"model": "m", "prompt": "fine"}',
    "not json",
    "",
    '{"model": "m"}',
    '{"custom_id": "a", "url": "/v1/images", "body": {"model": "m"}}',
    '{"custom_id": "a", "body": {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}}',
    '{"model": "m", "prompt": "fine", "request_id": "line-1"}',
    '{"stage": "POEM", "prompt": "A poem"}',
  ].join("\n");
  const { code, complained } = await run(["jobs", "submit", "f"], withFile(file));
  expect(code).toBe(1);
  const lines = complained.split("\n");
  expect(lines.map((line) => /^Line (\d+)/.exec(line)?.[1])).toEqual([
    "2",
    "4",
    "5",
    "6",
    "7",
    "8",
    undefined,
  ]);
  expect(complained).toMatch(/Line 5: .*\/v1\/chat\/completions/);
  expect(lines.at(-1)).toBe("Nothing was handed in.");
  expect((await sql`select count(*)::int as jobs from eve.jobs`)[0]!.jobs).toBe(before);
  expect((await run(["jobs", "submit", "f"], withFile("\n\n"))).complained).toContain("holds no lines");
  expect((await run(["jobs", "show", "f"], withFile(file))).complained).toContain("No jobs of f");
  expect((await run(["jobs", "show", crypto.randomUUID()])).complained).toContain("There are no jobs");
  expect((await run(["jobs", "list", "--limit", "900"])).code).toBe(2);
});
