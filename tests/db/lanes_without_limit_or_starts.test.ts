/** Lanes without a limit of starts, or with one of none: no pace comes of the first, and no start of the second. */
import { describe, expect, test } from "vitest";
import { addKey, addModel, type Answer, reserve, reserveMany, STEP_BY_STEP } from "../harness/admission.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

const { sql, clock } = await admissionDatabase();

describe("a lane with tokens alone", () => {
  test("does not make batch wait for a pace of starts", async () => {
    for (const project of ["one", "two"]) await addKey(sql, project, { project });
    await addModel(sql, "m", { tpm: 1_000_000 });
    // More than what batch may take in a burst, so it is paced from here on: by tokens, 30 ms for each call.
    for (const n of [1, 2]) await reserve(sql, `large${n}`, { tokens: 600_000, counted: true });
    const seen: Answer[] = [];
    for (let n = 0; n < 40; n++) {
      await clock.advance(50);
      const how = n % 2 ? STEP_BY_STEP : {};
      seen.push(await reserve(sql, `b${n}`, { class: "batch", tokens: 1_000, counted: true, ...how }));
    }
    expect(seen.map(({ code, status }) => code ?? status)).toEqual(Array(40).fill("granted"));
  });

  test("has a share of tokens for each consumer, and no share of starts", async () => {
    await sql`update eve.settings set value = 50 where name = 'waiting_share_percent'`;
    await addKey(sql, "a");
    await addModel(sql, "m", { tpm: 1_000 });
    await reserve(sql, "whole", { tokens: 1_000 });
    const seen: Answer[] = [];
    for (let n = 0; n < 6; n++) seen.push(await reserve(sql, `r${n}`, { tokens: 100, maxWaitMs: 100_000 }));
    expect(seen.map(({ status, code }) => code ?? status)).toEqual([
      ...Array(5).fill("granted"),
      "too_many_waiting",
    ]);
  });
});

describe("a lane whose limit is 0", () => {
  const toZero = (what: "rpm" | "tpm") =>
    sql`update public.google_ai_model_limits set ${sql(what)} = 0 where model = 'm'`;

  test.each([["rpm", "rate_limited"], ["tpm", "prompt_too_large"]] as const)(
    "has no start, whichever way is asked (%s)",
    async (what, code) => {
      await addKey(sql, "a");
      await addModel(sql, "m", { rpm: 5, tpm: 1_000 });
      await addModel(sql, "beside", { rpm: 600 });
      for (const models of [["m"], ["beside"]]) {
        await reserve(sql, `first-${models}`, { models, tokens: 1, ...STEP_BY_STEP });
      }
      await toZero(what);
      await clock.advance(200_000);
      expect(await reserve(sql, "steps", { tokens: 1, ...STEP_BY_STEP })).toMatchObject({
        code,
      });
      for (const n of [1, 2, 3]) {
        expect(await reserve(sql, `plain${n}`, { tokens: 1 })).toMatchObject({ code });
      }
      const list = await reserveMany(sql, [
        { requestId: "list", tokens: 1 },
        { requestId: "other", models: ["beside"], tokens: 1 },
      ]);
      expect(list[0]?.status ?? "step by step").not.toBe("granted");
      expect(await sql`select count(*)::int as n from eve.inflight where model = 'm'`).toEqual([{ n: 1 }]);
    },
  );

  test.each(["rpm", "tpm"] as const)("is passed over while another has starts (%s)", async (what) => {
    for (const project of ["one", "two"]) await addKey(sql, project, { project });
    await addModel(sql, "m", { rpm: 30, tpm: 100_000 });
    // Lanes are made, and booked today.
    for (let n = 0; n < 4; n++) await reserve(sql, `first${n}`, { tokens: 1 });
    await sql`insert into eve.quota_overrides ${
      sql({ quota_project: "two", model: "m", rpm: 30, tpm: 100_000, [what]: 0 })
    }`;
    await clock.advance(200_000);
    const before = await sql`select max(request_no) as no from eve.inflight`;
    for (let n = 0; n < 6; n++) {
      expect(await reserve(sql, `plain${n}`, { tokens: 1 })).toMatchObject({ status: "granted" });
    }
    for (
      const answer of await reserveMany(
        sql,
        ["l1", "l2", "l3"].map((requestId) => ({ requestId, tokens: 1 })),
      )
    ) {
      expect(answer?.status ?? "granted").toBe("granted");
    }
    expect(
      await sql`select distinct l.quota_project as project from eve.inflight i join eve.lanes l on l.id = i.lane_id
                where i.request_no > ${before[0]!.no}`,
    ).toEqual([{ project: "one" }]);
  });

  test("does not take the pace from the others", async () => {
    for (const project of ["one", "two"]) await addKey(sql, project, { project });
    await addModel(sql, "m", { rpm: 30 });
    await sql`insert into eve.quota_overrides (quota_project, model, rpm) values ('two', 'm', 0)`;
    await reserve(sql, "first");
    const [route] = await sql`select interval_ms from eve.routes where model = 'm' limit 1`;
    expect(route).toEqual({ interval_ms: 60_250 / 30 });
  });
});
