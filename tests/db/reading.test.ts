/** What people look at, as the command line and the console ask for it. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock } from "../harness/admission.ts";
import { moveClock } from "../harness/database_clock.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

const OTHER = "11111111-1111-1111-1111-111111111111";
const PROJECT = "00000000-0000-0000-0000-000000000000";

let database: TestDatabase;
let sql: postgres.Sql;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  await sql`
    insert into public.google_ai_api_keys (key_alias, env_var_name, quota_project, priority)
    values ('a', 'GOOGLE_API_KEY_A', 'one', 10), ('b', 'GOOGLE_API_KEY_B', 'one', 20), ('c', 'GOOGLE_API_KEY_C', 'two', 30)
  `;
  await sql`insert into eve.consumers (id, name, kind) values (${OTHER}, 'other', 'service')`;
});
afterAll(() => database?.drop());
beforeEach(() =>
  empty(
    sql,
    "eve.inflight",
    "eve.earlier_attempts",
    "eve.request_keys",
    "eve.requests",
    "eve.refusals",
    "eve.alerts",
    "eve.usage_slices",
    "eve.usage_hours",
    "eve.usage_days",
  )
);

/** Arguments of type jsonb; the other lists are arrays. */
const JSON_ARGUMENTS = ["changes", "after", "prompt"];

/** Calls a function of ours by name, as the REST API does. */
async function ask(name: string, args: Record<string, unknown> = {}) {
  const list = Object.keys(args).map((arg, place) =>
    `${arg} => $${place + 1}${JSON_ARGUMENTS.includes(arg) ? "::jsonb" : ""}`
  );
  const values = Object.entries(args).map(([arg, value]) =>
    JSON_ARGUMENTS.includes(arg) ? sql.json(value as postgres.JSONValue) : value
  );
  const [row] = await sql.unsafe(`select public.${name}(${list.join(", ")}) as answer`, values as never[]);
  return row!.answer;
}

/** Requests that ended `minutesAgo`, numbered as given. */
const insertRequests = (
  rows: { no: number; minutesAgo: number; consumer?: string; state?: string; id?: string; error?: string }[],
) =>
  sql`
    insert into eve.requests (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at,
      finished_at, metadata, error_code
    )
    select r.no, coalesce(r.consumer, ${PROJECT})::uuid, coalesce(r.id, 'r' || r.no), 'batch', 'native', 'gemma-4-31b-it',
      'gemma-4-31b-it', coalesce(r.state, 'succeeded'), 1, 0, now() - r.minutes_ago * interval '1 minute',
      now() - r.minutes_ago * interval '1 minute', '{}', r.error
    from jsonb_to_recordset(${
    sql.json(rows.map(({ minutesAgo, ...row }) => ({ ...row, minutes_ago: minutesAgo })))
  }::jsonb)
      as r (no bigint, minutes_ago double precision, consumer text, state text, id text, error text)
  `;

const reserve = async (model: string, args: Record<string, unknown> = {}) =>
  await ask("eve_reserve", { request_id: crypto.randomUUID(), models: [model], tokens: 100, ...args });

