import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { ClaimedJob, JobLeases } from "../../../shared/database/jobs/job_leases.ts";
import type { RunOutcome, RunTerms } from "../../../shared/jobs/job_runner.ts";
import {
  LEASE_MS,
  runWorker,
  type WorkerDependencies,
  type WorkerTerms,
} from "../../../shared/jobs/worker.ts";
import { StillClock } from "../gateway/gateway_fixture.ts";

const SECOND = 1_000;
const jobOf = (id: string): ClaimedJob => ({
  id,
  kind: "llm",
  class: "batch",
  request_id: id,
  models: ["m"],
  body: {},
  body_media: null,
  lease_token: `token of ${id}`,
  tries: 1,
  losses: 0,
  expires_at: "2026-11-19T12:00:00Z",
  consumer_id: null,
  consumer_name: null,
  consumer_kind: null,
  token_id: null,
  batch_id: null,
  place: null,
  custom_id: null,
  start_every_ms: null,
});

/** A worker over jobs that wait, with runs that end when the test says so. */
function work(
  waiting: string[],
  { deliver, ...terms }: Partial<WorkerTerms> & Pick<WorkerDependencies, "deliver"> = {},
  bodies: Record<string, unknown> = {},
) {
  const clock = new StillClock();
  const said: string[] = [];
  const running = new Map<
    string,
    { end: (outcome: RunOutcome) => void; fail: (thrown: unknown) => void } & RunTerms
  >();
  const lost: string[] = [];
  const leases: JobLeases = {
    begin: () => Promise.resolve(true),
    end: () => Promise.resolve(waiting.length > 0),
    claim(_worker, { atMost, leftMs }) {
      said.push(`claim ${atMost} in ${leftMs}`);
      // A run takes half a minute at most.
      const isLate = leftMs !== null && leftMs < 30 * SECOND;
      return Promise.resolve({
        jobs: isLate ? [] : waiting.splice(0, atMost).map((id) => ({ ...jobOf(id), body: bodies[id] ?? {} })),
        isLate,
      });
    },
    renew(_worker, held) {
      // It lives, and no more.
      if (held.length === 0) return Promise.resolve([]);
      said.push(
        `renew ${held.map(({ id, progress }) => id + (progress === null ? "" : ` ${progress}`)).join(", ")}`,
      );
      return Promise.resolve(lost.splice(0));
    },
    complete(done) {
      for (const { id, lease_token, result } of done) said.push(`${id} done by ${lease_token}: ${result}`);
      return Promise.resolve();
    },
    fail({ id }, { code }) {
      said.push(`${id} failed: ${code}`);
      return Promise.resolve();
    },
    release(held) {
      for (const { id, pauseMs } of held) {
        said.push(`${id} back${pauseMs === undefined ? "" : ` for ${pauseMs}`}`);
      }
      return Promise.resolve();
    },
    isDue: () => Promise.resolve(waiting.length > 0),
  };
  const ended = runWorker({
    leases,
    runners: {
      llm: ({ id }, terms) =>
        new Promise((end, fail) => {
          running.set(id, { ...terms, end, fail });
          terms.signal.addEventListener("abort", () => end({ kind: "unspent" }));
        }),
    },
    clock,
    newId: () => "worker",
    log: (level, message, facts) =>
      said.push(
        message === "job_run" ? `${level}: job_run ${JSON.stringify(facts)}` : `${level}: ${message}`,
      ),
    ...(deliver !== undefined && { deliver }),
  }, { place: "edge", budgetMs: 120 * SECOND, concurrency: 2, ...terms });
  return {
    clock,
    leases,
    said,
    lost,
    running,
    ended,
    /** What has been said since the last time. */
    async next() {
      await clock.advance(0);
      return said.splice(0);
    },
    async end(id: string, outcome: RunOutcome) {
      running.get(id)!.end(outcome);
      running.delete(id);
      await clock.advance(0);
    },
  };
}

