/**
 * What became of a run under load: callers' answers, the books and the emulator's journal are laid side by side, call by call.
 * Limits, books and budgets are judged by the independent checker; what Google saw is the emulator's word.
 */
import type postgres from "postgres";
import type { SeenRequest } from "../../../local/emulator/journal.ts";
import { checkBooks, checkBudgets, checkLimits, groupBy, type LaneLimits, readGrants } from "../checker.ts";
import { idInBody } from "./call.ts";
import { type CallRecord, outcomeOf } from "./traffic.ts";

export interface Terms {
  /** The highest limits that a model's lanes had while the run lasted. */
  limitsOf: (model: string) => LaneLimits;
  /**
   * Whether a function was killed: an answer that had gone out may then have no settlement, and stands in the books as expired
   * with its estimate.
   */
  killed?: boolean;
  /** Refusals by the emulator for want of quota that the run's faults explain; 0 unless said. */
  explainedRefusals?: number;
  /** False where the database's clock was moved just now: then only the emulator can judge the minute. */
  windows?: boolean;
  /** Windows are judged from here on, in ms since 1970; the clock was moved before. */
  windowsFromMs?: number;
}

export interface Verdict {
  /** Empty: everything held. */
  violations: string[];
  figures: Figures;
}

export interface Figures {
  calls: number;
  answered: number;
  replayed: number;
  /** By error code. */
  refused: Record<string, number>;
  /** Connections that failed before or in the middle of an answer. */
  lost: number;
  left: number;
  wrong: number;
  tries: number;
  /** What upstream counted against its quota. */
  upstream: { calls: number; tokens: number; refused: number };
  /** The same in the books; `estimated` of the tokens are estimates that nothing replaced. */
  booked: { starts: number; tokens: number; estimated: number };
  /** Starts in the books that upstream never saw: the call died on its way. */
  never_arrived: number;
  /** Calls that upstream saw twice for one booking: the runtime repeated them when a connection dropped. */
  sent_twice: number;
  /** Calls that upstream saw later after their start than the guard allows for, because the machine was too busy. */
  late: number;
  /** Reservations that their lease ended, and those of them whose answer had reached its caller. */
  expired: number;
  answered_but_expired: number;
}

/** Methods that use quota. */
const CALLS = new Set(["generateContent", "streamGenerateContent"]);

interface Attempt {
  requestId: string;
  attempt: number;
  outcome: string;
  dispatched: boolean;
  errorCode: string | null;
  booked: number;
  real: number | null;
  estimated: boolean;
  startMs: number;
}

/** As `guard_ms` in eve.settings: what a call may take from its start until upstream counts it. */
const GUARD_MS = 250;

/** Judges a run that is over: nothing in flight, every lease ended. */
export async function judge(
  sql: postgres.Sql,
  emulatorUrl: string,
  records: readonly CallRecord[],
  terms: Terms,
): Promise<Verdict> {
  const violations: string[] = [];
  const say = (what: string) => violations.push(what);
  const attempts = await readAttempts(sql);
  const seen = await readSeen(emulatorUrl);
  const stats = await (await fetch(`${emulatorUrl}/__control/stats?last=0`))
    .json();

  for (const record of records) {
    for (const answer of record.tries) {
      if (answer.kind === "wrong") {
        say(`wrong: ${describe(record)}: ${answer.what}`);
      }
    }
  }

  const [open] = await sql`select count(*)::int as n from eve.inflight`;
  if (open!.n > 0) say(`open: ${open!.n} reservations are still open`);

  const grants = await readGrants(sql);
  if (terms.windows ?? true) {
    const judged = grants.filter(({ startMs }) => startMs >= (terms.windowsFromMs ?? 0));
    for (
      const { guarantee, what } of checkLimits(
        judged,
        (grant) => terms.limitsOf(grant.model),
      )
    ) {
      say(`${guarantee}: ${what}`);
    }
    for (const { guarantee, what } of await checkBooks(sql, grants)) {
      say(`${guarantee}: ${what}`);
    }
  }
  for (const { guarantee, what } of await checkBudgets(sql)) {
    say(`${guarantee}: ${what}`);
  }

  const tally = compare(attempts, seen, say);
  // A call that the runtime sent twice takes a place in upstream's minute that nobody booked, and one that comes late takes it
  // when another may have it: neither is promised (docs/guarantees.md).
  const refusedUpstream: number = stats.refused.total;
  const explained = (terms.explainedRefusals ?? 0) + tally.sentTwice +
    tally.late;
  if (refusedUpstream > explained) {
    say(
      `quota: the emulator refused ${refusedUpstream} calls, explained are ${explained}`,
    );
  }

  const expiredIds = new Set(
    attempts.filter((attempt) => attempt.outcome === "expired").map((attempt) => attempt.requestId),
  );
  const answeredButExpired = await checkAnswers(
    sql,
    records,
    expiredIds,
    terms.killed ?? false,
    say,
  );
  await checkCounters(sql, attempts, say);

  return {
    violations,
    figures: {
      ...figuresOf(records),
      upstream: {
        calls: tally.seenCalls,
        tokens: tally.seenTokens,
        refused: refusedUpstream,
      },
      booked: bookedSum(attempts),
      never_arrived: tally.neverArrived,
      sent_twice: tally.sentTwice,
      late: tally.late,
      expired: attempts.filter((attempt) => attempt.outcome === "expired").length,
      answered_but_expired: answeredButExpired,
    },
  };
}