describe("lanes and keys", () => {
  const lane = async (project: string, model: string) =>
    (await ask("eve_lane_states", { quota_project: project, model }))[0];

  test("what is used is taken from what is left, and what is booked ahead waits", async () => {
    expect(await lane("one", "gemini-3.5-flash")).toMatchObject({
      state: "open",
      keys: ["a", "b"],
      free: 5,
      frees_at: null,
      requests: { limit: 5, used: 0, remaining: 5 },
      requests_day: { limit: 20, used: 0, remaining: 20 },
      limits_from: "model",
    });
    await sql`update public.google_ai_api_keys set is_active = false where quota_project = 'two'`;
    for (let call = 0; call < 7; call += 1) {
      expect(await reserve("gemini-3.5-flash", { max_wait_ms: 100_000 })).toMatchObject({
        status: "granted",
      });
    }
    expect(await lane("one", "gemini-3.5-flash")).toMatchObject({
      state: "minute_used_up",
      requests: { limit: 5, used: 5, remaining: 0 },
      tokens: { limit: 250_000, remaining: 249_500 },
      requests_day: { limit: 20, used: 7, remaining: 13 },
      queued: 2,
      running: 5,
      free: 0,
    });
    const { frees_at } = await lane("one", "gemini-3.5-flash");
    const [{ due }] = await sql`
      select min(b.at_ms) + 60000 + (select value from eve.settings where name = 'guard_ms') as due from eve.lane_buckets b
    ` as unknown as [{ due: string }];
    expect(Date.parse(frees_at)).toBe(Number(due));
    expect(await lane("two", "gemini-3.5-flash")).toMatchObject({ state: "no_key", requests: { used: 0 } });
    await sql`update public.google_ai_api_keys set is_active = true`;
  });

  test("limits of a quota project's own count, and one that is null leaves nothing to count", async () => {
    await ask("eve_limits_set", {
      changes: [{ model: "gemma-4-26b-a4b-it", rpm: 100, tpm: null }],
      quota_project: "two",
    });
    expect(await lane("two", "gemma-4-26b-a4b-it")).toMatchObject({
      limits_from: "override",
      requests: { limit: 100, remaining: 100 },
      tokens: { limit: null, remaining: null },
      requests_day: { limit: 14_400 },
    });
    expect(await lane("one", "gemma-4-26b-a4b-it")).toMatchObject({
      limits_from: "model",
      tokens: { limit: 16_000 },
    });
    await ask("eve_limits_clear", { quota_project: "two" });
  });

  test("why a lane is closed, and until when", async () => {
    await reserve("gemini-3.5-flash-lite");
    await sql`
      update eve.lanes
      set blocked_until = 'infinity', blocked_reason = 'upstream_daily_quota'
      where model = 'gemini-3.5-flash-lite' and quota_project = 'one'
    `;
    expect(await lane("one", "gemini-3.5-flash-lite")).toMatchObject({
      state: "paused",
      blocked_until: "infinity",
      blocked_reason: "upstream_daily_quota",
      // Four of its five starts are unused, and none can be taken.
      requests: { remaining: 14 },
      free: 0,
    });
    await sql`update eve.lanes set blocked_until = null, blocked_reason = null`;
    await sql`
      insert into eve.key_model_blocks (key_id, model, blocked_until, reason)
      select id, 'gemini-3.5-flash-lite', 'infinity', 'no_quota' from public.google_ai_api_keys where key_alias = 'c'
    `;
    expect(await lane("two", "gemini-3.5-flash-lite")).toMatchObject({ state: "no_key" });
    const keys = await ask("eve_key_states");
    expect(keys.map((key: { alias: string; state: string }) => [key.alias, key.state])).toEqual([
      ["a", "on"],
      ["b", "on"],
      ["c", "on"],
    ]);
    expect(keys[2].blocked_models).toMatchObject([{ model: "gemini-3.5-flash-lite", reason: "no_quota" }]);
    expect(keys[2].lanes.every((one: { quota_project: string }) => one.quota_project === "two")).toBe(true);
    await sql`delete from eve.key_model_blocks`;
  });
});

