/** What Usage tells: the same as the audit counted in the plainest way, of any time, whatever it is read from, and what it cost. */
import type postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, clearLedger, freezeClock, reserve, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { FIGURES, forgetSums, numbers } from "../maintenance/sums.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Noon in Los Angeles on the day before its clocks go back: 25 hours of the next day are within a test. */
const START = Date.parse("2026-10-31T19:00:00Z");
type Row = Record<string, number | string | boolean | null>;
interface Answer {
  since: string;
  until: string | null;
  complete_until: string;
  rows: Row[];
  rows_of: number;
  others: Row | null;
  others_of: number;
  totals: Row;
  unpriced: string[];
}

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await forgetSums(sql);
  await empty(sql, "eve.model_prices");
  await sql`update eve.operations set run_id = null, lease_until = null`;
  clock = await freezeClock(sql, START + 4 * DAY);
});

async function usage(asked: Record<string, unknown>): Promise<Answer> {
  const {
    by = ["day"],
    since = null,
    until = null,
    at_most = 10_000,
    top = null,
    consumer = null,
    model = null,
  } = asked as Record<string, string[] & string & number>;
  const [row] = await sql`
    select public.eve_usage(
      ${by}::text[], ${since}, ${until}, at_most => ${at_most}, top => ${top}, consumer => ${consumer}, model => ${model}
    ) as answer`;
  return row!.answer;
}
async function parts(since: Date, until: Date | null = null, consumer: string | null = null) {
  const [row] = await sql`select public.eve_usage_parts(${since}, ${until}, ${consumer}) as answer`;
  return row!.answer;
}
async function rollUp(): Promise<void> {
  await clock.advance(1);
  expect((await sql`select public.eve_rollup(600000) as run`)[0]!.run.status).toBe("succeeded");
}

const MODELS = Array.from({ length: 20 }, (_, n) => `m${n}`);
const modelOf = (n: number) => MODELS[Math.floor(20 * ((n * 0.618) % 1) ** 2)]!;

/** Requests of all ends and their attempts, some of them several, refusals of first and later attempts, over so many hours from START. */
async function fill(count: number, hours: number): Promise<void> {
  const random = numbers(count);
  const consumers = [null, ...await addConsumers(30)];
  const keys = (await sql`select id from public.google_ai_api_keys order by key_alias`).map(({ id }) => id);
  const at = () => START + Math.floor(random() * hours * HOUR);
  const pick = <One>(of: readonly One[]) => of[Math.floor(random() * of.length)]!;
  const requests = [];
  const earlier = [];
  const refusals = [];
  for (let n = 1; n <= count; n++) {
    const received = at();
    const start = received + Math.floor(random() * 60_000);
    const tries = 1 + Math.floor(random() * 1.3);
    const call = {
      request_no: n,
      consumer_id: pick(consumers) ?? "00000000-0000-0000-0000-000000000000",
      request_id: `r${n}`,
      class: "batch",
      endpoint: pick(["native", "openai", "gemini"]),
      requested_model: random() < 0.2 ? `stage:${pick(["POEM", "SONG"])}` : null,
      model: modelOf(n),
      key_id: pick(keys),
      state: pick(["succeeded", "succeeded", "failed", "cancelled", "expired"]),
      attempts: tries,
      wait_ms: Math.floor(random() * 5_000),
      received_at: new Date(received),
      finished_at: new Date(start + 2_000),
      start_ms: start,
      bucket_after_ms: 0,
      lane_id: 1,
      tokens_booked: 10,
      dispatched: random() < 0.9,
      usage_estimated: false,
      upstream_status: random() < 0.1 ? 429 : 200,
      latency_ms: Math.floor(random() * 3_000),
      input_tokens: Math.floor(random() * 1_000),
      output_tokens: Math.floor(random() * 100),
      thoughts_tokens: Math.floor(random() * 100),
      cached_tokens: Math.floor(random() * 200),
      total_tokens: 0,
      error_code: null as string | null,
    };
    if (call.state === "failed") call.error_code = pick(["upstream_timeout", "content_blocked"]);
    requests.push(call);
    if (tries > 1) {
      earlier.push({
        request_no: n,
        attempt: 1,
        settled_at: new Date(start - 100),
        start_ms: received,
        lane_id: 1,
        tokens_booked: 10,
        bucket_after_ms: 0,
        dispatched: true,
        key_id: pick(keys),
        model: pick(MODELS),
        class: "batch",
        outcome: "failed",
        input_tokens: 7,
        output_tokens: 1,
        latency_ms: 5,
      });
    }
    if (n % 5 === 0) {
      refusals.push({
        refused_at: new Date(at()),
        consumer_id: pick(consumers),
        request_id: `refused-${n}`,
        attempt: pick([1, 1, 2, 3]),
        class: "batch",
        endpoint: "native",
        model: pick([...MODELS, "stage:POEM", "nobody-has-it"]),
        code: pick(["rate_limited", "daily_limit"]),
        tokens: 1,
      });
    }
  }
  await sql`insert into eve.requests ${sql(requests)}`;
  await sql`insert into eve.earlier_attempts ${sql(earlier)}`;
  await sql`insert into eve.refusals ${sql(refusals)}`;
  // Of a flood, beyond the rate that is kept.
  await sql`
    insert into eve.refusal_counts (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
    select ${new Date(
    START,
  )}::timestamptz + n * interval '97 minutes', ${consumers[1]!}, 'rate_limited', 'rpm',
      case n % 3 when 0 then 'stage:SONG' when 1 then 'm1' else '(unknown)' end, 'batch', 'native', n % 2 = 0, 100 + n
    from generate_series(0, ${Math.floor(hours * 60 / 97)}::integer) n`;
}

