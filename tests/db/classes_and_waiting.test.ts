/** Waiting in line (G4), the person first (G5), budgets and fallback models, under a clock that stands. */
import { beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, type Answer, cancel, reserve, settle } from "../harness/admission.ts";
import { admissionDatabase } from "../harness/admission_database.ts";
import { clearJobs, jobCalls } from "../harness/jobs.ts";

const { sql, clock } = await admissionDatabase();

const rush = (count: number, options = {}, name = "r"): Promise<Answer[]> =>
  Promise.all(Array.from({ length: count }, (_, n) => reserve(sql, `${name}${n}`, options)));
const granted = (answers: Answer[]) => answers.filter((answer) => answer.status === "granted");

describe("[G4.waiting] waiting", () => {
  beforeEach(async () => {
    await addKey(sql, "a");
  });

  test("one call books a start; those who come later start later", async () => {
    await addModel(sql, "m", { rpm: 2 });
    const waits = [];
    for (let n = 0; n < 6; n++) waits.push((await reserve(sql, `r${n}`, { maxWaitMs: 200_000 })).wait_ms);
    expect(waits).toEqual([0, 0, 60_250, 60_250, 120_500, 120_500]);
  });

  test("a start beyond max_wait is refused at once, with the time from which it would be accepted", async () => {
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "r0");
    const refusal = await reserve(sql, "r1", { maxWaitMs: 30_000 });
    expect(refusal).toMatchObject({ status: "refused", code: "rate_limited", limit: "rpm" });
    expect(refusal.retry_after_ms).toBeGreaterThanOrEqual(30_250);
    await clock.advance(refusal.retry_after_ms);
    expect(await reserve(sql, "r1", { maxWaitMs: 30_000 })).toMatchObject({ status: "granted" });
  });

  test("nobody overtakes: a small call does not slip in before a large one that waits", async () => {
    await addModel(sql, "m", { rpm: 100, tpm: 1000 });
    await reserve(sql, "first", { tokens: 600 });
    expect(await reserve(sql, "large", { tokens: 900, maxWaitMs: 100_000 })).toMatchObject({
      wait_ms: 60_250,
    });
    expect(await reserve(sql, "small", { tokens: 10, maxWaitMs: 100_000 })).toMatchObject({
      wait_ms: 60_250,
    });
    expect(await reserve(sql, "now", { tokens: 10 })).toMatchObject({ status: "refused", limit: "queue" });
  });

  test("nobody overtakes a line because there is room again", async () => {
    // At the beginning of a span of two to the sixteenth milliseconds, so that the line's start is in the same one.
    await clock.set(Math.ceil(clock.nowMs() / 65_536) * 65_536);
    await addModel(sql, "m", { rpm: 2 });
    const first = await reserve(sql, "first");
    const second = await reserve(sql, "second");
    expect(await reserve(sql, "waits", { maxWaitMs: 100_000 })).toMatchObject({ wait_ms: 60_250 });
    await cancel(sql, first);
    await cancel(sql, second);
    expect(await reserve(sql, "later", { maxWaitMs: 100_000 })).toMatchObject({ wait_ms: 60_250 });
    expect(await reserve(sql, "now")).toMatchObject({ status: "refused" });
  });

  test("a cancelled place in the middle of the line is left empty; those behind keep the time that they were given", async () => {
    await addModel(sql, "m", { rpm: 1 });
    const answers = [];
    for (let n = 0; n < 4; n++) answers.push(await reserve(sql, `r${n}`, { maxWaitMs: 300_000 }));
    await cancel(sql, answers[2]);
    expect(await reserve(sql, "next", { maxWaitMs: 300_000 })).toMatchObject({ wait_ms: 241_000 });
  });
});

