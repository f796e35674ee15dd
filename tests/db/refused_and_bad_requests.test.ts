/** What never became a request: refusals are found by the id that their caller has, and requests that made no sense are counted. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  addKey,
  addModel,
  clearLedger,
  freezeClock,
  reserve,
  settle,
  type TestClock,
} from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";

let database: TestDatabase;
let sql: TestDatabase["sql"];
let clock: TestClock;
beforeAll(async () => {
  database = await cloneDatabase();
  sql = database.sql;
  clock = await freezeClock(sql);
});
afterAll(() => database?.drop());
beforeEach(async () => {
  await clearLedger(sql);
  await empty(sql, "eve.bad_requests", "eve.metric_counters");
  await addModel(sql, "m", { rpm: 1 });
  await addKey(sql, "one");
  await clock.advance(3_600_000);
});

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
const search = async (options: Record<string, string | null>): Promise<any> => {
  const [row] = await sql`
    select public.eve_request_search(
      request_id => ${options.id ?? null}, outcome => ${options.outcome ?? null}, consumer => ${
    options.consumer ?? null
  }
    ) as answer`;
  return row!.answer;
};
// deno-lint-ignore no-explicit-any -- likewise.
const detail = async (id: string, consumer: string | null = null): Promise<any> => {
  const [row] =
    await sql`select public.eve_request_detail(request_id => ${id}, consumer => ${consumer}) as answer`;
  return row!.answer;
};
const addConsumer = async (name: string) => {
  const [row] = await sql`
    insert into eve.consumers (name, kind, secret_hash) values (${name}, 'service', ${
    name.repeat(64).slice(0, 64)
  })
    returning id`;
  return row!.id as string;
};

describe("a refused request", () => {
  test("is found by its request_id, with its code, its limit and when", async () => {
    await reserve(sql, "first");
    const refused = await reserve(sql, "refused");
    expect(refused).toMatchObject({ status: "refused", code: "rate_limited", limit: "rpm" });
    const row = {
      request_no: null,
      request_id: "refused",
      state: "refused",
      consumer: "project",
      error_code: "rate_limited",
      limit: "rpm",
      at: expect.stringContaining(new Date(clock.nowMs()).toISOString().slice(0, 19)),
      retry_after_ms: refused.retry_after_ms,
    };
    expect(await detail("refused")).toMatchObject({
      ...row,
      tries: [],
      refusals: [{ attempt: 1, error_code: "rate_limited", limit: "rpm" }],
    });
    for (const outcome of [null, "refused"]) {
      expect((await search({ id: "refused", outcome })).requests).toMatchObject([row]);
    }
    expect((await search({ id: "refused", outcome: "failed" })).requests).toEqual([]);
  });

  test("that was repeated until it was admitted is that request, and has its refusals", async () => {
    await reserve(sql, "first");
    await reserve(sql, "again");
    await clock.advance(61_000);
    await settle(sql, await reserve(sql, "again"));
    expect(await detail("again")).toMatchObject({
      state: "succeeded",
      refusals: [{ error_code: "rate_limited" }],
    });
    expect((await search({ id: "again" })).requests).toMatchObject([{ state: "succeeded" }, {
      state: "refused",
    }]);
  });

  test("of several consumers under one id: each has its own, and nobody is mistaken for another", async () => {
    await reserve(sql, "first");
    for (const name of ["bot", "other"]) {
      await reserve(sql, "shared", { consumerId: await addConsumer(name) });
    }
    await expect(detail("shared")).rejects.toThrow(/several consumers.*bot, other/);
    expect(await detail("shared", "bot")).toMatchObject({ consumer: "bot", refusals: [{}] });
    await expect(detail("nobody's")).rejects.toMatchObject({ code: "EV400" });
  });

  test("is looked up by an index, however many there are", async () => {
    await sql`
      insert into eve.refusals (refused_at, request_id, attempt, class, endpoint, model, code, tokens)
      select now(), 'r' || n, 1, 'batch', 'native', 'm', 'rate_limited', 1 from generate_series(1, 20000) n`;
    const plan = await sql`explain select * from eve.refusals f where f.request_id = 'r7'`;
    expect(plan.map((line) => line["QUERY PLAN"]).join("\n")).toMatch(/refusals_\w*request_id_idx/);
  });
});

describe("requests that make no sense", () => {
  const note = (counts: { code: string; consumer_id: string | null; times: number }[]) =>
    sql`select public.eve_count_bad_requests(${sql.json(counts)})`;
  const project = "00000000-0000-0000-0000-000000000000";

  test("are counted by code, consumer and minute, and on the metrics page", async () => {
    const bot = await addConsumer("bot");
    await note([
      { code: "invalid_json", consumer_id: bot, times: 3 },
      { code: "invalid_json", consumer_id: project, times: 1 },
      { code: "not_found", consumer_id: null, times: 2 },
      // Of one who is gone.
      { code: "not_found", consumer_id: crypto.randomUUID(), times: 1 },
    ]);
    await note([{ code: "invalid_json", consumer_id: bot, times: 4 }]);
    await clock.advance(60_000);
    await note([{ code: "invalid_json", consumer_id: bot, times: 5 }]);
    expect(await sql`select code, subject, times::int from eve.bad_requests order by minute, code, subject`)
      .toEqual([
        { code: "invalid_json", subject: "bot", times: 7 },
        { code: "invalid_json", subject: "project", times: 1 },
        { code: "not_found", subject: "", times: 3 },
        { code: "invalid_json", subject: "bot", times: 5 },
      ]);
    expect(await sql`select labels ->> 'code' as code, value from eve.metric_counters order by 1`).toEqual([
      { code: "invalid_json", value: 13 },
      { code: "not_found", value: 3 },
    ]);
    const [row] = await sql`select public.eve_bad_requests(consumer => 'bot') as answer`;
    expect(row!.answer).toMatchObject([{ code: "invalid_json", consumer: "bot", times: 12 }]);
    const [all] = await sql`
      select public.eve_bad_requests(since => ${new Date(clock.nowMs()).toISOString()}) as answer`;
    expect(all!.answer).toMatchObject([{ code: "invalid_json", consumer: "bot", times: 5 }]);
  });
});
