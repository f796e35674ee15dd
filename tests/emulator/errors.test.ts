/** Error bodies, as the real API writes them. */
import { afterEach, expect, test } from "vitest";
import { ERROR_NAMES } from "../../local/emulator/errors.ts";
import { clockAt, emulator, errorOf, GEMMA, KEY, NOON, post, prompt, statusOf, stopAll } from "./fixture.ts";

afterEach(stopAll);

const INFO = "type.googleapis.com/google.rpc.ErrorInfo";
const SERVICE = "generativelanguage.googleapis.com";

test("a minute's quota that is used up", async () => {
  const one = await emulator({
    now: clockAt(NOON + 30_500).now,
    models: [{ name: GEMMA, limits: { rpm: 1 } }],
  });
  await statusOf(one);
  const answer = await post(one, prompt("hi"));
  expect(answer.status).toBe(429);
  expect(await answer.json()).toEqual({
    error: {
      code: 429,
      message:
        "You exceeded your current quota, please check your plan and billing details. For more information " +
        "on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, " +
        "head to: https://ai.dev/rate-limit. \n* Quota exceeded for metric: " +
        "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 1, model: gemma-4-31b\n" +
        "Please retry in 29.500000000s.",
      status: "RESOURCE_EXHAUSTED",
      details: [
        {
          "@type": "type.googleapis.com/google.rpc.Help",
          links: [{
            description: "Learn more about Gemini API quotas",
            url: "https://ai.google.dev/gemini-api/docs/rate-limits",
          }],
        },
        {
          "@type": "type.googleapis.com/google.rpc.QuotaFailure",
          violations: [{
            quotaMetric: "generativelanguage.googleapis.com/generate_content_free_tier_requests",
            quotaId: "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            quotaDimensions: { location: "global", model: "gemma-4-31b" },
            quotaValue: "1",
          }],
        },
        { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "29s" },
      ],
    },
  });
});

test("every limit that is broken is named, the day first", async () => {
  const one = await emulator({
    now: clockAt(NOON).now,
    models: [{ name: GEMMA, limits: { rpm: 1, tpm: 4, rpd: 1 } }],
  });
  await statusOf(one);
  const error = await errorOf(await post(one, prompt("Say hi")));
  expect(error.details![1].violations.map(({ quotaId }: { quotaId: string }) => quotaId)).toEqual([
    "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    "GenerateContentInputTokensPerModelPerMinute-FreeTier",
  ]);
  expect(one.control.stats().refused.byLimit).toEqual({ rpd: 1, rpm: 0, tpm: 0, zero: 0 });
});

test("a limit of 0 is written in the message and left out of the details", async () => {
  const one = await emulator({ models: [{ name: GEMMA, limits: { rpm: 0, tpm: 0, rpd: 0 } }] });
  const error = await errorOf(await post(one, prompt("hi")));
  expect(error.message).toContain("free_tier_requests, limit: 0, model: gemma-4-31b");
  expect(error.details![1].violations).toHaveLength(3);
  expect(error.details![1].violations[0]).not.toHaveProperty("quotaValue");
  expect(one.control.stats().refused.byLimit.zero).toBe(1);
});

test("embeddings have quotas of their own name", async () => {
  const one = await emulator({ models: [{ name: "gemini-embedding-001", limits: { rpm: 0 } }] });
  const answer = await post(one, { content: { parts: [{ text: "a" }] } }, {
    model: "gemini-embedding-001",
    method: "embedContent",
  });
  expect((await errorOf(answer)).details![1].violations[0]).toMatchObject({
    quotaId: "EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier",
    quotaMetric: "generativelanguage.googleapis.com/embed_content_free_tier_requests",
  });
});

test("no key, a wrong key, and a credential that is not a key", async () => {
  const one = await emulator();
  const wrong = await post(one, prompt("hi"), { key: "AIzaNoSuchKey" });
  expect(wrong.status).toBe(400);
  expect(await errorOf(wrong)).toEqual({
    code: 400,
    message: "API key not valid. Please pass a valid API key.",
    status: "INVALID_ARGUMENT",
    details: [
      { "@type": INFO, reason: "API_KEY_INVALID", domain: "googleapis.com", metadata: { service: SERVICE } },
      {
        "@type": "type.googleapis.com/google.rpc.LocalizedMessage",
        locale: "en-US",
        message: "API key not valid. Please pass a valid API key.",
      },
    ],
  });
  const none = await post(one, prompt("hi"), { key: null });
  expect([none.status, (await errorOf(none)).status]).toEqual([403, "PERMISSION_DENIED"]);
  const bearer = await post(one, prompt("hi"), { key: null, headers: { authorization: "Bearer x" } });
  expect(bearer.status).toBe(401);
  expect((await errorOf(bearer)).details![0]).toEqual({
    "@type": INFO,
    reason: "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    domain: "googleapis.com",
    metadata: {
      method: "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent",
      service: SERVICE,
    },
  });
});