async function addConsumers(count: number): Promise<string[]> {
  const rows = await sql`
    insert into eve.consumers (name, kind) select 'bot-' || lpad(n::text, 2, '0'), 'service' from generate_series(1, ${count}::integer) n
    returning id`;
  return rows.map(({ id }) => id);
}

async function addModels(): Promise<void> {
  for (const model of [...MODELS, "stage:POEM", "stage:SONG"]) await addModel(sql, model);
  await addKey(sql, "one", { project: "p" });
  await addKey(sql, "two", { project: "q" });
}

/** From the audit, by the names of `by` that are not of a time. */
async function counted(
  since: string,
  until: string | null,
  by: string,
): Promise<Map<string, Record<string, number>>> {
  const rows = await sql.unsafe(`
    with everything as (
      select r.received_at as at, r.consumer_id, r.model, r.key_id, r.endpoint as endpoint, 1 as requests, (r.state = 'succeeded')::int as succeeded,
        (r.state = 'failed')::int as failed, (r.state = 'cancelled')::int as cancelled, (r.state = 'expired')::int as expired,
        0::bigint as refused, 0 as attempts, 0 as dispatched, 0 as upstream_refused, 0 as input_tokens, 0 as output_tokens,
        0 as thoughts_tokens, 0 as cached_tokens, r.wait_ms, 0 as latency_ms
      from eve.requests r
      union all
      select f.refused_at, coalesce(f.consumer_id, '00000000-0000-0000-0000-000000000000'),
        coalesce((select m.model from public.google_ai_model_limits m where m.model = f.model), '(unknown)'), null, f.endpoint,
        0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
      from eve.refusals f
      where f.attempt <= 1
      union all
      select c.minute, c.consumer_id, c.model, null, c.endpoint, 0, 0, 0, 0, 0, c.times, 0, 0, 0, 0, 0, 0, 0, 0, 0
      from eve.refusal_counts c
      where c.is_first
      union all
      select to_timestamp(a.start_ms / 1000.0), r.consumer_id, a.model, a.key_id, r.endpoint, 0, 0, 0, 0, 0, 0, 1, a.dispatched::int,
        coalesce((a.upstream_status = 429)::int, 0), coalesce(a.input_tokens, 0), coalesce(a.output_tokens, 0),
        coalesce(a.thoughts_tokens, 0), coalesce(a.cached_tokens, 0), 0, coalesce(a.latency_ms, 0)
      from eve.attempts a join eve.requests r using (request_no)
    )
    select coalesce((${by})::text, '') as name, ${
    FIGURES.map((name) => `sum(e.${name})::integer as ${name}`).join(", ")
  }
    from everything e
    left join eve.consumers c on c.id = e.consumer_id
    left join public.google_ai_api_keys k on k.id = e.key_id
    where e.at >= '${since}'::timestamptz and e.at < ${
    until === null ? "'infinity'" : `'${until}'`
  }::timestamptz
    group by 1`);
  return new Map(rows.map(({ name, ...figures }) => [name, figures as Record<string, number>]));
}