describe("requests", () => {
  test("come in pages, the newest first, each once", async () => {
    await insertRequests(
      Array.from({ length: 25 }, (_, place) => ({ no: place + 1, minutesAgo: 100 - place })),
    );
    const seen: number[] = [];
    let before: number | null = null;
    do {
      const page: { requests: { request_no: number }[]; next_before: number | null } = await ask(
        "eve_request_search",
        {
          ...(before !== null && { before }),
          at_most: 10,
        },
      );
      seen.push(...page.requests.map((row) => row.request_no));
      before = page.next_before;
    } while (before !== null);
    expect(seen).toEqual(Array.from({ length: 25 }, (_, place) => 25 - place));
  });

  test("are listed newest first, however they are numbered: connections take 32 numbers at a time", async () => {
    const ages = [7, 3, 9, 1, 8, 2, 6, 2, 5, 4];
    await insertRequests(ages.map((minutesAgo, n) => ({ no: 1000 - n * 64, minutesAgo })));
    for (const [n, minutesAgo] of ages.entries()) {
      await sql`
        insert into eve.refusals (id, refused_at, request_id, attempt, class, endpoint, model, code, tokens)
        values (${1000 - n * 64}, now() - ${minutesAgo} * interval '1 minute', ${
        "f" + n
      }, 1, 'batch', 'native', 'm',
          'rate_limited', 1)`;
    }
    for (const filter of [{}, { outcome: "refused" }]) {
      const seen: string[] = [];
      let before: number | null | undefined;
      while (before !== null) {
        const page: { requests: { at: string }[]; next_before: number | null } = await ask(
          "eve_request_search",
          { ...filter, ...(before !== undefined && { before }), at_most: 3 },
        );
        seen.push(...page.requests.map(({ at }) => at));
        before = page.next_before;
      }
      expect(seen).toHaveLength(ages.length);
      expect(seen).toEqual([...seen].sort().reverse());
    }
    const { events } = await ask("eve_tail", { at_most: 6 });
    expect(events.map(({ at }: { at: string }) => at)).toEqual(
      events.map(({ at }: { at: string }) => at).sort(),
    );
    expect(events).toHaveLength(6);
    const youngest = new Set(
      events.map(({ at }: { at: string }) => Math.floor((Date.now() - Date.parse(at)) / 60_000)),
    );
    expect([...youngest].sort()).toEqual([1, 2]);
  });

  test("are found by what is known of them", async () => {
    await insertRequests([
      { no: 1, minutesAgo: 5_000 },
      { no: 2, minutesAgo: 50, consumer: OTHER, state: "failed", error: "upstream_timeout" },
      { no: 3, minutesAgo: 40, consumer: OTHER },
      { no: 4, minutesAgo: 30, id: "mine" },
    ]);
    const found = async (filter: Record<string, unknown>) =>
      (await ask("eve_request_search", filter)).requests.map((row: { request_no: number }) => row.request_no);
    const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000);
    expect(await found({ request_id: "mine" })).toEqual([4]);
    expect(await found({ consumer: "other" })).toEqual([3, 2]);
    expect(await found({ consumer: OTHER, outcome: "failed" })).toEqual([2]);
    expect(await found({ error_code: "upstream_timeout" })).toEqual([2]);
    expect(await found({ model: "gemma-4-31b-it", since: ago(45) })).toEqual([4, 3]);
    expect(await found({ until: ago(45), since: ago(60) })).toEqual([2]);
    expect(await found({ until: ago(100) })).toEqual([1]);
    await expect(found({ consumer: "nobody" })).rejects.toMatchObject({
      code: "EV400",
      message: /no consumer named/,
    });
    await expect(found({ outcome: "lost" })).rejects.toMatchObject({ code: "EV400" });
  });

  test("that run are listed first, and refusals separately", async () => {
    await insertRequests([{ no: 1, minutesAgo: 5 }]);
    const { request_no } = await reserve("gemma-4-31b-it");
    await reserve("gpt-9");
    const { requests } = await ask("eve_request_search");
    expect(requests).toMatchObject([{ request_no, state: "running" }, { request_no: 1, state: "succeeded" }]);
    const refused = await ask("eve_request_search", { outcome: "refused" });
    expect(refused.requests).toMatchObject([{
      request_no: null,
      state: "refused",
      error_code: "unknown_model",
    }]);
    expect(await ask("eve_request_detail", { request_no })).toMatchObject({
      state: "running",
      running: { attempt: 1, state: "reserved" },
      tries: [],
    });
  });

  test("and refusals are one list, each once, in the order of their ends, however small its pages", async () => {
    // Every third minute a refusal, some of them of later attempts, which are told with their request.
    await insertRequests(
      Array.from({ length: 20 }, (_, n) => n).filter((n) => n % 3 !== 0).map((n) => ({
        no: 100 + n,
        minutesAgo: n,
      })),
    );
    await sql`
      insert into eve.refusals (id, refused_at, request_id, attempt, class, endpoint, model, code, tokens)
      select 500 - n, now() - n * interval '1 minute', 'f' || n, case n when 9 then 2 else 1 end, 'batch', 'native',
        'gemma-4-31b-it', 'rate_limited', 1
      from generate_series(0, 19, 3) n`;
    for (const at_most of [1, 2, 7, 50]) {
      const seen: string[] = [];
      let before: string | null = null;
      let pages = 0;
      do {
        const page: { requests: { request_id: string }[]; next_before: string | null } = await ask(
          "eve_request_log",
          {
            at_most,
            ...(before !== null && { before }),
          },
        );
        seen.push(...page.requests.map((row) => row.request_id));
        before = page.next_before;
        pages += 1;
      } while (before !== null && pages < 100);
      expect(seen, `pages of ${at_most}`).toEqual(
        Array.from({ length: 20 }, (_, n) => n).filter((n) => n !== 9).map((n) =>
          n % 3 === 0 ? `f${n}` : `r${100 + n}`
        ),
      );
    }
    const refused = await ask("eve_request_log", { error_code: "rate_limited", at_most: 50 });
    expect(refused.requests).toHaveLength(6);
  });

  test("that were cancelled before their start have waited until then, not until it", async () => {
    await freezeClock(sql, Date.now());
    try {
      const grants = [];
      for (let call = 0; call < 6; call += 1) {
        grants.push(await reserve("gemini-3.5-flash", { max_wait_ms: 100_000 }));
      }
      const last = grants.at(-1)!;
      expect(last.wait_ms).toBeGreaterThan(20_000);
      const listed = async () =>
        (await ask("eve_request_log")).requests.find(
          ({ request_no }: { request_no: number }) => request_no === last.request_no,
        );
      expect(await listed()).toMatchObject({ state: "running", wait_ms: 0 });
      await sql`update public.test_clock set ms = ms + 352`;
      await ask("eve_settle", {
        request_no: last.request_no,
        attempt: 1,
        outcome: "cancelled",
        dispatched: false,
      });
      expect(await listed()).toMatchObject({ state: "cancelled", wait_ms: 352, duration_ms: 352 });
      const { tries } = await ask("eve_request_detail", { request_no: last.request_no });
      expect(tries).toMatchObject([{ wait_ms: 352 }]);
      await ask("eve_rollup");
      const usage = await ask("eve_usage", { by: ["model"] });
      expect(usage.totals).toMatchObject({ requests: 1, cancelled: 1, wait_ms: 352 });
    } finally {
      await moveClock(sql, 0);
    }
  });

  test("say whose fault each attempt was", async () => {
    const id = crypto.randomUUID();
    const first = await reserve("gemma-4-31b-it", { request_id: id });
    await ask("eve_settle", {
      request_no: first.request_no,
      attempt: 1,
      outcome: "failed",
      final: false,
      error_code: "key_rejected",
      upstream_status: 400,
    });
    await reserve("gemma-4-31b-it", { request_id: id, attempt: 2 });
    await ask("eve_settle", {
      request_no: first.request_no,
      attempt: 2,
      outcome: "succeeded",
      input_tokens: 90,
    });
    await ask("eve_capture", { request_no: first.request_no, prompt: { contents: "hello" } });
    expect(await ask("eve_request_detail", { request_id: id })).toMatchObject({
      state: "succeeded",
      attempts: 2,
      tries: [
        { attempt: 1, outcome: "failed", fault: "key", upstream_status: 400 },
        { attempt: 2, outcome: "succeeded", fault: null, input_tokens: 90 },
      ],
      capture: { prompt: { contents: "hello" } },
    });
  });

  test("with an id that two consumers used are kept apart", async () => {
    await insertRequests([{ no: 1, minutesAgo: 5, id: "same" }, {
      no: 2,
      minutesAgo: 4,
      id: "same",
      consumer: OTHER,
    }]);
    await expect(ask("eve_request_detail", { request_id: "same" })).rejects.toMatchObject({
      code: "EV400",
      message: expect.stringContaining("2, 1"),
    });
    expect(await ask("eve_request_detail", { request_id: "same", consumer: "other" })).toMatchObject({
      request_no: 2,
    });
    await expect(ask("eve_request_detail", { request_no: 99 })).rejects.toMatchObject({ code: "EV400" });
  });
});

