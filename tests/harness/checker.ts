/**
 * The independent checker: reads the audit and says whether the guarantees held, over every window that begins anywhere.
 *
 * It shares nothing with the SQL that it judges: windows are found by sorting starts and looking at each of them, days by
 * Intl, and what the lane's buckets should hold is added up from the audit row by row.
 */
import type postgres from "postgres";

export interface Grant {
  requestNo: string;
  attempt: number;
  lane: string;
  model: string;
  keyId: string;
  class: "interactive" | "batch";
  startMs: number;
  bucketMs: number;
  /** Input tokens reserved. */
  booked: number;
  /** Input tokens that upstream counted; null while unknown. */
  real: number | null;
  outcome: "reserved" | "succeeded" | "failed" | "cancelled" | "expired";
  dispatched: boolean;
}

export interface LaneLimits {
  /** Starts a minute; null is unlimited. */
  rpm: number | null;
  /** Input tokens a minute. */
  tpm: number | null;
  /** Starts a day in Los Angeles. */
  rpd: number | null;
}

export interface Violation {
  guarantee: "G1" | "G2" | "G3" | "G6" | "G7";
  what: string;
}

const MINUTE_MS = 60_000;

const pacificDay = new Intl.DateTimeFormat("en-CA", {
  timeZone: "America/Los_Angeles",
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
});

/** Every reservation that the audit knows: ended ones and those still held. */
export async function readGrants(sql: postgres.Sql): Promise<Grant[]> {
  const rows = await sql`
    select a.request_no, a.attempt, a.lane_id, a.model, a.key_id, a.class, a.start_ms, a.bucket_ms, a.tokens_booked,
      a.input_tokens, a.outcome, a.dispatched
    from eve.attempts a
    union all
    select i.request_no, i.attempt, i.lane_id, i.model, i.key_id, i.class, i.start_ms, i.bucket_ms, i.tokens, null,
      'reserved', true
    from eve.inflight i
    where i.state = 'reserved'`;
  return rows.map((row) => ({
    requestNo: String(row.request_no),
    attempt: Number(row.attempt),
    lane: String(row.lane_id),
    model: row.model,
    keyId: row.key_id,
    class: row.class,
    startMs: Number(row.start_ms),
    bucketMs: Number(row.bucket_ms),
    booked: Number(row.tokens_booked),
    real: row.input_tokens === null ? null : Number(row.input_tokens),
    outcome: row.outcome,
    dispatched: row.dispatched,
  }));
}

/** Starts and tokens in any 60 seconds, and starts in any Pacific day, against the lane's limits. */
export function checkLimits(grants: Grant[], limitsOf: (grant: Grant) => LaneLimits): Violation[] {
  const violations: Violation[] = [];
  for (const [lane, all] of groupBy(grants, (grant) => grant.lane)) {
    // Only what went to Google is counted there.
    const starts = all.filter((grant) => grant.dispatched).sort((a, b) => a.startMs - b.startMs);
    if (starts.length === 0) continue;
    const { rpm, tpm, rpd } = limitsOf(starts[0]!);
    let first = 0;
    let tokens = 0;
    for (let last = 0; last < starts.length; last++) {
      tokens += certainTokens(starts[last]!);
      while (starts[last]!.startMs - starts[first]!.startMs >= MINUTE_MS) {
        tokens -= certainTokens(starts[first]!);
        first++;
      }
      const count = last - first + 1;
      const where = `lane ${lane}, 60 s that end at ${new Date(starts[last]!.startMs).toISOString()}`;
      if (rpm !== null && count > rpm) {
        violations.push({ guarantee: "G1", what: `${where}: ${count} starts, limit ${rpm}` });
      }
      if (tpm !== null && tokens > tpm) {
        violations.push({ guarantee: "G1", what: `${where}: ${tokens} tokens, limit ${tpm}` });
      }
    }
    for (const [day, ofDay] of groupBy(starts, (grant) => pacificDay.format(grant.startMs))) {
      if (rpd !== null && ofDay.length > rpd) {
        violations.push({
          guarantee: "G1",
          what: `lane ${lane}, ${day}: ${ofDay.length} starts, limit ${rpd}`,
        });
      }
    }
  }
  return violations;
}

/**
 * What a reservation certainly counted for at every moment: the estimate while it ran, the real number afterwards, so never
 * less than the smaller of the two. A window whose sum of these is above the limit was granted wrongly at some moment.
 */
function certainTokens(grant: Grant): number {
  return grant.real === null ? grant.booked : Math.min(grant.booked, grant.real);
}

/** The lane's buckets hold exactly what the audit says they should: real tokens where known, booked ones otherwise. */
export async function checkBooks(sql: postgres.Sql, grants: Grant[]): Promise<Violation[]> {
  const violations: Violation[] = [];
  const expected = new Map<string, { starts: number; tokens: number }>();
  for (const grant of grants) {
    if (!grant.dispatched) continue;
    const place = `${grant.lane} ${grant.bucketMs}`;
    const sum = expected.get(place) ?? { starts: 0, tokens: 0 };
    sum.starts += 1;
    sum.tokens += grant.real ?? grant.booked;
    expected.set(place, sum);
  }
  const buckets = await sql`select lane_id, at_ms, starts, tokens from eve.lane_buckets`;
  for (const bucket of buckets) {
    const place = `${bucket.lane_id} ${bucket.at_ms}`;
    const { starts, tokens } = expected.get(place) ?? { starts: 0, tokens: 0 };
    if (starts !== Number(bucket.starts)) {
      violations.push({
        guarantee: "G7",
        what: `bucket ${place}: ${bucket.starts} starts, audit says ${starts}`,
      });
    }
    if (tokens !== Number(bucket.tokens)) {
      violations.push({
        guarantee: "G6",
        what: `bucket ${place}: ${bucket.tokens} tokens, audit says ${tokens}`,
      });
    }
  }
  const lanes =
    await sql`select id, day_ends_ms, day_starts, next_day_starts from eve.lanes where day_ends_ms > 0`;
  for (const lane of lanes) {
    const ends = Number(lane.day_ends_ms);
    const today = pacificDay.format(ends - 1);
    const tomorrow = pacificDay.format(ends);
    const dispatched = grants.filter((grant) => grant.lane === String(lane.id) && grant.dispatched);
    const count = (day: string) =>
      dispatched.filter((grant) => pacificDay.format(grant.startMs) === day).length;
    if (count(today) !== Number(lane.day_starts)) {
      violations.push({
        guarantee: "G3",
        what: `lane ${lane.id}, ${today}: day_starts ${lane.day_starts}, audit says ${count(today)}`,
      });
    }
    if (count(tomorrow) !== Number(lane.next_day_starts)) {
      violations.push({
        guarantee: "G3",
        what: `lane ${lane.id}, ${tomorrow}: next_day_starts ${lane.next_day_starts}, audit says ${
          count(tomorrow)
        }`,
      });
    }
  }
  return violations;
}