const BY: [string, string][] = [
  ["day", "(e.at at time zone 'America/Los_Angeles')::date"],
  ["hour", "date_trunc('hour', e.at, 'UTC')"],
  ["consumer", "coalesce(c.name, e.consumer_id::text)"],
  ["model", "e.model"],
  ["key", "coalesce(k.key_alias, e.key_id::text)"],
  ["endpoint", "e.endpoint"],
];
const figuresOf = (row: Row) => Object.fromEntries(FIGURES.map((name) => [name, row[name]]));
const sumOf = (rows: Iterable<Record<string, number>>) => {
  const sums: Record<string, number> = Object.fromEntries(FIGURES.map((name) => [name, 0]));
  for (const row of rows) for (const name of FIGURES) sums[name]! += row[name]!;
  return sums;
};

/** All groupings of a time are those of the audit. */
async function expectExact(since: string | null, until: string | null): Promise<void> {
  for (const [by, expression] of BY) {
    const answer = await usage({ by: [by], since, until });
    const name = (row: Row) => {
      const value = row[by] ?? "";
      return by === "hour" ? new Date(value as string).toISOString() : String(value);
    };
    const expected = await counted(answer.since, answer.until, expression);
    const named = by === "hour"
      ? new Map([...expected].map(([at, row]) => [new Date(at).toISOString(), row]))
      : expected;
    const title = `${by} ${since} ${until}`;
    expect(new Map(answer.rows.map((row) => [name(row), figuresOf(row)])), title).toEqual(named);
    expect(figuresOf(answer.totals), title).toEqual(sumOf(expected.values()));
    expect(answer.rows_of, title).toBe(answer.rows.length);
  }
}