describe("the tail", () => {
  test("misses nothing that ends out of the order of its number", async () => {
    await insertRequests([{ no: 1_000, minutesAgo: 1 }]);
    const first = await ask("eve_tail");
    expect(first.events).toMatchObject([{ request_no: 1_000 }]);
    expect((await ask("eve_tail", { after: first.cursor })).events).toEqual([]);
    // A connection that had its numbers in hand for a while.
    await insertRequests([{ no: 7, minutesAgo: -0.01 }]);
    await reserve("gpt-9");
    const next = await ask("eve_tail", { after: first.cursor });
    expect(next.events.map((row: { request_no: number; state: string }) => [row.request_no, row.state]))
      .toEqual(
        expect.arrayContaining([[7, "succeeded"], [null, "refused"]]),
      );
  });

  test("goes on where a full page ended", async () => {
    const start = await ask("eve_tail");
    await insertRequests(
      Array.from({ length: 30 }, (_, place) => ({ no: place + 1, minutesAgo: -(place + 1) / 10 })),
    );
    const seen = new Set<number>();
    let cursor = start.cursor;
    for (let page = 0; page < 10; page += 1) {
      const answer = await ask("eve_tail", { after: cursor, at_most: 10 });
      for (const row of answer.events) seen.add(row.request_no);
      cursor = answer.cursor;
    }
    expect(seen.size).toBe(30);
  });
});

