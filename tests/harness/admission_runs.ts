/** Random runs of admission under a clock that is moved by hand, judged by the independent checker. */
import fc from "fast-check";
import type postgres from "postgres";
import {
  addKey,
  addModel,
  type Answer,
  cancel,
  clearLedger,
  reserve,
  type ReserveOptions,
  settle,
  type TestClock,
} from "./admission.ts";
import { checkBooks, checkBudgets, checkLimits, type Grant, readGrants, type Violation } from "./checker.ts";

export interface Operation {
  kind: "reserve" | "settle" | "cancel" | "settle_again" | "retry";
  /** Which of the reservations made so far, as a share of their number. */
  pick: number;
  tokens: number;
  /** Real tokens over reserved ones, in percent. */
  realPercent: number;
  batch: boolean;
  maxWaitMs: number;
  leaseMs: number;
  scoped: boolean;
  /** The longest answer that is asked for; null: the request does not say; 0: it has none. */
  maxOutput: number | null;
}

export interface Round {
  advanceMs: number;
  operations: Operation[];
}

export interface Plan {
  rpm: number | null;
  tpm: number | null;
  rpd: number | null;
  projects: number;
  keysPerProject: number;
  floor: number;
  reserve: number;
  reserveDay: number;
  batchFloor: number;
  requestsBudget: number;
  /** Of the token in its life; its consumer has half as many again each day. */
  tokensBudget: number;
  start: number;
  rounds: Round[];
}

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant("reserve" as const) },
    { weight: 3, arbitrary: fc.constant("settle" as const) },
    { weight: 1, arbitrary: fc.constant("cancel" as const) },
    { weight: 1, arbitrary: fc.constant("settle_again" as const) },
    { weight: 1, arbitrary: fc.constant("retry" as const) },
  ),
  pick: fc.double({ min: 0, max: 0.999, noNaN: true }),
  tokens: fc.integer({ min: 0, max: 400 }),
  realPercent: fc.integer({ min: 20, max: 180 }),
  batch: fc.boolean(),
  maxWaitMs: fc.constantFrom(0, 0, 5_000, 60_000, 120_000),
  leaseMs: fc.constantFrom(1_000, 30_000, 180_000),
  scoped: fc.boolean(),
  maxOutput: fc.constantFrom(null, 0, 20, 300),
});

/** Midnights in Los Angeles at both changes of the clocks, and an ordinary one. */
const STARTS = [
  "2026-03-09T06:58:00Z",
  "2026-11-02T07:58:00Z",
  "2026-11-19T07:58:00Z",
  "2026-11-18T20:00:00Z",
];

export const plan: fc.Arbitrary<Plan> = fc.record({
  rpm: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1, max: 25 }) }, {
    weight: 1,
    arbitrary: fc.constantFrom(null, 601),
  }),
  tpm: fc.option(fc.integer({ min: 400, max: 4_000 })),
  rpd: fc.option(fc.integer({ min: 3, max: 150 })),
  projects: fc.integer({ min: 1, max: 3 }),
  keysPerProject: fc.integer({ min: 1, max: 2 }),
  floor: fc.integer({ min: 0, max: 2 }),
  reserve: fc.constantFrom(0, 0.2),
  reserveDay: fc.constantFrom(0, 0.1),
  batchFloor: fc.constantFrom(0, 0.1, 0.5),
  requestsBudget: fc.integer({ min: 1, max: 12 }),
  tokensBudget: fc.integer({ min: 100, max: 4_000 }),
  start: fc.constantFrom(...STARTS.map((start) => Date.parse(start))),
  rounds: fc.array(
    fc.record({
      advanceMs: fc.oneof(
        fc.integer({ min: 0, max: 2_000 }),
        fc.integer({ min: 0, max: 70_000 }),
        fc.constantFrom(59_000, 60_000, 60_249, 60_250),
      ),
      operations: fc.array(operation, { minLength: 1, maxLength: 30 }),
    }),
    { minLength: 3, maxLength: 14 },
  ),
});

