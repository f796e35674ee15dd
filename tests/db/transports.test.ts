/** Both ways to the database do the same: the REST API in front of a real one, and a connection to it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Api, startApi } from "../../local/api.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import { until } from "../harness/patience.ts";
import { createLedger } from "../../shared/database/admission/ledger.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import type { ReserveInput } from "../../shared/database/admission/reserve.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import type { Settlement } from "../../shared/database/admission/settle.ts";
import { SqlFailure, type Transport } from "../../shared/database/transport/transport.ts";
import { cancelled } from "../../shared/gateway/attempts/settlement.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { reserveInput } from "../harness/reserve_input.ts";

const KEYS = {
  publishable: "sb_publishable_for_tests_only",
  secret: "sb_secret_for_tests_only",
  jwtSecret: "a secret of thirty-two characters, for tests only",
};

let database: TestDatabase;
let api: Api;
const closing: (() => Promise<void>)[] = [];
const transports: Record<string, Transport> = {};

beforeAll(async () => {
  database = await cloneDatabase();
  await database
    .sql`insert into public.google_ai_api_keys (key_alias, env_var_name) values ('one', 'GOOGLE_API_KEY')`;
  api = await startApi({ databaseUrl: database.url, superuserUrl: database.superuserUrl, keys: KEYS });
  transports.rest = rpcTransport({
    url: "http://project.test",
    secretKey: KEYS.secret,
    fetch: (input, init) => Promise.resolve(api.fetch(new Request(input, init), "127.0.0.1")),
  });
  for (const [name, pooler] of [["direct", false], ["direct behind a pooler", true]] as const) {
    const { call, close } = directTransport({ url: database.url, connections: 2, pooler });
    transports[name] = call;
    closing.push(close);
  }
});
afterAll(async () => {
  await Promise.all(closing.map((close) => close()));
  await api?.close();
  await database?.drop();
});

const ask = (more: Partial<ReserveInput> = {}) =>
  reserveInput({ models: ["gemma-4-31b-it"], tokens: 120, ...more });

describe.each(["rest", "direct", "direct behind a pooler"])("over %s", (name) => {
  const forever = new AbortController().signal;
  const ledger = () => createLedger((...args) => transports[name]!(...args));

  async function granted(more: Partial<ReserveInput> = {}) {
    const reservation = await ledger().reserve(ask(more));
    if (reservation.status !== "granted") throw new Error(JSON.stringify(reservation));
    return reservation;
  }

  test("settlements share a batch, each with its own values", async () => {
    const grants = [await granted(), await granted(), await granted()];
    const books = ledger();
    const settlements = grants.map((grant, n) => ({
      ...cancelled(grant),
      outcome: "succeeded" as const,
      dispatched: true,
      inputTokens: 100 + n,
      errorDetail: `"${n}", {\\} ö`,
    }));
    expect(await Promise.all(settlements.map(books.settle))).toEqual(["settled", "settled", "settled"]);
    const numbers = grants.map(({ requestNo }) => requestNo);
    const rows = await database.sql`
      select input_tokens, error_detail, settled_at from eve.attempts
      where request_no = any (${numbers}) order by request_no`;
    expect(rows.map(({ input_tokens, error_detail }) => [input_tokens, error_detail])).toEqual(
      settlements.map(({ inputTokens, errorDetail }) => [inputTokens, errorDetail]),
    );
    // In one call: the clock was read once.
    expect(new Set(rows.map(({ settled_at }) => settled_at.getTime())).size).toBe(1);
  });

  test("a reservation comes back whole, and what was sent arrived as it is", async () => {
    const metadata = { stage: 'POEM "quoted" \\ {braces}, NULL', list: [1, null, true], empty: {} };
    await database.sql`
      insert into public.google_ai_model_limits (model, replaced_by) values ('odd,"name"', '{NULL}'), ('{NULL}', 'gemma-4-31b-it')
      on conflict do nothing`;
    const grant = await granted({ models: ['odd,"name"', "gemma-4-31b-it"], metadata, traceId: "пример" });
    expect(grant).toMatchObject({
      attempt: 1,
      requestedModel: 'odd,"name"',
      model: "gemma-4-31b-it",
      waitMs: 0,
      capture: false,
    });
    expect(grant.key).toMatchObject({
      alias: "one",
      source: { kind: "environment", name: "GOOGLE_API_KEY" },
    });
    const [row] = await database
      .sql`select metadata, trace_id from eve.inflight where request_no = ${grant.requestNo}`;
    expect(row).toEqual({ metadata, trace_id: "пример" });
    await ledger().settle(cancelled(grant));
  });

  test("a settlement is booked: figures, flags, the block and the answer to keep", async () => {
    const grant = await granted();
    const settlement: Settlement = {
      ...cancelled(grant),
      outcome: "succeeded",
      dispatched: true,
      inputTokens: 9,
      outputTokens: 3,
      usageEstimated: true,
      latencyMs: 40,
      result: { version: 1, text: 'Он сказал: "да"\n' },
    };
    expect(await ledger().settle(settlement)).toBe("settled");
    expect(await ledger().settle(settlement)).toBe("already_settled");
    const [row] = await database.sql`
      select a.input_tokens, a.usage_estimated, a.dispatched, k.result
      from eve.attempts a join eve.request_results k using (request_no) where request_no = ${grant.requestNo}`;
    expect(row).toEqual({
      input_tokens: 9,
      usage_estimated: true,
      dispatched: true,
      result: settlement.result,
    });
  });

  test("a flag that is false arrives as false", async () => {
    const grant = await granted();
    await ledger().settle({ ...cancelled(grant), outcome: "failed", final: false, dispatched: true });
    const [row] = await database.sql`select state from eve.inflight where request_no = ${grant.requestNo}`;
    expect(row).toEqual({ state: "between" });
    const again = await ledger().reserve(ask({ requestId: "other", excludeKeys: [grant.key.id] }));
    expect(again).toMatchObject({ status: "refused", code: "no_active_key" });
  });

  test("a feature that a model refused is remembered with the model", async () => {
    await database
      .sql`update public.google_ai_model_limits set supports_json = true where model = 'gemma-4-31b-it'`;
    const grant = await granted();
    await ledger().settle({
      ...cancelled(grant),
      outcome: "failed",
      dispatched: true,
      block: { scope: "capability", capability: "json", reason: "json_refused" },
    });
    const models = await ledger().models({ consumerId: null, tokenId: null });
    expect(models.find(({ model }) => model === "gemma-4-31b-it")?.capabilities).toMatchObject({
      json: false,
      tools: true,
    });
  });

  test("a capture is kept whole up to its cap, and its head beyond", async () => {
    const grant = await granted();
    const { requestNo } = grant;
    await ledger().capture({ requestNo, prompt: { text: "вопрос" }, answer: { text: "я".repeat(200_000) } });
    const read = () => database.sql`select prompt, answer from eve.captures where request_no = ${requestNo}`;
    const [row] = await read();
    expect(row?.prompt).toEqual({ text: "вопрос" });
    expect(row?.answer).toMatchObject({ truncated: true, head: expect.stringContaining("яяя") });
    expect(JSON.stringify(row?.answer).length).toBeLessThan(70_000);
    await ledger().capture({ requestNo, prompt: { text: "вопрос" }, answer: { text: "ответ" } });
    expect((await read())[0]?.answer).toEqual({ text: "ответ" });
    await expect(ledger().capture({ requestNo: 999_999, prompt: {}, answer: null })).rejects.toMatchObject({
      code: "unknown_reservation",
    });
    await ledger().settle(cancelled(grant));
  });

  test("what the database raises keeps its errcode and its words", async () => {
    const thrown = await transports[name]!(
      "eve_reserve",
      { request_id: "", models: ["m"], tokens: 1 },
      forever,
    )
      .catch((error) => error);
    expect(thrown).toBeInstanceOf(SqlFailure);
    expect(thrown).toMatchObject({ sqlstate: "EV400", message: "request_id must have 1 to 200 characters" });
    await expect(ledger().reserve(ask({ models: [] }))).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("a function that is not there is the owner's to fix", async () => {
    const thrown = await transports[name]!("eve_no_such_thing", {}, forever).catch((error) => error);
    expect(thrown).toBeInstanceOf(SqlFailure);
    expect((thrown as SqlFailure).sqlstate).toMatch(/^(42883|PGRST202)$/);
  });

  test("many at once are all answered", async () => {
    const grants = await Promise.all(Array.from({ length: 12 }, () => ledger().reserve(ask())));
    expect(grants.every(({ status }) => status !== "duplicate")).toBe(true);
    for (const grant of grants) if (grant.status === "granted") await ledger().settle(cancelled(grant));
  });
});

describe("over a connection", () => {
  const forever = new AbortController().signal;

  test("a call ends with its signal", async () => {
    await database.sql.begin(async (transaction) => {
      await transaction`lock table eve.inflight in access exclusive mode`;
      const call = transports.direct!("eve_sweep", {}, AbortSignal.timeout(200));
      await expect(call).rejects.not.toBeInstanceOf(SqlFailure);
    });
  });

  test("a caller who gives up in the queue mixes up nobody's answers", async () => {
    const { call, close } = directTransport({ url: database.url, connections: 1, pooler: false });
    // The connection stands before calls are in line at it.
    await call("eve_sweep", {}, forever);
    const leaving = new AbortController();
    let first: Promise<unknown>;
    let second: Promise<unknown>;
    let others: Promise<unknown>[];
    await database.sql.begin(async (transaction) => {
      await transaction`lock table eve.inflight in access exclusive mode`;
      first = call("eve_sweep", {}, forever);
      second = call("eve_request_search", {}, leaving.signal);
      others = Array.from({ length: 3 }, () => call("eve_sweep", {}, forever));
      await until(async () => {
        const waiting = await database.sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
        return waiting.length > 0;
      });
      leaving.abort(new Error("left"));
      await expect(second).rejects.toThrow("left");
    });
    const swept = { expired: 0 };
    expect(await Promise.all([first!, ...others!])).toEqual(Array(4).fill(expect.objectContaining(swept)));
    expect(await call("eve_sweep", {}, forever)).toMatchObject(swept);
    await close();
  });

  test("calls pass by a connection that is held up", async () => {
    const { call, close } = directTransport({ url: database.url, connections: 2, pooler: false });
    const books = createLedger(call);
    const grant = await books.reserve(ask());
    if (grant.status !== "granted") throw new Error(JSON.stringify(grant));
    let held: Promise<unknown> = Promise.resolve();
    await database.sql.begin(async (transaction) => {
      await transaction`select from eve.inflight where request_no = ${grant.requestNo} for update`;
      held = books.settle({ ...cancelled(grant), final: false, outcome: "failed", dispatched: true });
      // The settlement is in line at the first connection and waits for the row; then the connection is given up as a place
      // to stand behind, by a timer that was set before this one.
      await until(async () => {
        const waiting = await database.sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
        return waiting.length > 0;
      });
      await systemClock.sleep(80);
      const others = Array.from({ length: 5 }, () => books.reserve(ask()));
      for (const other of await Promise.all(others)) expect(other).toMatchObject({ status: "granted" });
    });
    expect(await held).toBe("settled");
    await close();
  });

  test("the functions run as the role that may execute them, and as no other", async () => {
    const [row] = await database.sql`select usename::text, application_name from pg_stat_activity
      where datname = current_database() and application_name = 'eve-gateway' limit 1`;
    expect(row).toEqual({ usename: "postgres", application_name: "eve-gateway" });
    await expect(transports.direct!("pg_sleep; drop table eve.lanes", {}, forever)).rejects.toThrow(
      "not a name",
    );
  });

  test("a caller that waits for the connection is told once it is there, until it has gone", async () => {
    const { call, ready, close } = directTransport({ url: database.url, connections: 2, pooler: false });
    const connecting = ready();
    expect(connecting).toBeInstanceOf(Promise);
    expect(ready()).toBe(connecting);
    await connecting;
    expect(ready()).toBeNull();
    const pids = await database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'eve-gateway' and query = 'select 1'`;
    expect(pids).not.toHaveLength(0);
    await until(() => Promise.resolve(ready() !== null));
    await expect(call("eve_sweep", {}, forever)).resolves.toMatchObject({ expired: 0 });
    expect(ready()).toBeNull();
    await close();
  });

  test("a database that is not there is no SqlFailure, since nobody spoke", async () => {
    const free = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const { port } = free.addr as Deno.NetAddr;
    free.close();
    const url = `postgresql://postgres:postgres@127.0.0.1:${port}/postgres`;
    const { call, close } = directTransport({ url, connections: 1, pooler: false });
    const ledger = createLedger(call);
    await expect(ledger.reserve(ask())).rejects.toMatchObject({ code: "database_unavailable" });
    await close();
  });
});