describe("usage", () => {
  test("is summed as it is asked for, and complete at once", async () => {
    await insertRequests([
      { no: 1, minutesAgo: 1 },
      { no: 2, minutesAgo: 1, consumer: OTHER, state: "failed" },
      { no: 3, minutesAgo: 1, consumer: OTHER },
    ]);
    await sql`update eve.rollup_progress set rolled_until = null`;
    expect(await ask("eve_rollup")).toMatchObject({ status: "succeeded" });
    const usage = await ask("eve_usage", { by: ["consumer"] });
    expect(usage.rows).toMatchObject([
      { consumer: "other", requests: 2, succeeded: 1, failed: 1 },
      { consumer: "project", requests: 1 },
    ]);
    expect(usage.totals).toMatchObject({ requests: 3 });
    expect((await ask("eve_usage", { by: ["day", "model"], consumer: "other" })).rows).toMatchObject([
      { model: "gemma-4-31b-it", requests: 2 },
    ]);
    await expect(ask("eve_usage", { by: ["weekday"] })).rejects.toMatchObject({ code: "EV400" });
  });

  test("of days whose hours are gone is reported once", async () => {
    await sql`
      insert into eve.usage_days (day, model, endpoint, requests)
      values ('2025-01-10', 'm', 'native', 10), ('2025-01-11', 'm', 'native', 20), ('2025-01-12', 'm', 'native', 40)
    `;
    // Retention took the hours before noon of the 11th.
    await sql`
      insert into eve.usage_hours (hour, model, endpoint, requests)
      values ('2025-01-11 21:00Z', 'm', 'native', 8), ('2025-01-12 10:00Z', 'm', 'native', 40)
    `;
    await sql`update eve.rollup_progress set hours_frozen_before = '2025-01-11 20:00Z'`;
    const usage = await ask("eve_usage", {
      by: ["day"],
      since: new Date("2025-01-01"),
      until: new Date("2025-02-01"),
    });
    expect(usage.rows.map((row: { day: string; requests: number }) => [row.day, row.requests])).toEqual([
      ["2025-01-10", 10],
      ["2025-01-11", 20],
      ["2025-01-12", 40],
    ]);
    await sql`update eve.rollup_progress set hours_frozen_before = null`;
  });
});

