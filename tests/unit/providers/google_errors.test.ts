import { describe, expect, test } from "vitest";
import { diagnoseGoogleError } from "../../../shared/providers/google/errors.ts";

/**
 * Error bodies in the form that Google documents (`google.rpc.Status` with its details), built from that documentation and
 * from public reports of their messages, not captured; each with what it must be taken for. The file's name says which.
 */
interface Fixture {
  status: number;
  body: { error: { message: string; details?: unknown[] } };
  diagnosis: unknown;
}

const folder = new URL("../../fixtures/google/errors/", import.meta.url);
const fixtures = [...Deno.readDirSync(folder)].map(({ name }) => name).sort().map((name) => ({
  name,
  fixture: JSON.parse(Deno.readTextFileSync(new URL(name, folder))) as Fixture,
}));

describe("a Google error is taken for what it is", () => {
  test.each(fixtures)("$name", ({ fixture: { status, body, diagnosis } }) => {
    const { message, details = [] } = body.error;
    expect(diagnoseGoogleError({ status, message, details })).toEqual(diagnosis);
  });

  test("every fault has a case", () => {
    const faults = new Set(fixtures.map(({ fixture }) => (fixture.diagnosis as { fault: string }).fault));
    expect([...faults].sort()).toEqual(["caller", "key", "key_model", "lane", "nobody", "region"]);
  });
});

describe("bodies that break the form", () => {
  test("a limit that only begins with a zero is not a limit of zero", () => {
    const message = "Quota exceeded for metric: x, limit: 0.5, model: y";
    expect(diagnoseGoogleError({ status: 429, message, details: [] }).fault).toBe("lane");
  });

  test.each([
    ["no details at all", []],
    ["details that are no objects", [null, 7, "RetryInfo"]],
    ["violations that are no list", [{
      "@type": "type.googleapis.com/google.rpc.QuotaFailure",
      violations: 1,
    }]],
    ["a delay that is no duration", [{
      "@type": "type.googleapis.com/google.rpc.RetryInfo",
      retryDelay: "soon",
    }]],
  ])("a 429 with %s blocks the lane for a whole minute", (_, details) => {
    expect(diagnoseGoogleError({ status: 429, message: "", details }).block).toEqual({
      scope: "lane",
      lasts: { forMs: 60_000 },
      reason: "upstream_minute_quota",
    });
  });

  test("the advice to check one's billing, which every 429 gives, disables no key", () => {
    const message = "You exceeded your current quota, please check your plan and billing details.";
    expect(diagnoseGoogleError({ status: 429, message, details: [] }).fault).toBe("lane");
  });

  test("a status from a proxy between us and Google fault nobody", () => {
    expect(diagnoseGoogleError({ status: 502, message: "", details: [] })).toMatchObject({
      fault: "nobody",
      retryable: true,
    });
  });
});