interface Tally {
  seenCalls: number;
  seenTokens: number;
  neverArrived: number;
  sentTwice: number;
  late: number;
}

/** Every call that upstream counted has its booking, and every real number of tokens is the one that upstream counted. */
function compare(
  attempts: Attempt[],
  seen: Map<string, SeenRequest[]>,
  say: (what: string) => void,
): Tally {
  const tally: Tally = {
    seenCalls: 0,
    seenTokens: 0,
    neverArrived: 0,
    sentTwice: 0,
    late: 0,
  };
  const booked = groupBy(
    attempts.filter((attempt) => attempt.dispatched),
    (attempt) => attempt.requestId,
  );
  for (const [id, calls] of seen) {
    const counted = calls.filter((call) => call.used !== null);
    tally.seenCalls += counted.length;
    tally.seenTokens += counted.reduce(
      (sum, call) => sum + call.used!.tokens,
      0,
    );
    const unbooked = counted.length - (booked.get(id)?.length ?? 0);
    if (unbooked <= 0) continue;
    // A dropped connection without a status is what makes the runtime send again (docs/guarantees.md).
    const dropped = counted.filter((call) => call.status === null).length;
    if (unbooked > dropped) {
      say(
        `unbooked: ${id} was called ${counted.length} times, ${unbooked} of them unbooked`,
      );
    } else tally.sentTwice += unbooked;
  }
  for (const [id, ones] of booked) {
    const calls = seen.get(id) ?? [];
    const counted = calls.filter((call) => call.used !== null);
    tally.neverArrived += Math.max(0, ones.length - calls.length);
    const starts = ones.map((one) => one.startMs).sort((a, b) => a - b);
    const arrivals = calls.map((call) => call.at).sort((a, b) => a - b);
    tally.late += arrivals.filter((at, n) => at - (starts[n] ?? at) > GUARD_MS).length;
    const succeeded = ones.filter((one) => one.outcome === "succeeded");
    if (
      succeeded.length > counted.filter((call) => call.status === 200).length
    ) {
      say(
        `books: ${id} succeeded ${succeeded.length} times, upstream answered ${counted.length}`,
      );
    }
    for (const one of ones) {
      if (one.real === null || one.estimated) continue;
      if (!counted.some((call) => call.used!.tokens === one.real)) {
        say(
          `books: ${id}.${one.attempt} has ${one.real} tokens, upstream counted ${counted[0]?.used?.tokens}`,
        );
      }
    }
  }
  return tally;
}