describe("a worker", () => {
  test("runs so many side by side, and claims for each that ends, within the time that is left", async () => {
    const { clock, running, next, end } = work(["a", "b", "c"]);
    expect(await next()).toEqual(["claim 2 in 120000"]);
    expect([...running.keys()]).toEqual(["a", "b"]);
    await clock.advance(5 * SECOND);
    expect(await next()).toEqual([]);
    await end("b", { kind: "done", result: 4 });
    expect(await next()).toEqual(["b done by token of b: 4", "claim 1 in 115000"]);
    expect([...running.keys()]).toEqual(["a", "c"]);
  });

  test("notes how each run ended, and goes on after one that throws", async () => {
    const { running, next, end } = work(["a", "b", "c"], { concurrency: 3 });
    await next();
    await end("a", { kind: "failed", failure: { code: "content_blocked", message: "", retryable: false } });
    await end("b", { kind: "unspent", pauseMs: 700 });
    running.get("c")!.fail(new GatewayError("invalid_request"));
    expect((await next()).filter((line) => !line.startsWith("claim"))).toEqual([
      "a failed: content_blocked",
      "b back for 700",
      "error: job_run_failed",
      "c failed: invalid_request",
    ]);
  });

  test("says in its log how a run of a trace went, with the trace", async () => {
    const trace_id = "a".repeat(32);
    const { clock, next, end } = work(["a", "b"], {}, { a: { trace_id, post_id: "p" } });
    await next();
    await clock.advance(1_500);
    await next();
    await end("a", { kind: "done", result: 4 });
    await end("b", { kind: "done", result: 5 });
    expect((await next()).filter((line) => line.includes("job_run"))).toEqual([
      `info: job_run {"trace_id":"${trace_id}","job_id":"a","kind":"llm","outcome":"done","took_ms":1500}`,
    ]);
  });

  test("gives back what it has no files for: another worker may have them, and the job has lost no run", async () => {
    const { running, next } = work(["a"]);
    await next();
    running.get("a")!.fail(new GatewayError("storage_misconfigured"));
    expect((await next()).filter((line) => !line.startsWith("claim"))).toEqual([
      "error: job_run_failed",
      "a back",
    ]);
  });

  test("renews what it holds, with its progress, and breaks off what it has lost", async () => {
    const { clock, running, lost, next } = work(["a", "b"]);
    await next();
    running.get("b")!.progress("half");
    lost.push("a");
    await clock.advance(LEASE_MS / 3);
    expect(await next()).toEqual(["renew a, b half", "a back", "claim 1 in 110000"]);
    expect(running.get("a")!.signal.aborted).toBe(true);
    expect(running.get("b")!.signal.aborted).toBe(false);
  });

  test("ends when there has been nothing to do for a while", async () => {
    const { clock, next, ended } = work([]);
    await clock.advance(10 * SECOND);
    expect(await ended).toEqual({ status: "worked", begun: 0, more: false });
    const looks = (await next()).filter((line) => line.startsWith("claim"));
    expect(looks).toHaveLength(5);
    expect(clock.asleep).toBe(0);
  });

  test("ends with its time: what still runs is broken off and given back", async () => {
    const { clock, next, ended } = work(["a", "b", "c"]);
    await next();
    await clock.advance(120 * SECOND);
    expect(await ended).toEqual({ status: "worked", begun: 2, more: true });
    expect((await next()).filter((line) => !line.startsWith("renew"))).toEqual([
      "a back",
      "b back",
      "info: worker_ended",
    ]);
    expect(clock.asleep).toBe(0);
  });

  test("goes on with what runs when the database does not answer, and looks again", async () => {
    const { clock, leases, running, next, end } = work(["a", "b"]);
    const { claim } = leases;
    let fails = false;
    leases.claim = (...args) =>
      fails ? Promise.reject(new GatewayError("database_unavailable")) : claim(...args);
    await next();
    fails = true;
    await end("a", { kind: "done", result: 1 });
    expect(await next()).toEqual(["a done by token of a: 1", "warn: jobs_not_claimed"]);
    expect(running.get("b")!.signal.aborted).toBe(false);
    await clock.advance(3 * SECOND);
    expect(new Set(await next())).toEqual(new Set(["warn: jobs_not_claimed"]));
    fails = false;
    await clock.advance(SECOND);
    expect(await next()).toEqual(["claim 1 in 116000"]);
    await end("b", { kind: "done", result: 2 });
    expect(await next()).toContain("b done by token of b: 2");
  });

  test("ends after so many jobs, and when it is stopped", async () => {
    const few = work(["a", "b", "c"], { maxJobs: 2 });
    await few.next();
    await few.end("a", { kind: "done", result: 1 });
    await few.end("b", { kind: "done", result: 1 });
    expect(await few.ended).toMatchObject({ begun: 2, more: true });

    const stop = new AbortController();
    const stopped = work(["a"], { stop: stop.signal });
    await stopped.next();
    stop.abort();
    await stopped.clock.advance(0);
    expect(await stopped.ended).toMatchObject({ begun: 1 });
    expect(await stopped.next()).toContain("a back");
  });

  test("delivers events as often as it looks for jobs, and those of its last jobs before it ends", async () => {
    const seen: string[] = [];
    const reported: string[][] = [];
    const budgets: number[] = [];
    let fails = true;
    const { leases, next, end, ended, clock, said } = work(["a"], {
      maxJobs: 1,
      deliver({ untilMs }) {
        budgets.push(untilMs);
        if (fails) return Promise.reject(new GatewayError("database_unavailable"));
        reported.push(seen.splice(0));
        return Promise.resolve();
      },
    });
    leases.complete = (done) => {
      seen.push(...done.map(({ id }) => id));
      return Promise.resolve();
    };
    expect(await next()).toEqual(["claim 1 in 120000", "warn: events_not_delivered"]);
    fails = false;
    await clock.advance(2 * SECOND);
    expect(reported).toEqual([[], []]);
    await end("a", { kind: "done", result: 1 });
    await ended;
    expect(reported).toEqual([[], [], ["a"]]);
    expect(new Set(budgets)).toEqual(new Set([120 * SECOND]));
    expect(said.at(-1)).toBe("info: worker_ended");
    expect(clock.asleep).toBe(0);
  });

  test("hands over as soon as it begins nothing more, and lets what it has begun end", async () => {
    for (const [terms, ms] of [[{ maxJobs: 2 }, 0], [{ budgetMs: 40 * SECOND }, 11 * SECOND]] as const) {
      let handedOver = 0;
      const { clock, next, end, ended, leases } = work(["a", "b", "c"], {
        ...terms,
        concurrency: 3 - ("maxJobs" in terms ? 0 : 1),
        handOver: () => handedOver++,
      });
      const ends: string[] = [];
      leases.end = (worker) => {
        ends.push(worker);
        return Promise.resolve(true);
      };
      await next();
      await clock.advance(ms);
      if (ms > 0) await end("a", { kind: "done", result: 1 });
      expect([handedOver, ends]).toEqual([1, ["worker"]]);
      if (ms === 0) await end("a", { kind: "done", result: 1 });
      await end("b", { kind: "done", result: 1 });
      expect(await ended).toEqual({ status: "worked", begun: 2, more: false });
      expect([handedOver, ends]).toEqual([1, ["worker"]]);
    }
  });

  test("does nothing where enough of them run", async () => {
    const { leases, said } = work([]);
    leases.begin = () => Promise.resolve(false);
    said.length = 0;
    const report = await runWorker(
      { leases, runners: {}, clock: new StillClock(), newId: () => "other", log: () => {} },
      { place: "edge", budgetMs: SECOND, concurrency: 1 },
    );
    expect(report).toEqual({ status: "enough", begun: 0, more: false });
  });

  test("notes an end again when the database did not answer, and leaves it to the lease in the end", async () => {
    const { clock, leases, next, end } = work(["a"]);
    await next();
    let asked = 0;
    leases.complete = () => {
      asked++;
      return Promise.reject(new GatewayError("database_unavailable"));
    };
    await end("a", { kind: "done", result: 1 });
    await clock.advance(5 * SECOND);
    expect(asked).toBe(3);
    expect(await next()).toContain("error: job_not_noted");
  });

  test("writes down together what ends at once, and by itself what could not be written down with others", async () => {
    const { clock, leases, next, end, ended } = work(["a", "b", "c"], { concurrency: 3 });
    await next();
    const lists: string[] = [];
    const { promise: noted, resolve: note } = Promise.withResolvers<void>();
    leases.complete = (done) => {
      lists.push(done.map(({ id }) => id).join(" "));
      return lists.length === 1 ? Promise.reject(new GatewayError("database_unavailable")) : noted;
    };
    await Promise.all(["a", "b", "c"].map((id) => end(id, { kind: "done", result: 1 })));
    expect(lists).toEqual(["a b c"]);
    await clock.advance(SECOND);
    // None of them waits for another's answer.
    expect(lists).toEqual(["a b c", "a", "b", "c"]);
    note();
    await clock.advance(5 * SECOND);
    expect((await ended).begun).toBe(3);
  });
});