describe("what sums by the hour do not know", () => {
  test("percentiles, errors by code and stages are those of the requests of the time, and of their consumer", async () => {
    await sql`
      insert into eve.requests (
        request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, error_code, attempts, dispatched,
        wait_ms, latency_ms, input_tokens, output_tokens, thoughts_tokens, received_at, finished_at
      )
      select n, case n % 2 when 0 then ${OTHER}::uuid else ${PROJECT}::uuid end, 'r' || n, 'interactive', 'native',
        case n % 4 when 0 then 'stage:POEM' end, 'gemma-4-31b-it', case n % 10 when 0 then 'failed' else 'succeeded' end,
        case n % 10 when 0 then 'upstream_error' end, 1, true, n, 2 * n, 10, 3, 2, at - interval '1 second', at
      from generate_series(1, 1100) n
      -- The last hundred came before the time.
      cross join lateral (
        select eve.clock() - case when n > 1000 then interval '4 hours' else interval '1 minute' end as at
      ) ended`;
    await sql`
      insert into eve.refusals (refused_at, request_id, attempt, consumer_id, class, endpoint, model, code, tokens)
      values (eve.clock(), 'f1', 1, ${OTHER}, 'interactive', 'native', 'stage:POEM', 'rate_limited', 1),
        -- Another attempt of a request that is in the list itself.
        (eve.clock(), 'f2', 2, ${OTHER}, 'interactive', 'native', 'stage:POEM', 'rate_limited', 1)`;
    const since = new Date((await ask("eve_now")).now);
    since.setHours(since.getHours() - 2);
    const all = await ask("eve_usage_parts", { since });
    const succeeded = Array.from({ length: 1000 }, (_, at) => at + 1).filter((n) => n % 10 !== 0);
    expect(all).toMatchObject({
      is_sample: false,
      wait_ms: { p50: 500, p95: 950, p99: 990 },
      latency_ms: { p50: 2 * succeeded[449]!, p95: 2 * succeeded[854]!, p99: 2 * succeeded[890]! },
      errors: [{ code: "upstream_error", times: 100 }, { code: "rate_limited", times: 1 }],
      stages: [
        { stage: "POEM", model: "gemma-4-31b-it", requests: 250, failed: 50, refused: 0, input_tokens: 2500 },
        { stage: "POEM", model: "stage:POEM", requests: 0, refused: 1 },
      ],
    });
    expect(all.stages[0]).toMatchObject({ thoughts_tokens: 500, dispatched: 250, latency_ms: 2 * 125_500 });
    const others = await ask("eve_usage_parts", { since, consumer: "other" });
    expect(others).toMatchObject({ errors: [{ times: 100 }, { times: 1 }], wait_ms: { p50: 500 } });
    const until = new Date(since.getTime() + 1);
    expect(await ask("eve_usage_parts", { since, until })).toMatchObject({
      wait_ms: { p50: null },
      errors: [],
      stages: [],
    });
    await expect(ask("eve_usage_parts", { since, until: since })).rejects.toMatchObject({ code: "EV400" });
  });
});

describe("changes", () => {
  test("of limits are made all together or not at all", async () => {
    const changes = [{ model: "gemini-2.5-flash", rpm: 77 }, { model: "no-such-model", rpm: 1 }];
    await expect(ask("eve_limits_set", { changes })).rejects.toMatchObject({
      code: "EV400",
    });
    const { models } = await ask("eve_limits");
    expect(models.find((row: { model: string }) => row.model === "gemini-2.5-flash")).toMatchObject({
      rpm: 5,
    });
    for (
      const wrong of [{ model: "gemini-2.5-flash", rpm: -1 }, { model: "gemini-2.5-flash", tpm: 3e9 }, {
        rpm: 1,
      }]
    ) {
      await expect(ask("eve_limits_set", { changes: [wrong] })).rejects.toMatchObject({
        code: "EV400",
      });
    }
    await expect(ask("eve_limits_set", { changes: [changes[0]!], quota_project: "three" })).rejects
      .toMatchObject({
        message: expect.stringContaining("there are one, two"),
      });
  });

  test("of a new model set its shares along with its limits", async () => {
    await ask("eve_limits_set", {
      changes: [{ model: "gemma-new", rpm: 12, rpd: 500, batch_floor: 0.25, interactive_floor: 2 }],
      add_models: true,
    });
    const { models } = await ask("eve_limits");
    expect(models.find((row: { model: string }) => row.model === "gemma-new")).toMatchObject({
      rpm: 12,
      tpm: null,
      rpd: 500,
      shares: { batch_floor: 0.25, interactive_floor: 2 },
    });
    await sql`delete from public.google_ai_model_limits where model = 'gemma-new'`;
  });

  test("of an alert: closed twice is closed once", async () => {
    await sql`insert into eve.alerts (kind, subject, severity, message) values ('key_disabled', 'x', 'critical', 'Key x')`;
    const { alerts } = await ask("eve_alert_list");
    expect(alerts).toMatchObject([{
      kind: "key_disabled",
      title: expect.any(String),
      advice: expect.any(String),
    }]);
    // The first who looks after it stays, and it stays open.
    for (const actor of ["ann@example.com", "bob@example.com"]) {
      expect(await ask("eve_alert_acknowledge", { id: alerts[0].id, actor })).toMatchObject({
        acknowledged_by: "ann@example.com",
        acknowledged_at: expect.any(String),
        closed_at: null,
      });
    }
    const closed = await ask("eve_alert_close", { id: alerts[0].id });
    expect((await ask("eve_alert_close", { id: alerts[0].id })).closed_at).toBe(closed.closed_at);
    expect((await ask("eve_alert_list")).alerts).toEqual([]);
    expect(await ask("eve_alert_detail", { id: alerts[0].id })).toMatchObject({ deliveries: [] });
  });
});