describe("[G5.person-first] the person goes first", () => {
  const patient = { maxWaitMs: 3_600_000, leaseMs: 3_600_000 };
  /** Batch calls of a notebook that waits for each: some start at once, the others are told when to ask again. */
  const notebook = async (count: number, options = {}): Promise<Answer[]> => {
    const answers = [];
    for (let n = 0; n < count; n++) {
      answers.push(await reserve(sql, `batch${n}`, { class: "batch", ...patient, ...options }));
    }
    return answers;
  };
  /** Plays batch as a gateway does: each asks again at its time. Answers the starts until then, in milliseconds from now. */
  const play = async (
    waiting: { name: string; answer: Answer }[],
    ms: number,
  ): Promise<[string, number][]> => {
    const began = clock.nowMs();
    const starts: [string, number][] = [];
    const line = waiting.filter(({ answer }) => answer.status === "waiting");
    for (;;) {
      line.sort((a, b) => Date.parse(a.answer.ask_at) - Date.parse(b.answer.ask_at));
      const next = line[0];
      if (next === undefined || Date.parse(next.answer.ask_at) > began + ms) break;
      await clock.set(Date.parse(next.answer.ask_at));
      next.answer = await reserve(sql, next.name, {
        class: "batch",
        ...patient,
        requestNo: next.answer.request_no,
      });
      if (next.answer.status === "waiting") continue;
      starts.push([next.name, clock.nowMs() - began]);
      line.shift();
    }
    await clock.set(began + ms);
    return starts;
  };
  const named = (answers: Answer[]) => answers.map((answer, n) => ({ name: `batch${n}`, answer }));

  test("batch alone uses the whole minute, the first quarter as it comes and the rest one by one", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30, batchFloor: 0.1 });
    const answers = await notebook(60);
    expect(answers.map((answer) => answer.status)).toEqual([
      ...Array(8).fill("granted"),
      ...Array(52).fill("waiting"),
    ]);
    const starts = await play(named(answers), 60_000);
    expect(starts.map(([name]) => name)).toEqual(Array.from({ length: 22 }, (_, n) => `batch${8 + n}`));
    for (const [n, [, at]] of starts.entries()) {
      if (n > 0) expect(at - starts[n - 1]![1]).toBeGreaterThan(1_900);
    }
  });

  test.each([[1, 30], [2, 30], [5, 5]])(
    "with %i projects of %i starts a minute full of batch a person waits for the next place at most",
    async (projects, rpm) => {
      for (let n = 0; n < projects; n++) await addKey(sql, `k${n}`, { project: `p${n}` });
      await addModel(sql, "m", { rpm, batchFloor: 0.1 });
      const line = named(await notebook(6 * projects * rpm));
      await play(line, 120_000);
      for (let minute = 0; minute < 3; minute++) {
        const person = await reserve(sql, `person${minute}`, { maxWaitMs: 60_000 });
        expect(person.status).toBe("granted");
        expect(person.wait_ms).toBeLessThanOrEqual(Math.ceil(60_500 / (rpm * projects)));
        await play(line, 17_000);
      }
    },
  );

  test.each([[1, 30], [2, 30], [5, 5]])(
    "with %i projects of %i starts a minute a person who begins together with batch finds a place all through the first minute",
    async (projects, rpm) => {
      for (let n = 0; n < projects; n++) await addKey(sql, `k${n}`, { project: `p${n}` });
      await addModel(sql, "m", { rpm, batchFloor: 0.1 });
      const line = named(await notebook(3 * projects * rpm));
      const interval = 60_000 / (projects * rpm);
      for (let call = 0; call * 2 * interval < 90_000; call++) {
        const person = await reserve(sql, `person${call}`, { maxWaitMs: 60_000 });
        expect(person.status).toBe("granted");
        expect(person.wait_ms, `call ${call}`).toBeLessThanOrEqual(2 * interval);
        await play(line, 2 * interval);
      }
    },
  );

  test("batch is one line for all projects, and a caller who may not use some of them delays nobody there", async () => {
    const keys = [await addKey(sql, "a", { project: "p0" }), await addKey(sql, "b", { project: "p1" })];
    await addModel(sql, "m", { rpm: 4, batchFloor: 0.1 });
    for (let n = 0; n < 8; n++) await reserve(sql, `person${n}`);
    const first = await reserve(sql, "first", { class: "batch", ...patient });
    const second = await reserve(sql, "second", { class: "batch", ...patient });
    expect([first.status, second.status]).toEqual(["waiting", "waiting"]);
    expect(second.wait_ms).toBeGreaterThan(first.wait_ms);
    const picky = await reserve(sql, "picky", { class: "batch", ...patient, excludeKeys: [keys[0]!] });
    expect(picky.wait_ms).toBeGreaterThan(second.wait_ms);
    const starts = await play([{ name: "first", answer: first }, { name: "second", answer: second }, {
      name: "picky",
      answer: picky,
    }], 120_000);
    expect(starts.map(([name]) => name)).toEqual(["first", "second", "picky"]);
  });

  test("batch whose place a person took gets a later time, and keeps its place in the queue", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 4, batchFloor: 0.1 });
    const line = named(await notebook(12));
    await play(line, 70_000);
    const [next, behind] = line.filter(({ answer }) => answer.status === "waiting");
    const askAt = Date.parse(next!.answer.ask_at);
    const person = await reserve(sql, "person", { maxWaitMs: 60_000 });
    expect(Date.parse(person.start_at)).toBeLessThanOrEqual(askAt);
    await clock.set(askAt);
    next!.answer = await reserve(sql, next!.name, {
      class: "batch",
      maxWaitMs: 60_000,
      requestNo: next!.answer.request_no,
    });
    expect(next!.answer.status).toBe("waiting");
    const starts = await play(line, 60_000);
    expect(starts.slice(0, 2).map(([name]) => name)).toEqual([next!.name, behind!.name]);
  });

  test("interactive callers leave the floor to batch that waits, and the rest is theirs", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 10, batchFloor: 0.2 });
    const line = named(await notebook(30));
    let served = 0;
    for (let second = 0; second < 300; second++) {
      const person = await reserve(sql, `person${second}`, patient);
      expect(person.status).toBe("granted");
      served += (await play(line, 1_000)).length;
    }
    // Five minutes of persons who ask for six times what there is: batch has its two of ten in each.
    const started = await sql`
      select class, count(*)::int as n from eve.inflight
      where state = 'reserved' and start_ms <= ${clock.nowMs()} and start_ms > ${
      clock.nowMs() - 240_000
    } group by class`;
    const of = Object.fromEntries(started.map((row) => [row.class, row.n]));
    expect(served).toBeGreaterThanOrEqual(8);
    expect(of.batch).toBeGreaterThanOrEqual(7);
    expect(of.interactive).toBeGreaterThanOrEqual(30);
  });

  test("[edge.silent-batch] who waits and does not ask is not waited for", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2, batchFloor: 0.1 });
    const line = named(await notebook(6)).filter(({ answer }) => answer.status === "waiting");
    const [gone, next] = line;
    await clock.set(Date.parse(gone!.answer.ask_at) + 1_501);
    const options = { class: "batch" as const, maxWaitMs: 600_000 };
    expect(await reserve(sql, next!.name, { ...options, requestNo: next!.answer.request_no })).toMatchObject({
      status: "granted",
    });
    // A minute later the sweep takes it out of the books; then its request may come again.
    await clock.advance(60_000);
    await sql`select public.eve_sweep()`;
    expect(await sql`select count(*)::int as n from eve.inflight where request_id = ${gone!.name}`).toEqual([{
      n: 0,
    }]);
  });

  test.each([[30, 400, 620], [120, 190, 210], [2, 1_490, 1_510]])(
    "[edge.silent-batch] at %i starts a minute it is waited for after %i ms, not after %i, and has the next start when it asks",
    async (rpm, waitedMs, passedMs) => {
      await addKey(sql, "a");
      await addModel(sql, "m", { rpm, batchFloor: 0.1 });
      const line = named(await notebook(rpm + 2)).filter(({ answer }) => answer.status === "waiting");
      const [late, next] = line;
      const options = { class: "batch" as const, maxWaitMs: 600_000 };
      const ask = ({ name, answer }: (typeof line)[number]) =>
        reserve(sql, name, { ...options, requestNo: answer.request_no });
      await clock.set(Date.parse(late!.answer.ask_at) + waitedMs);
      const held = await ask(next!);
      expect(held.status).toBe("waiting");
      await clock.advance(passedMs - waitedMs);
      expect(await ask(next!)).toMatchObject({ status: "granted" });
      await clock.advance(120_000 / rpm);
      expect(await ask(late!)).toMatchObject({ status: "granted" });
    },
  );

  test.each([["a dead worker's jobs", true], ["callers of whom nothing is known", false]])(
    "[edge.silent-batch] calls that %s left in the queue: of jobs all are passed over when the first of them is late",
    async (_, areJobs) => {
      await addKey(sql, "a");
      await addModel(sql, "m", { rpm: 30, batchFloor: 0.1 });
      await clearJobs(sql);
      const calls = jobCalls(sql);
      const jobs = (await calls.submit([{}, {}, {}, {}])).jobs.map(({ id }: { id: string }) =>
        id
      ) as string[];
      const [dead, living] = [crypto.randomUUID(), crypto.randomUUID()];
      await sql`
        update eve.jobs set worker_id = case when id = ${jobs[
        3
      ]!} then ${living}::uuid else ${dead}::uuid end,
          state = 'running', lease_token = gen_random_uuid(), lease_until = eve.clock() + interval '30 seconds'`;
      // A second run of a job has a number.
      const names = areJobs ? [`${jobs[0]}.2`, ...jobs.slice(1)] : ["w", "x", "y", "z"];
      await notebook(30);
      await sql`delete from eve.inflight where state = 'waiting'`;
      const options = { class: "batch" as const, maxWaitMs: 600_000 };
      const line: Answer[] = [];
      for (const name of names) line.push(await reserve(sql, name, options));
      expect(line.map(({ status }) => status)).toEqual(["waiting", "waiting", "waiting", "waiting"]);
      const [first, , , next] = line;
      const ask = () => reserve(sql, names[3]!, { ...options, requestNo: next!.request_no });
      // Awake in time to see it.
      const behindMs = Date.parse(next!.ask_at) - Date.parse(first!.ask_at);
      expect(behindMs).toBeLessThan(areJobs ? 510 : 1_000);
      await clock.set(Date.parse(first!.ask_at) + 400);
      expect((await ask()).status).toBe("waiting");
      // A quarter of a start interval, when the first is late and the others are not yet.
      await clock.set(Date.parse(first!.ask_at) + 510);
      expect((await ask()).status).toBe(areJobs ? "granted" : "waiting");
      await clearJobs(sql);
    },
  );

  test("a wait that is given up costs nothing", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1 });
    await reserve(sql, "first", { class: "batch" });
    const waiting = await reserve(sql, "waits", { class: "batch", maxWaitMs: 100_000 });
    expect(waiting.status).toBe("waiting");
    expect(await cancel(sql, waiting)).toEqual({ status: "settled" });
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 1 }]);
  });

  test.each([
    ["is given up", (waiting: Answer) => cancel(sql, waiting)],
    ["does not ask again", async () => {
      await clock.advance(200_000);
      await sql`select public.eve_sweep()`;
    }],
  ])("a second attempt that waits and %s ends its request as the first attempt ended", async (_, leave) => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1 });
    const options = { class: "batch" as const, maxWaitMs: 100_000 };
    const first = await reserve(sql, "r", options);
    await settle(sql, first, { outcome: "failed", final: false, errorCode: "upstream_unavailable" });
    const waiting = await reserve(sql, "r", { ...options, attempt: 2 });
    expect(waiting).toMatchObject({ status: "waiting", attempt: 2 });
    await leave(waiting);
    // As the gateway says it, whichever comes first.
    expect(await settle(sql, first, { outcome: "failed", errorCode: "upstream_unavailable" })).toMatchObject({
      status: "already_settled",
    });
    expect(await sql`select state, error_code, attempts::int from eve.requests`).toEqual([
      { state: "failed", error_code: "upstream_unavailable", attempts: 1 },
    ]);
    expect(await sql`select from eve.inflight`).toHaveLength(0);
  });

  test("[edge.late-start] a start that its caller comes too late for is given back and booked again", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2 });
    await reserve(sql, "first");
    const late = await reserve(sql, "late");
    await clock.advance(5_000);
    const again = await reserve(sql, "late", { maxWaitMs: 60_000, requestNo: late.request_no });
    expect(again).toMatchObject({ status: "granted", request_no: late.request_no, wait_ms: 0 });
    expect(Date.parse(again.start_at)).toBe(clock.nowMs());
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 2 }]);
  });

  test("a late start is booked again as it was, however scarce tokens are", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30, tpm: 1_000 });
    const late = await reserve(sql, "late", { tokens: 300, counted: false });
    await reserve(sql, "other", { tokens: 500, counted: true });
    for (let n = 0; n < 3; n++) {
      await clock.advance(400);
      const again = await reserve(sql, "late", {
        tokens: 700,
        counted: false,
        maxWaitMs: 60_000,
        requestNo: late.request_no,
      });
      expect(again).toMatchObject({ status: "granted", wait_ms: 0, tokens: late.tokens });
    }
    expect(await sql`select sum(starts)::int as starts, sum(tokens)::int as tokens from eve.lane_buckets`)
      .toEqual([
        { starts: 2, tokens: 500 + late.tokens },
      ]);
    expect(await sql`select day_starts, span_starts::int + previous_span_starts::int as spans from eve.lanes`)
      .toEqual([{ day_starts: 2, spans: 2 }]);
  });

  test("batch that comes too late for its start is booked again before all that wait, and costs the others no turn", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30 });
    const line = named(await notebook(40));
    await play(line, 20_000);
    const next = line.find(({ answer }) => answer.status === "waiting")!;
    const options = { class: "batch" as const, ...patient };
    while (next.answer.status === "waiting") {
      await clock.set(Date.parse(next.answer.ask_at));
      next.answer = await reserve(sql, next.name, { ...options, requestNo: next.answer.request_no });
    }
    const [before] = await sql`select max(pace_ms) as pace from eve.lanes`;
    await clock.advance(400);
    next.answer = await reserve(sql, next.name, { ...options, requestNo: next.answer.request_no });
    expect(next.answer).toMatchObject({ status: "granted", wait_ms: 0 });
    expect(await sql`select max(pace_ms) as pace from eve.lanes`).toEqual([before]);
  });

  test("a reserve that the owner sets stays unused by batch", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 30, reserve: 0.2 });
    const line = named(await notebook(60));
    await play(line, 60_000);
    expect(
      await sql`select sum(starts)::int as n from eve.lane_buckets where at_ms > ${clock.nowMs() - 60_250}`,
    )
      .toEqual([{ n: 24 }]);
    expect(granted(await rush(6, {}, "person"))).toHaveLength(6);
  });

  test("a batch that would eat the whole day leaves the bot its tenth", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 600, rpd: 100, reserveDay: 0.1 });
    expect(granted(await rush(150, { class: "batch" }, "notebook"))).toHaveLength(90);
    expect(await reserve(sql, "late", { class: "batch" })).toMatchObject({ code: "daily_limit" });
    expect(granted(await rush(20, {}, "bot"))).toHaveLength(10);
  });

  test("on a lane of one start a minute batch is not locked out", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1, floor: 1, reserve: 0.2 });
    expect(await reserve(sql, "r", { class: "batch" })).toMatchObject({ status: "granted" });
  });
});

