/** Starts that are booked ahead: one consumer holds no more of a lane's than its share, so others find a place. */
import { beforeEach, describe, expect, test } from "vitest";
import { addKey, addModel, type Answer, cancel, reserve, type ReserveOptions } from "../harness/admission.ts";
import { admissionDatabase } from "../harness/admission_database.ts";

const { sql, clock } = await admissionDatabase();
beforeEach(async () => {
  await share(50);
});

const share = (percent: number) =>
  sql`update eve.settings set value = ${percent} where name = 'waiting_share_percent'`;
const consumer = async (name: string): Promise<string> => {
  const [row] = await sql`insert into eve.consumers (name, kind) values (${name}, 'service') returning id`;
  return row!.id;
};
/** So many at once, each over a connection of its own. */
const rush = (count: number, name: string, options: ReserveOptions = {}): Promise<Answer[]> =>
  Promise.all(
    Array.from({ length: count }, (_, n) => reserve(sql, `${name}${n}`, { maxWaitMs: 100_000, ...options })),
  );
const granted = (answers: Answer[]) => answers.filter(({ status }) => status === "granted");
const ahead = (answers: Answer[]) => granted(answers).filter(({ wait_ms }) => wait_ms > 0);

describe("[G4.share security.booking] a consumer's share of the starts to come", () => {
  test("is half of what a lane has in a minute; the rest finds another consumer, who came after", async () => {
    for (const project of ["one", "two", "three"]) await addKey(sql, project, { project });
    await addModel(sql, "m", { rpm: 10 });
    const greedy = await consumer("greedy");
    const answers = await rush(50, "greedy", { consumerId: greedy });
    expect(granted(answers)).toHaveLength(45);
    expect(ahead(answers)).toHaveLength(15);
    const refused = answers.filter(({ status }) => status === "refused");
    for (const answer of refused) {
      expect(answer).toMatchObject({ code: "too_many_waiting", limit: "waiting_share" });
      // When the first of its own begins, there is one more for it.
      expect(answer.retry_after_ms).toBeGreaterThanOrEqual(60_250);
    }
    const others = await rush(15, "other", { consumerId: await consumer("other") });
    expect(ahead(others)).toHaveLength(15);
    for (const answer of others) expect(answer.wait_ms).toBe(60_250);
  });

  test("is the project's own as well, and does not count starts at once: one that is alone has the whole lane", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 10 });
    for (let minute = 0; minute < 5; minute++) {
      const answers = await rush(20, `r${minute}.`, { leaseMs: 3_600_000 });
      // Five had booked ahead in the minute before, and five more start at once.
      expect(granted(answers).filter(({ wait_ms }) => wait_ms === 0)).toHaveLength(minute === 0 ? 10 : 5);
      expect(ahead(answers)).toHaveLength(5);
      await clock.advance(60_250);
    }
    expect(await sql`select count(*)::int as n from eve.inflight where start_ms <= ${clock.nowMs()}`).toEqual(
      [
        // Ten in each of the first five minutes, and those of the sixth that were booked ahead.
        { n: 5 * 10 + 5 },
      ],
    );
  });

  test("grows again when one of its starts has come, or is given up", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 4 });
    const answers = await rush(6, "r");
    expect(ahead(answers)).toHaveLength(2);
    const refusal = await reserve(sql, "more", { maxWaitMs: 100_000 });
    expect(refusal).toMatchObject({ code: "too_many_waiting" });
    await cancel(sql, ahead(answers)[1]!);
    expect(await reserve(sql, "more", { maxWaitMs: 100_000 })).toMatchObject({ status: "granted" });
    await clock.advance(60_250);
    expect(await reserve(sql, "at once", { maxWaitMs: 100_000 })).toMatchObject({ wait_ms: 0 });
  });

  test("is one start at least, and of tokens likewise", async () => {
    await addKey(sql, "a");
    await addModel(sql, "one", { rpm: 1 });
    expect(ahead(await rush(5, "one", { models: ["one"] }))).toHaveLength(1);
    await addModel(sql, "large", { rpm: 1_000, tpm: 1_000 });
    const large = await rush(8, "large", { models: ["large"], tokens: 300 });
    // Three at once; then one of 300 and no other, since two are more than half of the tokens of a minute.
    expect([granted(large).length, ahead(large).length]).toEqual([4, 1]);
    expect(await reserve(sql, "small", { models: ["large"], tokens: 200, maxWaitMs: 100_000 })).toMatchObject(
      {
        status: "granted",
      },
    );
    await addModel(sql, "whole", { rpm: 1_000, tpm: 1_000 });
    // One that is larger than the share may pass while none of its consumer's is there.
    expect(ahead(await rush(3, "whole", { models: ["whole"], tokens: 900 }))).toHaveLength(1);
  });

  test("is a setting, and 0 is none", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 8 });
    await share(25);
    expect(ahead(await rush(20, "quarter"))).toHaveLength(2);
    await share(0);
    // All that start within the hundred seconds that they wait.
    expect(ahead(await rush(14, "none"))).toHaveLength(6);
    expect(ahead(await rush(14, "more", { maxWaitMs: 200_000 }))).toHaveLength(14);
  });

  test("leaves batch alone, which books nothing ahead, and a start that is booked again", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2 });
    const [first] = granted(await rush(3, "r"));
    const batch = await rush(5, "batch", { class: "batch", maxWaitMs: 3_600_000 });
    expect(batch.map(({ status }) => status)).toEqual(Array(5).fill("waiting"));
    await clock.advance(300);
    expect(await reserve(sql, "r0", { requestNo: first!.request_no, maxWaitMs: 100_000 })).toMatchObject({
      status: "granted",
    });
  });

  test("sends a caller to another of its models", async () => {
    await addKey(sql, "a");
    await addModel(sql, "m", { rpm: 2 });
    await addModel(sql, "n", { rpm: 2 });
    await rush(3, "r");
    expect(await reserve(sql, "next", { models: ["m", "n"], maxWaitMs: 100_000 })).toMatchObject({
      status: "granted",
      model: "n",
    });
  });
});
