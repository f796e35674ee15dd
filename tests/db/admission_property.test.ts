/**
 * Admission under random limits, arrivals, sizes, settlements, cancellations and crashes, 50 connections at once; what
 * the audit says afterwards is judged by a checker that shares nothing with the SQL. Then the checker itself: broken
 * versions of the SQL must not pass it.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { inLists, reserve } from "../harness/admission.ts";
import { crowds, type Plan, plan, play } from "../harness/admission_runs.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

/** Runs of the property; EVE_PROPERTY_RUNS asks for more, for a long night. */
const RUNS = Number(Deno.env.get("EVE_PROPERTY_RUNS") ?? 40);

const { sql, clock } = await admissionDatabase({ emptied: false });

test.each([["one by one", plan, reserve], ["in lists of up to seven", fc.oneof(plan, crowds), inLists(7)]])(
  "[G.random] no window, day, budget or book is ever wrong, with reservations %s",
  async (_, plans, reserve) => {
    await fc.assert(
      fc.asyncProperty(plans, async (run) => {
        expect(await play(run, { sql, clock, reserve })).toEqual([]);
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  },
);

/** Steps of public.eve_reserve_many. */
const OF_LISTS = /^eve\.(.*_list|fill_buckets)$/;

type Sabotage = [
  name: string,
  fns: string | string[],
  from: string | RegExp,
  to: string,
  limits?: Partial<Plan>,
];

/**
 * Functions of the SQL, each with a text in it and what breaks it; with `limits`, in plans where what is broken is what is
 * scarce: others come to it too seldom for a test that must fail every time.
 */
describe("[G.checker] the checker catches", () => {
  test.each([
    ["a window one second short", "eve.room_left", "60000 + (limits).guard_ms", "58749 + (limits).guard_ms"],
    ["a window that forgets its newest start", "eve.room_left", "b.at_ms <= v_at;", "b.at_ms < v_at;"],
    [
      "a booking that ignores those behind it",
      "eve.room_left",
      "interactive_tail_ms > room_left.at_ms then",
      "interactive_tail_ms > room_left.at_ms + 9000000000 then",
      { rpm: null, tpm: 500, rpd: null, projects: 1, keysPerProject: 1 },
    ],
    [
      "sums of two spans that forget the one before",
      "eve.room_left",
      "(lane).span_tokens + (lane).previous_span_tokens",
      "(lane).span_tokens",
    ],
    ["a day that ends at midnight UTC", "eve.next_pacific_midnight", "'America/Los_Angeles'", "'UTC'"],
    [
      "a settlement applied twice",
      "public.eve_settle",
      "or v_running.attempt <> eve_settle.attempt or v_running.state not in ('reserved', 'waiting')\n    or v_running.state = 'waiting' and eve_settle.dispatched then",
      "and false then",
    ],
    [
      "a settlement that forgets the tokens",
      "eve.adjust_bucket",
      "tokens = greatest(b.tokens + adjust_bucket.tokens, 0)",
      "tokens = b.tokens",
    ],
    [
      "a cancellation that keeps the day",
      "eve.give_back",
      "day_starts = l.day_starts\n      - case",
      "day_starts = l.day_starts\n      - 0 * case",
    ],
    [
      "a refusal that counts",
      "eve.refuse",
      "return jsonb_build_object(",
      "update eve.lanes set day_starts = day_starts + 1; return jsonb_build_object(",
    ],
    [
      "a budget that is not taken with the slot",
      "eve.scope_of",
      "where t.id = (call).token_id and t.consumer_id = (call).consumer_id\n    for no key update",
      "where t.id = (call).token_id and t.consumer_id = (call).consumer_id",
    ],
    [
      "a budget that reserves no answer",
      "public.eve_reserve",
      "v_place.tokens + coalesce(v_place.output_tokens, 0), v_now",
      "v_place.tokens, v_now",
    ],
    [
      "an answer that may be longer than its budget",
      "eve.output_of",
      "least(v_wanted, (scope).tokens_left - v_size.booked)",
      "v_wanted",
      { tokensBudget: 700, rpm: null, tpm: null, rpd: null },
    ],
    [
      "a settlement that keeps the answer that it reserved",
      "public.eve_settle",
      "v_total - v_running.tokens - v_running.output_tokens",
      "v_total - v_running.tokens",
    ],
    [
      "a day that is not given what a token is given",
      "eve.adjust_budgets",
      "tokens = greatest(d.tokens + adjust_budgets.tokens, 0)",
      "tokens = d.tokens",
    ],
    [
      "batch that waits and takes its budget again at its start",
      "public.eve_reserve",
      "if v_spends then\n    perform eve.take_budgets",
      "if true then\n    perform eve.take_budgets",
    ],
    [
      "batch that books ahead and forgets its start",
      "eve.with_start",
      "span_starts := v_lane.span_starts + 1",
      "span_starts := v_lane.span_starts",
    ],
    [
      "a plain call that starts where none fits",
      ["eve.plain_lane", "eve.reserve_plain"],
      /and eve\.has_room\(.*\)$|when eve\.has_room\(.*\) is not true then false$/gm,
      "",
      { rpm: 5, tpm: null, rpd: null, projects: 1 },
    ],
    [
      "a plain call that knows no day",
      "eve.reserve_plain",
      "l.day_ends_ms) >= 1)",
      "l.day_ends_ms) is not null)",
      { rpm: null, tpm: null, rpd: 20, reserveDay: 0 },
    ],
    [
      "a plain call that forgets the span before",
      "eve.reserve_plain",
      "when 1 then l.span_starts else 0 end",
      "else 0 end",
      { rpm: 10, tpm: null, rpd: null, projects: 1 },
    ],
    [
      "a list that starts more than fit",
      // Where lanes are looked at, and where they are booked.
      ["eve.choose_for_list", "eve.book_list"],
      /s\.nth > s\.starts_left or|and eve\.has_room\(l, w\.limits, .*\)$/gm,
      "",
      { rpm: 5, tpm: null, rpd: null, projects: 1 },
    ],
    [
      "a list that takes more tokens than fit",
      ["eve.choose_for_list", "eve.book_list"],
      /or s\.booked > s\.tokens_left|and eve\.has_room\(l, w\.limits, .*\)$/gm,
      "",
      { rpm: null, tpm: 800, rpd: null, projects: 1 },
    ],
    [
      "a list that knows no day",
      "eve.book_list",
      "l.day_ends_ms) < w.calls) is not true",
      "l.day_ends_ms) < w.calls) is not null",
      { rpm: null, tpm: null, rpd: 20, reserveDay: 0 },
    ],
    [
      "a list that forgets the span before",
      "eve.book_list",
      "when 1 then l.span_starts else 0 end",
      "else 0 end",
      { rpm: 10, tpm: null, rpd: null, projects: 1 },
    ],
    [
      "a list that keeps one start in its books",
      "eve.fill_buckets",
      "u.bucket_ms, count(*), sum(u.tokens)",
      "u.bucket_ms, 1, sum(u.tokens)",
    ],
  ] as Sabotage[])("%s", async (
    _name,
    fns,
    from,
    to,
    limits,
  ) => {
    const sources = await sql<{ name: string; source: string }[]>`
      select p.pronamespace::regnamespace::text || '.' || p.proname as name, pg_get_functiondef(p.oid) as source
      from pg_proc p
      where p.pronamespace::regnamespace::text || '.' || p.proname = any (${[fns].flat()})`;
    const broken = sources.map(({ source }) => source.replaceAll(from, to));
    expect(sources.map(({ name }) => name).sort()).toEqual([fns].flat().sort());
    sources.forEach(({ source }, i) => expect(broken[i]).not.toBe(source));
    try {
      for (const text of broken) await sql.unsafe(text);
      const [plans, asked] = sources.some(({ name }) => OF_LISTS.test(name))
        ? [crowds, inLists(7)]
        : [plan, reserve];
      const { failed } = await fc.check(
        fc.asyncProperty(
          plans,
          async (run) => (await play({ ...run, ...limits }, { sql, clock, reserve: asked })).length === 0,
        ),
        { numRuns: 200, endOnFailure: true, seed: 7 },
      );
      expect(failed).toBe(true);
    } finally {
      for (const { source } of sources) await sql.unsafe(source);
    }
  });
});