describe("sums of usage", () => {
  test("of any time are those of the audit, whole days and their edges, over a day of 25 hours", async () => {
    await addModels();
    await fill(1_500, 84);
    await rollUp();
    await expectExact(new Date(START - DAY).toISOString(), null);
    const random = numbers(3);
    for (let round = 0; round < 12; round++) {
      const from = START + Math.floor(random() * 80) * HOUR / 2;
      const until = from + Math.ceil(random() * 60) * HOUR / 2;
      await expectExact(new Date(from).toISOString(), new Date(until).toISOString());
    }
    // Midnights of Los Angeles, before and after its clocks go back.
    await expectExact("2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z");
    await expectExact("2026-11-01T07:00:00Z", "2026-11-02T07:00:00Z");
    await expectExact("2026-11-02T08:00:00Z", null);
  });

  test("are read from days, and from the hours of those that have changed since", async () => {
    await sql`
      insert into eve.usage_days (day, model, endpoint, requests)
      values ('2026-11-01', 'm', 'native', 10), ('2026-11-02', 'm', 'native', 20), ('2026-11-03', 'm', 'native', 40)`;
    await sql`
      insert into eve.usage_hours (hour, model, endpoint, requests)
      values ('2026-10-31 20:00Z', 'm', 'native', 1), ('2026-11-01 20:00Z', 'm', 'native', 2), ('2026-11-02 20:00Z', 'm', 'native', 4),
        ('2026-11-03 20:00Z', 'm', 'native', 8)`;
    const since = "2026-10-31T20:00:00Z";
    const days = async (until: string | null = null) =>
      (await usage({ by: ["day"], since, until })).rows.map(({ day, requests }) => [day, requests]);
    expect(await days()).toEqual([["2026-10-31", 1], ["2026-11-01", 10], ["2026-11-02", 20], [
      "2026-11-03",
      40,
    ]]);
    expect(await days("2026-11-03T21:00:00Z")).toEqual([
      ["2026-10-31", 1],
      ["2026-11-01", 10],
      ["2026-11-02", 20],
      ["2026-11-03", 8],
    ]);
    await sql`insert into eve.rollup_due (unit, at) values ('day', '2026-11-02 08:00Z')`;
    expect(await days()).toEqual([["2026-10-31", 1], ["2026-11-01", 10], ["2026-11-02", 4], [
      "2026-11-03",
      40,
    ]]);
    expect((await usage({ by: ["model"], since })).totals.requests).toBe(55);
  });

  test("say what they cover: whole hours, whole days where hours are gone, and up to when all is in them", async () => {
    await sql`
      insert into eve.usage_days (day, model, endpoint, requests)
      values ('2026-11-01', 'm', 'native', 10), ('2026-11-02', 'm', 'native', 20)`;
    await sql`insert into eve.usage_hours (hour, model, endpoint, requests) values ('2026-11-02 20:00Z', 'm', 'native', 4)`;
    const asked = { since: "2026-11-01T15:20:00Z", until: "2026-11-02T20:40:00Z" };
    const spanOf = async (by: string) => {
      const { since, until, totals, complete_until } = await usage({ by: [by], ...asked });
      return [
        new Date(since).toISOString(),
        until && new Date(until).toISOString(),
        totals.requests,
        complete_until,
      ];
    };
    expect(await spanOf("model")).toEqual(["2026-11-01T15:00:00.000Z", "2026-11-02T21:00:00.000Z", 4, null]);
    await sql`
      update eve.rollup_progress
      set hours_frozen_before = '2026-11-02 18:00Z', rolled_until = '2026-11-02 20:41Z'`;
    const complete = "2026-11-02T20:41:00+00:00";
    expect(await spanOf("model")).toEqual([
      "2026-11-01T07:00:00.000Z",
      "2026-11-03T08:00:00.000Z",
      30,
      complete,
    ]);
    expect(await spanOf("hour")).toEqual([
      "2026-11-02T18:00:00.000Z",
      "2026-11-02T21:00:00.000Z",
      4,
      complete,
    ]);
    // What is asked for beside them is of the same time.
    const beside = await parts(new Date(asked.since), new Date(asked.until));
    expect([new Date(beside.since), new Date(beside.until)]).toEqual([
      new Date("2026-11-01T07:00:00Z"),
      new Date("2026-11-03T08:00:00Z"),
    ]);
    await expect(usage({ since: asked.until, until: asked.since })).rejects.toMatchObject({ code: "EV400" });
  });

  test("of the largest and of all others together are those of all, however many there are", async () => {
    await sql`
      insert into eve.consumers (name, kind) select 'bot-' || n, 'service' from generate_series(1, 800) n`;
    // 16,000 rows by consumer and model: more than are listed.
    await sql`
      insert into eve.usage_days (day, consumer_id, model, endpoint, requests, refused, input_tokens)
      select '2026-11-02', c.id, 'm' || m, 'native', case when c.name = 'bot-800' then 0 else n end, case when c.name = 'bot-800' then 99 else 0 end, 1000
      from (select c.*, substr(c.name, 5)::integer as n from eve.consumers c where c.name like 'bot-%') c
      cross join generate_series(1, 20) m`;
    await sql`insert into eve.model_prices (model, input_usd, output_usd, as_of) values ('m1', 1000, 1, '2026-11-01')`;
    const since = "2026-11-01T07:00:00Z";
    const all = await usage({ by: ["consumer", "model"], since });
    expect([all.rows.length, all.rows_of, all.others]).toEqual([10_000, 16_000, null]);
    const top = await usage({ by: ["consumer"], since, top: 10 });
    expect(top.rows.map(({ consumer }) => consumer)).toEqual(
      Array.from({ length: 10 }, (_, n) => `bot-${799 - n}`),
    );
    expect([top.others_of, top.rows_of]).toEqual([790, 10]);
    expect(top.totals).toEqual(all.totals);
    for (const figure of [...FIGURES, "paid_usd"]) {
      const named = top.rows.reduce((sum, row) => sum + Number(row[figure]), 0);
      expect(named + Number(top.others![figure]), figure).toBeCloseTo(Number(top.totals[figure]), 6);
    }
    expect(top.others).toMatchObject({ refused: 1_980, paid_usd: 790, paid_unknown: true });
    expect(top.unpriced).toHaveLength(19);
    // By two names: of the largest of the first all of the second.
    const two = await usage({ by: ["consumer", "model"], since, top: 2 });
    expect([two.rows.length, two.others_of, two.others!.requests]).toEqual([
      40,
      798,
      20 * 797 * 798 / 2,
    ]);
    for (
      const wrong of [{ by: ["consumer"], top: 0 }, { by: ["consumer"], top: 101 }, { by: ["day"], top: 3 }]
    ) {
      await expect(usage({ since, ...wrong })).rejects.toMatchObject({ code: "EV400" });
    }
  });

  test("twenty models are ten and the others, and each of its twenty is listed by consumer", async () => {
    await addModels();
    await fill(1_000, 60);
    await rollUp();
    const since = new Date(START).toISOString();
    const expected = await counted(since, null, "e.model");
    const { rows, others, others_of } = await usage({ by: ["model"], since, top: 10 });
    const size = ({ requests, refused }: Record<string, number>) => requests! + refused!;
    const largest = [...expected.values()].toSorted((one, other) => size(other) - size(one));
    expect(rows.map((row) => size(row as Record<string, number>))).toEqual(largest.slice(0, 10).map(size));
    for (const row of rows) expect(figuresOf(row)).toEqual(expected.get(row.model as string));
    expect(others_of).toBe(expected.size - 10);
    const named = new Set(rows.map(({ model }) => model));
    expect(figuresOf(others!)).toEqual(
      sumOf([...expected].filter(([model]) => !named.has(model)).map(([, row]) => row)),
    );
    const ofOne = await usage({ by: ["model"], since, consumer: "bot-01" });
    const plain = await counted(since, null, "c.name || ' ' || e.model");
    expect(new Map(ofOne.rows.map((row) => [`bot-01 ${row.model}`, figuresOf(row)]))).toEqual(
      new Map([...plain].filter(([name]) => name.startsWith("bot-01 "))),
    );
  });
});

