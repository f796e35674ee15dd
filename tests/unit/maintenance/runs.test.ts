import { describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../../shared/runtime/clock.ts";
import { SqlFailure } from "../../../shared/database/transport/transport.ts";
import type { KeyToCheck } from "../../../shared/database/maintenance/maintenance.ts";
import type { Operation, OperationReport } from "../../../shared/maintenance/operation.ts";
import { overKeys } from "../../../shared/maintenance/over_keys.ts";
import { runOperation } from "../../../shared/maintenance/run_operation.ts";
import { sqlOperation } from "../../../shared/maintenance/sql_operation.ts";
import { HandClock } from "../../harness/hand_clock.ts";

const DONE: OperationReport = { tables: ["eve.x"], count: 2, details: { a: 1 }, more: false };

/** A database that answers these, and what it was asked. */
function database(answers: Record<string, (() => unknown)[]>, clock: Clock = systemClock) {
  const asked: { name: string; args: Record<string, unknown> }[] = [];
  return {
    asked,
    operationDependencies: {
      call: (name: string, args: Readonly<Record<string, unknown>>) => {
        asked.push({ name, args });
        const next = answers[name]?.length === 1 ? answers[name][0] : answers[name]?.shift();
        if (next === undefined) throw new Error(`nothing to answer to ${name}`);
        return Promise.resolve().then(next);
      },
      clock,
      log: () => {},
      fetch,
      secrets: () => null,
      providers: {},
    },
  };
}
const begun = (limitMs: number, runsIn = "http") => () => ({
  status: "running",
  run_id: 7,
  runs_in: runsIn,
  ends_in_ms: limitMs,
});
const ended = () => ({ status: "succeeded" });
const run = (operation: Operation, base: ReturnType<typeof database>) =>
  runOperation(operation, { source: "test", timeLimitMs: null }, base.operationDependencies);
const operation = (work: Operation["run"]): Operation => ({ name: "it", run: work });

describe("a run", () => {
  test("ends with its report", async () => {
    const base = database({ eve_maintenance_begin: [begun(1000)], eve_maintenance_end: [ended] });
    expect(await run(operation(() => Promise.resolve(DONE)), base)).toEqual({
      status: "succeeded",
      runId: 7,
      ...DONE,
    });
    expect(base.asked.at(-1)).toMatchObject({
      name: "eve_maintenance_end",
      args: { run_id: 7, status: "succeeded", count: 2 },
    });
  });

  test("that fails says why, even when the database is away by then", async () => {
    const away = () => {
      throw new Error("connection refused");
    };
    const base = database({ eve_maintenance_begin: [begun(1000)], eve_maintenance_end: [away] });
    const outcome = await run(operation(() => Promise.reject(new TypeError("broken"))), base);
    expect(outcome).toMatchObject({
      status: "failed",
      runId: 7,
      error: { code: "internal", detail: "TypeError: broken" },
    });
    expect(base.asked.at(-1)!.args).toMatchObject({ status: "failed", error: "TypeError: broken" });
  });

  test("has a deadline that ends it", async () => {
    const clock = new HandClock();
    const base = database({ eve_maintenance_begin: [begun(40)], eve_maintenance_end: [ended] }, clock);
    const outcome = await run(
      operation(async ({ deadline }) => {
        await clock.sleep(30);
        expect([deadline.signal.aborted, deadline.leftMs()]).toEqual([false, 10]);
        clock.ring();
        expect([deadline.signal.aborted, deadline.leftMs()]).toEqual([true, 0]);
        return { ...DONE, more: true };
      }),
      base,
    );
    expect(outcome).toMatchObject({ status: "succeeded", more: true });
  });

  test("is not begun where there is no database, and that is thrown", async () => {
    const base = database({
      eve_maintenance_begin: [() => {
        throw new SqlFailure("57P03", "starting up");
      }],
    });
    await expect(run(operation(() => Promise.resolve(DONE)), base)).rejects.toMatchObject({
      code: "database_unavailable",
    });
  });
});

describe("one that is SQL", () => {
  const step = (fields: Record<string, unknown>) => () => ({
    status: "running",
    done: false,
    pause_ms: 1,
    ...fields,
  });

  test("is stepped until it is done, and closed by the database itself", async () => {
    const base = database({
      eve_maintenance_begin: [begun(1000, "sql")],
      eve_maintenance_step: [
        step({ count: 5 }),
        step({ done: true, status: "succeeded", count: 9, tables: ["t"] }),
      ],
    });
    expect(await run(sqlOperation("sweep"), base)).toMatchObject({
      status: "succeeded",
      count: 9,
      tables: ["t"],
    });
    expect(base.asked.map(({ name }) => name)).toEqual([
      "eve_maintenance_begin",
      "eve_maintenance_step",
      "eve_maintenance_step",
    ]);
  });

  test("whose time is up between two steps is ended in order", async () => {
    const base = database({
      eve_maintenance_begin: [begun(30, "sql")],
      eve_maintenance_step: [step({ count: 5, pause_ms: 20 })],
      eve_maintenance_end: [ended],
    });
    expect(await run(sqlOperation("sweep"), base)).toMatchObject({
      status: "succeeded",
      count: 5,
      more: true,
    });
    expect(base.asked.at(-1)!.args).toMatchObject({ status: "succeeded", more: true, count: 5 });
  });

  test("that has lost its place fails", async () => {
    const base = database({
      eve_maintenance_begin: [begun(1000, "sql")],
      eve_maintenance_step: [() => ({ done: true, status: "lost", pause_ms: 0 })],
      eve_maintenance_end: [() => ({ status: "lost" })],
    });
    expect(await run(sqlOperation("sweep"), base)).toMatchObject({ status: "failed" });
  });
});

describe("over keys", () => {
  const keys = Array.from({ length: 10 }, (_, n): KeyToCheck => ({
    unless: null,
    id: String(n),
    alias: `k${n}`,
    source: null,
    provider: "google",
    isActive: true,
  }));
  const until = (signal: AbortSignal) => ({ deadline: { signal, leftMs: () => 1000 } });
  const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  test("each is visited once, four at a time", async () => {
    const seen: string[] = [];
    let now = 0;
    let most = 0;
    const more = await overKeys(keys, until(new AbortController().signal), async ({ id }) => {
      most = Math.max(most, ++now);
      await sleep(5);
      now--;
      seen.push(id);
    });
    expect([more, most]).toEqual([false, 4]);
    expect(seen.sort()).toEqual(keys.map(({ id }) => id));
  });

  test("the rest is left over when time is up", async () => {
    const timeUp = new AbortController();
    const seen: string[] = [];
    const more = await overKeys(keys, until(timeUp.signal), async ({ id }, signal) => {
      seen.push(id);
      if (seen.length === 4) timeUp.abort();
      await sleep(1);
      expect(signal.aborted).toBe(true);
    });
    expect([more, seen.length]).toEqual([true, 4]);
  });

  test("an error ends it, once what was under way has ended", async () => {
    let ended = 0;
    const visiting = overKeys(keys, until(new AbortController().signal), async ({ id }) => {
      if (id === "0") throw new Error("no database");
      await sleep(5);
      ended++;
    });
    await expect(visiting).rejects.toThrow("no database");
    expect(ended).toBe(3);
  });
});