describe("[G2.budgets] budgets", () => {
  let consumer: string;
  const token = async (
    budget: { requests?: number; tokens?: number; class?: string; expires?: string; models?: string[] },
  ) => {
    const [row] = await sql`
      insert into eve.scoped_tokens (consumer_id, class, models, requests_budget, tokens_budget, expires_at)
      values (${consumer}, ${budget.class ?? "interactive"}, ${budget.models ?? null}, ${
      budget.requests ?? null
    },
        ${budget.tokens ?? null}, ${budget.expires ?? "2027-01-01T00:00:00Z"}) returning id`;
    return { consumerId: consumer, tokenId: row!.id as string };
  };
  beforeEach(async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 1000 });
    const [row] =
      await sql`insert into eve.consumers (name, kind) values ('notebook', 'notebook') returning id`;
    consumer = row!.id;
  });

  test("a token's requests raced by fifty callers: exactly the budget passes", async () => {
    const scope = await token({ requests: 17 });
    const answers = await rush(50, scope);
    expect(granted(answers)).toHaveLength(17);
    expect(answers.find((answer) => answer.status === "refused")).toMatchObject({
      code: "budget_exhausted",
      limit: "token_requests",
      retry_after_ms: null,
    });
    expect(await sql`select sum(starts)::int as n from eve.lane_buckets`).toEqual([{ n: 17 }]);
  });

  test("a token's tokens follow what was really used", async () => {
    const scope = await token({ tokens: 1000 });
    const first = await reserve(sql, "r1", { ...scope, tokens: 800, maxOutput: 100 });
    expect(await reserve(sql, "r2", { ...scope, tokens: 300 })).toMatchObject({
      code: "budget_exhausted",
      limit: "token_tokens",
    });
    await settle(sql, first, { inputTokens: 500, outputTokens: 100 });
    expect(await reserve(sql, "r3", { ...scope, tokens: 300 })).toMatchObject({
      status: "granted",
      max_output_tokens: 100,
    });
    expect(await reserve(sql, "r4", { ...scope, tokens: 1 })).toMatchObject({ code: "budget_exhausted" });
  });

  test("a refused lane spends no budget", async () => {
    await sql`update public.google_ai_model_limits set rpm = 1`;
    const scope = await token({ requests: 5 });
    await rush(10, scope);
    expect(await sql`select requests_used from eve.scoped_tokens`).toEqual([{ requests_used: 1 }]);
  });

  test("[security.booking] a cancelled request gives its tokens back; a token keeps the request that it booked and gave up", async () => {
    await sql`update eve.consumers set requests_per_day = 3 where id = ${consumer}`;
    const scope = await token({ requests: 2, tokens: 100 });
    await cancel(sql, await reserve(sql, "r1", { ...scope, tokens: 90 }));
    expect(await sql`select requests_used, tokens_used::int from eve.scoped_tokens`).toEqual([
      { requests_used: 1, tokens_used: 0 },
    ]);
    expect(await sql`select requests, tokens::int from eve.consumer_days`).toEqual([{
      requests: 0,
      tokens: 0,
    }]);
    await cancel(sql, await reserve(sql, "r2", { ...scope, tokens: 90 }));
    expect(await reserve(sql, "r3", { ...scope, tokens: 90 })).toMatchObject({ limit: "token_requests" });
  });

  test("what failed before it was sent, and batch that leaves the line, cost a token no request", async () => {
    await sql`update public.google_ai_model_limits set rpm = 1`;
    const scope = await token({ requests: 1 });
    const unsent = await reserve(sql, "r1", scope);
    await settle(sql, unsent, { outcome: "failed", dispatched: false });
    await reserve(sql, "full", {});
    const waiting = await reserve(sql, "r2", { ...scope, class: "batch", maxWaitMs: 100_000 });
    expect(waiting.status).toBe("waiting");
    await cancel(sql, waiting);
    expect(await sql`select requests_used from eve.scoped_tokens`).toEqual([{ requests_used: 0 }]);
  });

  test("a consumer's day is a Pacific day", async () => {
    await sql`update eve.consumers set requests_per_day = 2 where id = ${consumer}`;
    const answers = await rush(4, { consumerId: consumer });
    expect(granted(answers)).toHaveLength(2);
    const refusal = answers.find((answer) => answer.status === "refused");
    expect(refusal).toMatchObject({ code: "budget_exhausted", limit: "consumer_requests" });
    expect(refusal.retry_after_ms).toBeGreaterThanOrEqual(20 * 3_600_000);
    await clock.set("2026-11-19T08:00:01Z");
    expect(await reserve(sql, "next", { consumerId: consumer })).toMatchObject({ status: "granted" });
  });

  test("revoked, expired and disabled are refused by the very next reservation", async () => {
    const scope = await token({});
    expect(await reserve(sql, "r1", scope)).toMatchObject({ status: "granted" });
    await sql`update eve.scoped_tokens set revoked_at = now() where id = ${scope.tokenId}`;
    expect(await reserve(sql, "r2", scope)).toMatchObject({ code: "token_revoked" });
    const expired = await token({ expires: "2026-11-18T11:59:59Z" });
    expect(await reserve(sql, "r3", expired)).toMatchObject({ code: "token_revoked" });
    await sql`update eve.consumers set is_active = false where id = ${consumer}`;
    expect(await reserve(sql, "r4", { consumerId: consumer })).toMatchObject({ code: "consumer_disabled" });
  });

  test("scope narrows models, and class goes down, never up", async () => {
    await addModel(sql, "other", { rpm: 1000 });
    await sql`update eve.consumers set models = array['m', 'other'] where id = ${consumer}`;
    const scope = await token({ models: ["m"], class: "batch" });
    expect(await reserve(sql, "r1", { ...scope, models: ["other"] })).toMatchObject({
      code: "model_not_allowed",
    });
    expect(await reserve(sql, "r2", { ...scope, class: "interactive" })).toMatchObject({
      status: "granted",
      class: "batch",
    });
  });
});

describe("fallback models", () => {
  test("the first that can start in time is booked, and the answer says which", async () => {
    await addKey(sql, "a");
    await addModel(sql, "first", { rpm: 1 });
    await addModel(sql, "second", { rpm: 1 });
    const models = ["first", "second"];
    expect(await reserve(sql, "r1", { models })).toMatchObject({ model: "first" });
    expect(await reserve(sql, "r2", { models })).toMatchObject({ model: "second" });
    expect(await reserve(sql, "r3", { models })).toMatchObject({ status: "refused", code: "rate_limited" });
    expect(await reserve(sql, "r4", { models, maxWaitMs: 100_000 })).toMatchObject({
      model: "first",
      wait_ms: 60_250,
    });
  });

  test("a misspelt name is refused, not skipped", async () => {
    await addKey(sql, "a");
    await addModel(sql, "second", { rpm: 1 });
    expect(await reserve(sql, "r", { models: ["frist", "second"] })).toMatchObject({
      code: "unknown_model",
      model: "frist",
    });
  });
});
