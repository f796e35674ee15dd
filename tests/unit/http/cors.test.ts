import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CORS_HEADERS, preflight } from "../../../shared/http/cors.ts";

const asked = (headers?: string) =>
  new Request("http://gateway/llm-invoke", {
    method: "OPTIONS",
    headers: {
      origin: "https://page.example",
      "access-control-request-method": "POST",
      ...(headers !== undefined && { "access-control-request-headers": headers }),
    },
  });
const allowed = (headers?: string) =>
  preflight(asked(headers)).headers.get("access-control-allow-headers")!.split(", ");

const USUAL = ["authorization", "apikey", "x-goog-api-key", "x-api-key", "content-type"];

describe("a preflight", () => {
  test.each([
    ["openai's stream()", "authorization,content-type,x-stainless-helper-method,x-stainless-lang"],
    ["openai's parse()", "authorization,content-type,x-stainless-helper-method,x-stainless-poll-helper"],
    ["Anthropic's in a page", "anthropic-dangerous-direct-browser-access,anthropic-version,x-api-key"],
    ["@google/genai in Firefox", "content-type,user-agent,x-goog-api-client,x-goog-api-key"],
    ["a header of tomorrow", "X-Stainless-Something-New, authorization"],
  ])("%s is allowed what it asks for", (_, headers) => {
    expect(allowed(headers)).toEqual(headers.toLowerCase().split(/, ?/));
  });

  test("every method passes, so that a page learns which ones do not exist", () => {
    const methods = preflight(asked()).headers.get("access-control-allow-methods")!.split(", ");
    expect(methods.sort()).toEqual(["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]);
  });

  test.each([
    ["nothing", undefined],
    ["commas alone", " , ,"],
    ["no header's name", "authorization, x y"],
    ["a second header", "authorization, x:y"],
    ["too many", Array.from({ length: 101 }, (_, i) => `x-${i}`).join(",")],
    ["too long a one", `x-${"a".repeat(4_096)}`],
  ])("%s is answered with the usual headers", (_, headers) => expect(allowed(headers)).toEqual(USUAL));

  test("whatever is asked, only names come back, and no more than were sent", () => {
    fc.assert(fc.property(fc.string({ unit: "binary-ascii", maxLength: 200 }), (text) => {
      const sendable = text.replace(/[^\x20-\x7e]/g, " ");
      const names = allowed(sendable);
      for (const name of names) expect(name).toMatch(/^[!#$%&'*+.^_`|~0-9a-z-]+$/);
      if (names.join() !== USUAL.join()) {
        for (const name of names) expect(sendable.toLowerCase()).toContain(name);
      }
    }));
  });

  test("what is stored of it is stored under what was asked", () => {
    expect(preflight(asked()).headers.get("vary")).toBe("access-control-request-headers");
  });
});

test("a page may read when to come back, the limits and the ids", () => {
  const exposed = CORS_HEADERS["access-control-expose-headers"]!.split(", ");
  expect(exposed).toEqual(expect.arrayContaining([
    ...["allow", "retry-after", "retry-after-ms", "x-should-retry", "www-authenticate"],
    ...["x-request-id", "x-eve-request-id", "traceresponse", "x-ratelimit-remaining-requests"],
  ]));
});