test("errors by code, percentiles and stages are those of the audit of that time", async () => {
  await addModels();
  await fill(1_500, 84);
  await rollUp();
  for (const [from, hours] of [[0, 200], [20, 30], [13.5, 40]] as const) {
    const since = new Date(START + Math.floor(from) * HOUR);
    const until = new Date(since.getTime() + hours * HOUR);
    const answer = await parts(new Date(START + from * HOUR), until);
    const sums = await usage({ by: ["model"], since: since.toISOString(), until: until.toISOString() });
    const errors = Object.fromEntries(
      answer.errors.map(({ code, times }: { code: string; times: number }) => [code, times]),
    );
    expect(errors.upstream_timeout + errors.content_blocked).toBe(sums.totals.failed);
    expect(errors.rate_limited + errors.daily_limit).toBe(sums.totals.refused);
    const [percentiles] = await sql`
      select percentile_disc(0.5) within group (order by wait_ms)::integer as p50,
        percentile_disc(0.95) within group (order by wait_ms)::integer as p95,
        percentile_disc(0.99) within group (order by wait_ms)::integer as p99
      from eve.requests where received_at >= ${since} and received_at < ${until}`;
    expect(answer.wait_ms).toEqual({ ...percentiles });
    const [latency] = await sql`
      select percentile_disc(0.95) within group (order by latency_ms)::integer as p95
      from eve.requests where state = 'succeeded' and received_at >= ${since} and received_at < ${until}`;
    expect(answer.latency_ms.p95).toBe(latency!.p95);
    const stages = await sql`
      select 'stage:' || stage as stage, sum(requests)::integer as requests, sum(refused)::integer as refused,
        sum(input)::integer as input_tokens, sum(dispatched)::integer as dispatched
      from (
        select substr(r.requested_model, 7) as stage, (a.attempt = r.attempts)::int as requests, 0 as refused, a.input_tokens as input,
          a.dispatched::int as dispatched
        from eve.requests r join eve.attempts a using (request_no)
        where r.requested_model like 'stage:%' and r.received_at >= ${since} and r.received_at < ${until}
        union all
        select substr(f.model, 7), 0, 1, 0, 0 from eve.refusals f
        where f.model like 'stage:%' and f.attempt <= 1 and f.refused_at >= ${since} and f.refused_at < ${until}
        union all
        select substr(c.model, 7), 0, c.times, 0, 0 from eve.refusal_counts c
        where c.model like 'stage:%' and c.is_first and c.minute >= ${since} and c.minute < ${until}
      ) one
      group by 1`;
    const listed = new Map<string, Record<string, number>>();
    for (const row of answer.stages) {
      const sum = listed.get(`stage:${row.stage}`) ??
        { requests: 0, refused: 0, input_tokens: 0, dispatched: 0 };
      for (const name of Object.keys(sum)) sum[name]! += row[name];
      listed.set(`stage:${row.stage}`, sum);
    }
    expect(listed).toEqual(
      new Map(stages.map(({ stage, ...row }) => [stage, row as Record<string, number>])),
    );
  }
});