test("a key may be bad from the start", async () => {
  const one = await emulator({ keys: [{ key: KEY, project: "demo-one", error: "key_leaked" }] });
  const answer = await post(one, prompt("hi"));
  expect(answer.status).toBe(403);
  expect((await errorOf(answer)).message).toBe(
    "Your API key was reported as leaked. Please use another API key.",
  );
});

const SCRIPTED: Record<string, [number, string, string | RegExp]> = {
  quota_minute_requests: [429, "RESOURCE_EXHAUSTED", /retry in 29\.4/],
  quota_minute_tokens: [429, "RESOURCE_EXHAUSTED", /input_token_count, limit: 16000/],
  quota_day: [429, "RESOURCE_EXHAUSTED", /limit: 14400/],
  quota_bare: [429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."],
  quota_limit_zero: [429, "RESOURCE_EXHAUSTED", /limit: 0/],
  prepayment_depleted: [429, "RESOURCE_EXHAUSTED", /^Your prepayment credits are depleted\./],
  api_key_invalid: [400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."],
  api_key_expired: [400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."],
  api_key_missing: [403, "PERMISSION_DENIED", /unregistered callers/],
  unauthenticated: [401, "UNAUTHENTICATED", /^Request had invalid authentication credentials/],
  key_leaked: [403, "PERMISSION_DENIED", /leaked/],
  key_suspended: [
    403,
    "PERMISSION_DENIED",
    `Permission denied: Consumer 'api_key:${KEY}' has been suspended.`,
  ],
  service_disabled: [403, "PERMISSION_DENIED", /^Generative Language API has not been used in project \d+/],
  key_restricted: [403, "PERMISSION_DENIED", /GenerativeService\.GenerateContent are blocked\.$/],
  key_address_restricted: [403, "PERMISSION_DENIED", /IP address restriction/],
  project_denied: [403, "PERMISSION_DENIED", "Your project has been denied access. Please contact support."],
  model_not_found: [404, "NOT_FOUND", /is not found for API version v1beta/],
  model_retired: [404, "NOT_FOUND", /no longer available to new users/],
  invalid_argument: [400, "INVALID_ARGUMENT", "Request contains an invalid argument."],
  location_unsupported: [400, "FAILED_PRECONDITION", "User location is not supported for the API use."],
  system_disabled: [400, "INVALID_ARGUMENT", /^Developer instruction is not enabled/],
  json_disabled: [400, "INVALID_ARGUMENT", /^JSON mode is not enabled/],
  no_cache_storage: [429, "RESOURCE_EXHAUSTED", /FreeTier limit exceeded .* limit=0/],
  tools_disabled: [400, "INVALID_ARGUMENT", /^Function calling is not enabled/],
  internal: [500, "INTERNAL", /^An internal error has occurred/],
  overloaded: [503, "UNAVAILABLE", "The model is overloaded. Please try again later."],
  high_demand: [503, "UNAVAILABLE", /high demand/],
  deadline_exceeded: [504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."],
};

test("every error can be scripted by its name", async () => {
  const one = await emulator({ models: [{ name: GEMMA, limits: { rpm: null } }] });
  expect([...Object.keys(SCRIPTED), "bad_gateway"].sort()).toEqual([...ERROR_NAMES].sort());
  for (const [error, [status, name, message]] of Object.entries(SCRIPTED)) {
    one.control.addFaults({ kind: "status", error: error as keyof typeof SCRIPTED & "internal" });
    const answer = await post(one, prompt("hi"));
    const body = await errorOf(answer);
    expect([error, answer.status, body.code, body.status]).toEqual([error, status, status, name]);
    if (typeof message === "string") expect(body.message).toBe(message);
    else expect(body.message).toMatch(message);
  }
});

test("a gateway's error page is HTML", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "status", error: "bad_gateway" });
  const answer = await post(one, prompt("hi"));
  expect(answer.status).toBe(502);
  expect(await answer.text()).toContain("Error 502 (Server Error)!!1");
});

test("what is refused at the endpoint uses no quota, what fails inside does", async () => {
  const one = await emulator({ models: [{ name: GEMMA, limits: { rpm: null } }] });
  const cost = async (error: "quota_bare" | "project_denied" | "internal" | "deadline_exceeded") => {
    const before = one.control.stats().admitted.total;
    one.control.addFaults({ kind: "status", error });
    await statusOf(one);
    return one.control.stats().admitted.total - before;
  };
  expect(await cost("quota_bare")).toBe(0);
  expect(await cost("project_denied")).toBe(0);
  expect(await cost("internal")).toBe(1);
  expect(await cost("deadline_exceeded")).toBe(1);
});

test("an error of a stream is an object for events and an array for JSON", async () => {
  const one = await emulator();
  one.control.addFaults({ kind: "status", error: "overloaded", times: 2 });
  const events = await post(one, prompt("hi"), { method: "streamGenerateContent", query: "?alt=sse" });
  expect(Array.isArray(await events.json())).toBe(false);
  const array = await post(one, prompt("hi"), { method: "streamGenerateContent" });
  expect(array.status).toBe(503);
  expect(await array.json()).toMatchObject([{ error: { code: 503 } }]);
});