/** Many who reserve at the same moments, soon after each other and without budgets: what is reserved together. */
export const crowds: fc.Arbitrary<Plan> = plan.map((run) => ({
  ...run,
  rounds: run.rounds.map(({ advanceMs, operations }) => ({
    advanceMs: advanceMs % 20_000,
    operations: operations.map((op) => ({ ...op, scoped: false, kind: op.scoped ? op.kind : "reserve" })),
  })),
}));

/** Batch that asks again later than this may have been passed over: on the fastest models so soon. */
const LATE_MS = 200;

interface Waiting {
  name: string;
  attempt: number;
  requestNo: string;
  lane: string;
  askMs: number;
  since: number | null;
  options: ReserveOptions;
}

export interface RunOptions {
  sql: postgres.Sql;
  clock: TestClock;
  /** How a reservation is asked for; a mutation may replace it. */
  reserve?: typeof reserve;
}

/** Plays a plan, all operations of a round at once, each over a connection of its own; answers what the checker found. */
export async function play(plan: Plan, { sql, clock, ...options }: RunOptions): Promise<Violation[]> {
  const ask = options.reserve ?? reserve;
  await clearLedger(sql);
  await clock.set(plan.start);
  for (let project = 0; project < plan.projects; project++) {
    for (let key = 0; key < plan.keysPerProject; key++) {
      await addKey(sql, `p${project}k${key}`, { project: `p${project}` });
    }
  }
  await addModel(sql, "m", {
    rpm: plan.rpm,
    tpm: plan.tpm,
    rpd: plan.rpd,
    floor: plan.floor,
    reserve: plan.reserve,
    reserveDay: plan.reserveDay,
    batchFloor: plan.batchFloor,
  });
  const [consumer] = await sql`
    insert into eve.consumers (name, kind, tokens_per_day)
    values ('notebook', 'notebook', ${Math.ceil(plan.tokensBudget * 1.5)}) returning id`;
  const [token] = await sql`
    insert into eve.scoped_tokens (consumer_id, class, requests_budget, tokens_budget, expires_at)
    values (${
    consumer!.id
  }, 'interactive', ${plan.requestsBudget}, ${plan.tokensBudget}, now() + interval '10 years')
    returning id`;

  const violations: Violation[] = [];
  const granted: Answer[] = [];
  const settled = new Set<string>();
  /**
   * Whose place in the line is free again: cancelled, or ended before it began, which no caller does on purpose; and batch that asked
   * too late at its time, or went over to another lane.
   */
  const leftLine = new Set<string>();
  /** Batch that was told to ask again. */
  let line: Waiting[] = [];
  let number = 0;
  /** Latest start of each class and lane that a later caller must not overtake. */
  const starts: { lane: string; class: string; startMs: number; name: string; round: number }[] = [];

  /** @param since the round in which it came; null: not looked at for its place in the line */
  const noteAnswer = (answer: Answer, name: string, options: ReserveOptions, since: number | null) => {
    if (answer.status === "granted") {
      const { consumerId, tokenId, maxOutput } = options;
      granted.push({ ...answer, name, scope: { consumerId, tokenId, maxOutput } });
      if (since === null) return;
      starts.push({
        lane: String(answer.lane_id),
        class: answer.class,
        startMs: Date.parse(answer.start_at),
        name,
        round: since,
      });
    } else if (answer.status === "waiting") {
      line.push({
        name,
        attempt: answer.attempt,
        requestNo: answer.request_no,
        lane: String(answer.lane_id),
        askMs: Date.parse(answer.ask_at),
        since,
        options,
      });
    }
  };

  for (const [round, { advanceMs, operations }] of plan.rounds.entries()) {
    await clock.advance(advanceMs);
    const due = line.filter(({ askMs }) => askMs <= clock.nowMs());
    line = line.filter((waiting) => !due.includes(waiting));
    const again = due.map(async (waiting) => {
      const { name, attempt, requestNo, lane, askMs, since, options } = waiting;
      if (clock.nowMs() - askMs > LATE_MS) leftLine.add(name);
      try {
        const answer = await ask(sql, name, { ...options, attempt, requestNo });
        if (String(answer.lane_id) !== lane) leftLine.add(name);
        noteAnswer(answer, name, options, since);
      } catch (error) {
        // The sweep closed the request: its caller came much too late.
        if ((error as { code?: string }).code !== "EV404") throw error;
      }
    });
    await Promise.all([
      ...again,
      ...operations.map(async (op) => {
        const picked = granted[Math.floor(op.pick * granted.length)];
        const scope = op.scoped ? { consumerId: consumer!.id, tokenId: token!.id } : {};
        if (op.kind === "reserve") {
          const name = `r${number++}`;
          const options: ReserveOptions = {
            tokens: op.tokens,
            class: op.batch ? "batch" : "interactive",
            maxWaitMs: op.maxWaitMs,
            leaseMs: op.leaseMs,
            maxOutput: op.maxOutput,
            ...scope,
          };
          noteAnswer(await ask(sql, name, options), name, options, round);
          return;
        }
        if (!picked) return;
        const id = `${picked.request_no}.${picked.attempt}`;
        const early = Date.parse(picked.start_at) > clock.nowMs();
        if (!settled.has(id) && (early || op.kind === "cancel")) leftLine.add(picked.name);
        const inputTokens = Math.round(picked.tokens * op.realPercent / 100);
        if (op.kind === "cancel") {
          settled.add(id);
          await cancel(sql, picked);
        } else if (op.kind === "settle" || op.kind === "settle_again") {
          settled.add(id);
          // No longer than it may be, where a budget says so.
          const most = picked.max_output_tokens ?? (picked.scope.tokenId ? 0 : 50);
          const outputTokens = Math.floor(most * op.realPercent / 180);
          await settle(sql, picked, { inputTokens, outputTokens });
          if (op.kind === "settle_again") {
            await settle(sql, picked, { inputTokens: inputTokens + 7, outputTokens: 5 });
          }
        } else if (picked.attempt < 3 && !settled.has(id)) {
          settled.add(id);
          const { status } = await settle(sql, picked, { outcome: "failed", final: false });
          if (status !== "settled") return;
          try {
            const options: ReserveOptions = {
              tokens: picked.tokens,
              class: picked.class,
              attempt: picked.attempt + 1,
              maxWaitMs: op.maxWaitMs,
              ...picked.scope,
            };
            noteAnswer(await ask(sql, picked.name, options), picked.name, options, null);
          } catch (error) {
            // The sweep closed the request between the two calls.
            if ((error as { code?: string }).code !== "EV404") throw error;
          }
        }
      }),
    ]);
  }

  const grants = await readGrants(sql);
  violations.push(...checkLimits(grants, () => plan));
  violations.push(...await checkBooks(sql, grants));
  const reserved = new Map(
    granted.map((answer) => [
      `${answer.request_no}.${answer.attempt}`,
      answer.tokens + (answer.max_output_tokens ?? 0),
    ]),
  );
  violations.push(...await checkBudgets(sql, reserved));
  violations.push(...overtaken(starts.filter((start) => !leftLine.has(start.name))));
  violations.push(...unknownGrants(granted, grants));
  return violations;
}

/** Within a class and a lane nobody who came in a later round starts before one who came earlier. */
function overtaken(
  starts: { lane: string; class: string; startMs: number; name: string; round: number }[],
): Violation[] {
  const violations: Violation[] = [];
  for (const one of starts) {
    for (const other of starts) {
      if (
        one.lane === other.lane && one.class === other.class && one.round < other.round &&
        other.startMs < one.startMs
      ) {
        violations.push({ guarantee: "G1", what: `${other.name} overtook ${one.name}` });
      }
    }
  }
  return violations;
}

/** Every grant that a caller was told is in the audit, once. */
function unknownGrants(granted: Answer[], audit: Grant[]): Violation[] {
  const known = new Map<string, number>();
  for (const grant of audit) {
    const id = `${grant.requestNo}.${grant.attempt}`;
    known.set(id, (known.get(id) ?? 0) + 1);
  }
  return granted
    .filter((answer) => known.get(`${answer.request_no}.${answer.attempt}`) !== 1)
    .map((answer) => ({
      guarantee: "G6" as const,
      what: `reservation ${answer.request_no}.${answer.attempt} is not in the audit once`,
    }));
}