test("what was refused is one figure in the sums, the report, the doctor, the overview and the errors by code: once a request", async () => {
  await addModel(sql, "zero", { rpm: 0 });
  await addKey(sql, "one", { project: "p" });
  const [{ id: bot }] = await addConsumers(1).then((ids) => ids.map((id) => ({ id }))) as [{ id: string }];
  const RATE = 30;
  const refuse = async (times: number, attempt: number) => {
    for (let n = 0; n < times; n++) {
      const answer = await reserve(sql, `r-${attempt}-${n}`, { models: ["zero"], consumerId: bot, attempt });
      expect(answer.status).toBe("refused");
    }
  };
  // Of each as many with rows of their own as are only counted.
  const FIRST = 2 * RATE;
  await refuse(FIRST, 1);
  await sql`
    insert into eve.refusals (refused_at, consumer_id, request_id, attempt, class, endpoint, model, code, tokens)
    select eve.clock(), ${bot}, 'later-' || n, 2, 'batch', 'native', 'zero', 'rate_limited', 1 from generate_series(1, 7) n`;
  await sql`
    insert into eve.refusal_counts (minute, consumer_id, code, limit_name, model, class, endpoint, is_first, times)
    values (date_trunc('minute', eve.clock()), ${bot}, 'rate_limited', '', 'zero', 'batch', 'native', false, 11)`;
  expect(await sql`select from eve.refusals where attempt = 1`).toHaveLength(RATE);
  await rollUp();
  const since = new Date(clock.nowMs() - HOUR);
  const [listed] = await sql`
    select public.eve_doctor() -> 'refused_last_hour' as doctor, public.eve_overview() as overview,
      eve.report_of(eve.pacific_day(eve.clock_ms())) as report`;
  const sum = (of: Record<string, unknown>) =>
    Object.values(of).reduce<number>((all, times) => all + Number(times), 0);
  const beside = await parts(since);
  expect({
    usage: (await usage({ by: ["hour"], since: since.toISOString() })).totals.refused,
    days: (await usage({ by: ["day"], since: new Date(START).toISOString() })).totals.refused,
    errors: beside.errors.reduce((all: number, { times }: { times: number }) => all + times, 0),
    doctor: sum(listed!.doctor),
    overview: listed!.overview.refused,
    overview_errors: listed!.overview.errors.reduce(
      (all: number, { times }: { times: number }) => all + times,
      0,
    ),
    report: listed!.report.total.refused,
    report_reasons: sum(listed!.report.refusals),
  }).toEqual({
    usage: FIRST,
    days: FIRST,
    errors: FIRST,
    doctor: FIRST,
    overview: FIRST,
    overview_errors: FIRST,
    report: FIRST,
    report_reasons: FIRST,
  });
});

