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

/** Budgets are never overspent, and hold what the audit says was spent. */
export async function checkBudgets(sql: postgres.Sql): Promise<Violation[]> {
  const violations: Violation[] = [];
  const rows = await sql`
    select t.id, t.requests_budget, t.tokens_budget, t.requests_used, t.tokens_used,
      (select count(distinct x.request_no) from (
        select r.request_no from eve.requests r
        where r.token_id = t.id and exists (
          select from eve.attempts a where a.request_no = r.request_no and (a.dispatched or a.attempt > 1)
        )
        union all
        select i.request_no from eve.inflight i where i.token_id = t.id
      ) x) as requests,
      (select coalesce(sum(x.tokens), 0) from (
        select case when not a.dispatched then 0 else coalesce(a.total_tokens, a.tokens_booked) end as tokens
        from eve.attempts a
        join (
          select request_no, token_id from eve.requests union all select request_no, token_id from eve.inflight
        ) r on r.request_no = a.request_no
        where r.token_id = t.id
        union all
        select i.tokens from eve.inflight i where i.token_id = t.id and i.state in ('reserved', 'waiting')
      ) x) as tokens
    from eve.scoped_tokens t`;
  for (const row of rows) {
    if (row.requests_budget !== null && Number(row.requests) > row.requests_budget) {
      violations.push({
        guarantee: "G2",
        what: `token ${row.id}: ${row.requests} requests, budget ${row.requests_budget}`,
      });
    }
    if (Number(row.requests) !== Number(row.requests_used)) {
      violations.push({
        guarantee: "G2",
        what: `token ${row.id}: ${row.requests_used} requests booked, audit says ${row.requests}`,
      });
    }
    if (Number(row.tokens) !== Number(row.tokens_used)) {
      violations.push({
        guarantee: "G2",
        what: `token ${row.id}: ${row.tokens_used} tokens booked, audit says ${row.tokens}`,
      });
    }
  }
  return violations;
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