test("reading works where nothing can be written, as on a read replica", async () => {
  await insertRequests([{ no: 1, minutesAgo: 1 }]);
  await sql.begin("read only", async (transaction) => {
    for (
      const call of [
        "eve_now()",
        "eve_lane_states()",
        "eve_key_states()",
        "eve_request_search()",
        "eve_request_detail(1)",
        "eve_tail()",
        "eve_usage()",
        "eve_alert_list()",
        "eve_limits()",
        "eve_doctor()",
      ]
    ) expect((await transaction.unsafe(`select public.${call} as answer`))[0]!.answer, call).not.toBeNull();
  });
});

test("no look reads more than a bounded piece of a large audit, and none reads it from end to end", async () => {
  await sql`
    insert into eve.requests (
      request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at,
      finished_at, metadata
    )
    select g, ${PROJECT}, 'r' || g, 'batch', 'native', 'm', 'm', 'succeeded', 1, 0, now() - (150000 - g) * interval '1 second',
      now() - (150000 - g) * interval '1 second', '{}'
    from generate_series(1, 150000) g
  `;
  await sql`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, tokens)
    select now() - (20000 - g) * interval '7 seconds', ${PROJECT}, 'r' || g, 1, 'batch', 'native', 'm', 'rate_limited', 10
    from generate_series(1, 20000) g
  `;
  // A vacuum that comes by while rows are added leaves figures of an empty table; those here are true.
  await sql`analyze eve.requests, eve.refusals`;
  /** Each with the most rows of the audit that it may fetch. */
  const looks: [string, number][] = [
    ["eve_request_search()", 200],
    ["eve_request_search(request_id => 'r70000')", 200],
    ["eve_request_search(until => now() - interval '1 day')", 10_000],
    ["eve_request_search(error_code => 'rare')", 200_100],
    ["eve_request_search(outcome => 'refused')", 200],
    ["eve_request_detail(100000)", 2_000],
    ["eve_tail()", 4_000],
    ["eve_tail(jsonb_build_object('request_no', 150000, 'refusal_no', 20000, 'at', now()))", 21_000],
    ["eve_key_states()", 0],
    ["eve_usage()", 0],
  ];
  for (const [call, most] of looks) {
    await sql.begin(async (transaction) => {
      const counts = async () => {
        const [row] = await transaction<{ seq_scans: number; rows: number }[]>`
          select sum(t.seq_scan)::integer as seq_scans, sum(t.idx_tup_fetch + t.seq_tup_read)::integer as rows
          from pg_stat_xact_user_tables t
          where t.schemaname = 'eve' and t.relname ~ '^(requests|earlier_attempts|refusals)'
        `;
        return row!;
      };
      const before = await counts();
      await transaction.unsafe(`select public.${call}`);
      const after = await counts();
      expect(after.seq_scans - before.seq_scans, call).toBe(0);
      expect(after.rows - before.rows, call).toBeLessThanOrEqual(most);
    });
  }
  const rare = await ask("eve_request_search", { error_code: "rare" });
  expect(rare).toEqual({ requests: [], next_before: 50_001 });
});