interface Spender {
  consumer: string;
  token: string | null;
  day: string;
  running: boolean;
}

/**
 * Budgets are never overspent, and hold what the audit says was spent: those of tokens in their lives and of consumers in their
 * Pacific days.
 * @param reserved what attempts (`request_no.attempt`) have reserved, input and answer, as their callers were told: with it also that
 *   tokens were never overspent but by what a call took beyond its reservation
 */
export async function checkBudgets(sql: postgres.Sql, reserved?: Map<string, number>): Promise<Violation[]> {
  const requests = await sql`
    select request_no, consumer_id, token_id, received_at, false as running, 0 as attempt, 0 as tokens from eve.requests
    union all
    select request_no, consumer_id, token_id, received_at, true, attempt,
      case when state in ('reserved', 'waiting') then tokens + output_tokens else 0 end
    from eve.inflight`;
  const attempts = await sql`
    select request_no, attempt, tokens_booked, output_booked, total_tokens, outcome, dispatched from eve.attempts`;
  const spenders = new Map<string, Spender>();
  const spent = { tokens: new Map<string, number>(), requests: new Map<string, Set<string>>() };
  const certain = new Map<string, number>();
  const keysOf = (
    { consumer, token, day }: Spender,
  ) => [`${consumer} ${day}`, ...(token === null ? [] : [token])];
  const add = (requestNo: string, attempt: number, tokens: number) => {
    const spender = spenders.get(requestNo);
    if (spender === undefined) return;
    for (const key of keysOf(spender)) {
      spent.tokens.set(key, (spent.tokens.get(key) ?? 0) + tokens);
      const most = reserved?.get(`${requestNo}.${attempt}`) ?? tokens;
      certain.set(key, (certain.get(key) ?? 0) + Math.min(tokens, most));
    }
  };
  const count = (requestNo: string, key: string) => {
    spent.requests.set(key, (spent.requests.get(key) ?? new Set()).add(requestNo));
  };
  for (const row of requests) {
    spenders.set(String(row.request_no), {
      consumer: row.consumer_id,
      token: row.token_id,
      day: pacificDay.format(row.received_at),
      running: row.running,
    });
  }
  for (const [requestNo, spender] of spenders) {
    if (spender.running) { for (const key of keysOf(spender)) count(requestNo, key); }
  }
  for (const row of requests) {
    if (Number(row.tokens) > 0) add(String(row.request_no), row.attempt, Number(row.tokens));
  }
  for (const row of attempts) {
    const requestNo = String(row.request_no);
    const spender = spenders.get(requestNo);
    if (spender === undefined) continue;
    const spent = row.total_tokens ?? Number(row.tokens_booked) + (row.output_booked ?? 0);
    add(requestNo, row.attempt, row.dispatched ? spent : 0);
    const [day, token] = keysOf(spender);
    if (row.dispatched || row.attempt > 1) count(requestNo, day!);
    // A token is charged for what it gave up, too.
    if (token !== undefined && (row.dispatched || row.attempt > 1 || row.outcome === "cancelled")) {
      count(requestNo, token);
    }
  }

  const budgets = await sql`
    select t.id::text as key, 'token ' || t.id as name, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used
    from eve.scoped_tokens t
    union all
    select d.consumer_id || ' ' || d.day, 'consumer ' || c.name || ' on ' || d.day, c.requests_per_day, c.tokens_per_day, d.requests,
      d.tokens
    from eve.consumer_days d
    join eve.consumers c on c.id = d.consumer_id`;
  return budgets.flatMap((row) => {
    const found = {
      requests: spent.requests.get(row.key)?.size ?? 0,
      tokens: spent.tokens.get(row.key) ?? 0,
      certain: certain.get(row.key) ?? 0,
    };
    const wrong: string[] = [];
    if (row.requests_budget !== null && found.requests > row.requests_budget) {
      wrong.push(`${found.requests} requests, budget ${row.requests_budget}`);
    }
    if (reserved !== undefined && row.tokens_budget !== null && found.certain > Number(row.tokens_budget)) {
      wrong.push(`${found.certain} tokens, budget ${row.tokens_budget}`);
    }
    if (found.requests !== Number(row.requests_used)) {
      wrong.push(`${row.requests_used} requests booked, audit says ${found.requests}`);
    }
    if (found.tokens !== Number(row.tokens_used)) {
      wrong.push(`${row.tokens_used} tokens booked, audit says ${found.tokens}`);
    }
    return wrong.map((what) => ({ guarantee: "G2" as const, what: `${row.name}: ${what}` }));
  });
}

export function groupBy<T>(items: T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