/** Who got an answer finds it in the books as one. */
async function checkAnswers(
  sql: postgres.Sql,
  records: readonly CallRecord[],
  expired: ReadonlySet<string>,
  killed: boolean,
  say: (what: string) => void,
): Promise<number> {
  const rows = await sql`select request_id, state from eve.requests`;
  const states = new Map(
    rows.map((row) => [row.request_id as string, row.state as string]),
  );
  let answeredButExpired = 0;
  for (const record of records) {
    if (outcomeOf(record).kind !== "answered") continue;
    const state = states.get(record.order.id);
    if (state === "succeeded") continue;
    if (killed && expired.has(record.order.id)) answeredButExpired++;
    else {say(
        `books: ${describe(record)} was answered, and stands as ${state ?? "nothing"}`,
      );}
  }
  return answeredButExpired;
}

/** The tables that people read agree with the audit: one start each, and one row of usage at most. */
async function checkCounters(
  sql: postgres.Sql,
  attempts: Attempt[],
  say: (what: string) => void,
): Promise<void> {
  const [counters] = await sql`
    select coalesce(sum(rpm_used), 0)::int as starts from public.google_ai_usage_counters`;
  const dispatched = attempts.filter((attempt) => attempt.dispatched).length;
  if (counters!.starts !== dispatched) {
    say(
      `books: usage counters hold ${counters!.starts} starts, the audit ${dispatched}`,
    );
  }
  const [usage] = await sql`
    select count(*)::int as rows, (select count(*)::int from eve.attempts where total_tokens is not null) as attempts
    from public.token_usage`;
  if (usage!.rows !== usage!.attempts) {
    say(
      `books: token_usage has ${usage!.rows} rows, the audit ${usage!.attempts} attempts with tokens`,
    );
  }
}

async function readAttempts(sql: postgres.Sql): Promise<Attempt[]> {
  const rows = await sql`
    select r.request_id, a.attempt, a.outcome, a.dispatched, a.error_code, a.tokens_booked, a.input_tokens,
      a.usage_estimated, a.start_ms
    from eve.attempts a
    join (select request_no, request_id from eve.requests union all select request_no, request_id from eve.inflight) r
      on r.request_no = a.request_no`;
  return rows.map((row) => ({
    requestId: row.request_id,
    attempt: Number(row.attempt),
    outcome: row.outcome,
    dispatched: row.dispatched,
    errorCode: row.error_code,
    booked: Number(row.tokens_booked),
    real: row.input_tokens === null ? null : Number(row.input_tokens),
    estimated: row.usage_estimated,
    startMs: Number(row.start_ms),
  }));
}

/** What the emulator saw, by the request id in the prompt. */
async function readSeen(
  emulatorUrl: string,
): Promise<Map<string, SeenRequest[]>> {
  const requests: SeenRequest[] = await (await fetch(`${emulatorUrl}/__control/requests`)).json();
  const ours = requests.filter((request) => CALLS.has(request.method ?? ""));
  const seen = groupBy(ours, (request) => idInBody(request.body) ?? "");
  seen.delete("");
  return seen;
}

function bookedSum(attempts: Attempt[]): Figures["booked"] {
  const dispatched = attempts.filter((attempt) => attempt.dispatched);
  const sum = (ones: Attempt[]) => ones.reduce((total, one) => total + (one.real ?? one.booked), 0);
  return {
    starts: dispatched.length,
    tokens: sum(dispatched),
    estimated: sum(
      dispatched.filter((one) => one.real === null || one.estimated),
    ),
  };
}

function figuresOf(records: readonly CallRecord[]) {
  const refused: Record<string, number> = {};
  const count = {
    answered: 0,
    replayed: 0,
    lost: 0,
    left: 0,
    wrong: 0,
    tries: 0,
  };
  for (const record of records) {
    count.tries += record.tries.length;
    const last = outcomeOf(record);
    if (last.kind === "refused") {
      refused[last.code] = (refused[last.code] ?? 0) + 1;
    } else count[last.kind]++;
    if (last.kind === "answered" && last.replayed) count.replayed++;
  }
  return { calls: records.length, refused, ...count };
}

function describe({ order: { id, endpoint, stream } }: CallRecord): string {
  return `${id} (${endpoint}${stream ? ", stream" : ""})`;
}
