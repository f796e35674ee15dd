/** A provider that is down is left alone; look.test.ts has what becomes of the pictures. */
import { beforeEach, expect, test } from "vitest";
import { type Analysis, AnalysisFailure, type Analyst } from "../../../shared/vision/analyst.ts";
import { withBreaker } from "../../../shared/vision/analysts/breaker.ts";
import { FOUND, requestFor } from "./vision_fixture.ts";

const ANALYSIS: Analysis = {
  provider: "google",
  model: "m",
  result: FOUND,
  fault: null,
  rawText: "",
  inputTokens: 1,
  outputTokens: 1,
  replayed: false,
};
const failure = (code: string) => new AnalysisFailure("retryable", code, "words");

let now: number;
let asked: PromiseWithResolvers<Analysis>[];
let analyst: Analyst;
beforeEach(() => {
  now = 0;
  asked = [];
  analyst = withBreaker({
    name: "model:a",
    capabilities: {
      mimeTypes: new Set(["image/png"]),
      maxBytes: 1e7,
      maxPixels: null,
      spendsTokens: true,
      readsTextOnly: false,
    },
    estimatedTokens: () => 0,
    analyse() {
      const call = Promise.withResolvers<Analysis>();
      asked.push(call);
      return call.promise;
    },
  }, { now: () => now });
});

/** A call that ends so; what became of it. */
async function ends(how: Analysis | Error): Promise<unknown> {
  const before = asked.length;
  const called = analyst.analyse(requestFor()).catch((thrown) => thrown.code ?? thrown.name);
  if (asked.length > before) {
    if (how instanceof Error) asked.at(-1)!.reject(how);
    else asked.at(-1)!.resolve(how);
  }
  return await called;
}
const opened = async () => {
  for (let call = 0; call < 3; call++) await ends(failure("upstream_timeout"));
};

test("it is asked by one picture at a time when its pause is over, and each pause is twice the last, up to five minutes", async () => {
  await opened();
  const pauses: number[] = [];
  for (let round = 0; round < 6; round++) {
    const refused = await analyst.analyse(requestFor()).catch((thrown) => thrown);
    expect(refused).toMatchObject({ kind: "no_capacity", code: "provider_down" });
    pauses.push(refused.retryAfterMs);
    now += refused.retryAfterMs;
    const probe = analyst.analyse(requestFor()).catch(() => {});
    const count = asked.length;
    await expect(analyst.analyse(requestFor())).rejects.toMatchObject({ code: "provider_down" });
    expect(asked).toHaveLength(count);
    asked.at(-1)!.reject(failure("upstream_unavailable"));
    await probe;
  }
  expect(pauses).toEqual([30_000, 60_000, 120_000, 240_000, 300_000, 300_000]);
});

test.each<[string, Analysis | Error, string | Analysis]>([
  ["an answer", ANALYSIS, ANALYSIS],
  [
    "a refusal of the provider's filters",
    new AnalysisFailure("refused", "content_blocked", ""),
    "content_blocked",
  ],
  [
    "a quota that it counts",
    new AnalysisFailure("no_capacity", "upstream_rate_limited", ""),
    "upstream_rate_limited",
  ],
])("%s closes it", async (_, how, reports) => {
  await opened();
  now = 30_000;
  expect(await ends(how)).toEqual(reports);
  expect(await ends(ANALYSIS)).toEqual(ANALYSIS);
  expect(await ends(failure("upstream_timeout"))).toBe("upstream_timeout");
  expect(await ends(ANALYSIS)).toEqual(ANALYSIS);
});

test.each<[string, Analysis | Error]>([
  ["one that was broken off", new DOMException("gone", "AbortError")],
  ["a lane without room", new AnalysisFailure("no_capacity", "rate_limited", "")],
  ["an answer that was kept", { ...ANALYSIS, replayed: true }],
])("%s says nothing: the next one tries", async (_, how) => {
  await opened();
  now = 30_000;
  await ends(how);
  const count = asked.length;
  await ends(failure("upstream_timeout"));
  expect(asked).toHaveLength(count + 1);
  expect(await ends(ANALYSIS)).toBe("provider_down");
});

test("calls that were under way when it opened do not make its pause longer", async () => {
  const calls = Array.from({ length: 8 }, () => analyst.analyse(requestFor()).catch(() => {}));
  for (const call of asked) call.reject(failure("upstream_unavailable"));
  await Promise.all(calls);
  now = 30_000;
  expect(await ends(ANALYSIS)).toEqual(ANALYSIS);
});