describe("what calls cost", () => {
  const cost = async (
    tokens: Record<string, number>,
    price: Record<string, number | boolean | null> | null,
  ) => {
    await empty(sql, "eve.usage_days", "eve.model_prices");
    await sql`insert into eve.usage_days ${
      sql([{ day: "2026-11-02", model: "m", endpoint: "native", requests: 1, ...tokens }])
    }`;
    if (price) {
      await sql`insert into eve.model_prices ${sql([{ model: "m", as_of: "2026-11-01", ...price }])}`;
    }
    const { totals, unpriced } = await usage({ since: "2026-11-01T07:00:00Z" });
    const { paid_usd, free_usd, paid_unknown, free_unknown } = totals;
    return { paid_usd, free_usd, paid_unknown, free_unknown, unpriced };
  };
  const million = {
    input_tokens: 1_000_000,
    cached_tokens: 500_000,
    output_tokens: 100_000,
    thoughts_tokens: 100_000,
  };
  const price = { input_usd: 1, cached_usd: 0.1, output_usd: 10 };
  const known = { free_usd: 0, paid_unknown: false, free_unknown: false, unpriced: [] };

  test("input, what a cache had of it, the answer and the thinking", async () => {
    expect(await cost(million, price)).toEqual({ paid_usd: 2.55, ...known });
    expect(await cost(million, { ...price, cached_usd: null })).toEqual({ paid_usd: 3, ...known });
    // More from a cache than came in, as some providers count.
    expect(await cost({ input_tokens: 10, cached_tokens: 20 }, price)).toEqual({
      paid_usd: 0.000001,
      ...known,
    });
  });

  test("a free tier costs nothing, and says what it would have cost", async () => {
    expect(await cost(million, { ...price, is_free: true })).toEqual({
      ...known,
      paid_usd: 0,
      free_usd: 2.55,
    });
  });

  test("without a known price it is unknown, never nothing; of Gemma, which has none, what it would have cost", async () => {
    const unknown = { ...known, paid_unknown: true, unpriced: ["m"] };
    expect(await cost(million, null)).toEqual({ ...unknown, paid_usd: 0 });
    expect(await cost(million, { input_usd: 1, output_usd: null })).toEqual({ ...unknown, paid_usd: 1 });
    expect(await cost(million, { input_usd: null, output_usd: 10 })).toEqual({ ...unknown, paid_usd: 2 });
    expect(await cost(million, { input_usd: null, is_free: true })).toEqual({
      ...known,
      paid_usd: 0,
      free_unknown: true,
      unpriced: ["m"],
    });
    // Of what was not used no price is missing.
    expect(await cost({ input_tokens: 1_000_000 }, { input_usd: 0.15 })).toEqual({
      ...known,
      paid_usd: 0.15,
    });
    expect(await cost({}, null)).toEqual({ ...known, paid_usd: 0 });
  });

  test("of a stage is that of the models that served it", async () => {
    await sql`insert into eve.model_prices (model, input_usd, output_usd, as_of) values ('m', 2, 4, '2026-11-01')`;
    await sql`
      insert into eve.requests (
        request_no, consumer_id, request_id, class, endpoint, requested_model, model, state, attempts, wait_ms, received_at, finished_at,
        dispatched, input_tokens, output_tokens, thoughts_tokens, cached_tokens
      )
      select n, '00000000-0000-0000-0000-000000000000', 'r' || n, 'batch', 'native', 'stage:POEM', case n when 3 then 'other' else 'm' end,
        'succeeded', 1, 0, eve.clock(), eve.clock(), true, 1000000, 100000, 150000, 0
      from generate_series(1, 3) n`;
    const { stages } = await parts(new Date(clock.nowMs() - HOUR));
    expect(stages).toMatchObject([
      { model: "m", requests: 2, paid_usd: 6, free_usd: 0, paid_unknown: false, free_unknown: false },
      { model: "other", requests: 1, paid_usd: 0, paid_unknown: true },
    ]);
  });
});
