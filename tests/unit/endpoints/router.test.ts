import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { pathWithin } from "../../../shared/http/function_shell.ts";
import { ID, RESULT, testRouter } from "./router_fixture.ts";

const ASK = { model: "gemma-4-31b-it", prompt: "Что сегодня?" };

describe("an answer at the native endpoint", () => {
  test("has everything the README promises", async () => {
    const response = await testRouter().post(ASK);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      request_id: ID,
      model: "gemma-4-31b-it",
      text: "Концерт",
      parts: [{ text: "Hmm", thought: true }, { text: "Концерт", thoughtSignature: "AA==" }],
      finish_reason: "STOP",
      usage: {
        input_tokens: 9,
        output_tokens: 3,
        thoughts_tokens: 2,
        cached_tokens: null,
        total_tokens: 14,
        estimated: false,
      },
      key_alias: "demo-a",
      attempts: 1,
      wait_ms: 0,
      limits: {
        requests: { limit: 30, remaining: 29, reset_ms: 60_000 },
        tokens: { limit: 16_000, remaining: 15_990, reset_ms: 60_000 },
        requests_day: { limit: null, remaining: null, reset_ms: null },
      },
    });
  });

  test("[native.headers] has the limits in headers, and whose id it has", async () => {
    const { headers } = await testRouter().post({ ...ASK, request_id: "event-42" });
    expect(headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(headers.get("x-ratelimit-remaining-tokens")).toBe("15990");
    expect(headers.get("x-ratelimit-reset-requests")).toBe("1m0s");
    expect(headers.get("x-eve-request-id")).toBe("event-42");
    expect(headers.get("x-eve-model")).toBeNull();
    expect(headers.get("cache-control")).toBe("no-store");
    expect(headers.get("access-control-allow-origin")).toBe("*");
  });

  test("[native.headers] names a successor, and a replay", async () => {
    const { headers } = await testRouter(() =>
      Promise.resolve({ ...RESULT, replaced: true, limits: null, replayed: true })
    )
      .post(ASK);
    expect(headers.get("x-eve-model")).toBe("gemma-4-31b-it");
    expect(headers.get("x-eve-replayed")).toBe("true");
    expect(headers.get("x-ratelimit-limit-requests")).toBeNull();
  });

  test("[native.budget] says how long the answer could be, where a budget allowed less than was asked for", async () => {
    const lowered = testRouter(() => Promise.resolve({ ...RESULT, outputLoweredTo: 64 }));
    const response = await lowered.post(ASK);
    expect(response.headers.get("x-eve-max-output-tokens")).toBe("64");
    expect(await response.json()).toMatchObject({ max_output_tokens: 64 });
    const whole = await testRouter().post(ASK);
    expect(whole.headers.get("x-eve-max-output-tokens")).toBeNull();
    expect(await whole.json()).not.toHaveProperty("max_output_tokens");
  });

  test("the gateway learns who calls and when the client leaves", async () => {
    const client = new AbortController();
    const leaving = testRouter((_, { signal, caller }) =>
      new Promise((_resolve, reject) => {
        expect(caller.kind).toBe("project");
        signal.addEventListener("abort", () => reject(new GatewayError("client_closed")));
        client.abort();
      })
    );
    const request = new Request("http://gateway/llm-invoke", {
      method: "POST",
      body: JSON.stringify(ASK),
      signal: client.signal,
    });
    expect((await leaving.receive(request)).status).toBe(499);
  });
});

describe("what is no answer is never a 200", () => {
  test.each(
    [
      ["content_blocked", "SAFETY", 422, false],
      ["empty_answer", "STOP", 502, true],
      ["empty_answer", "MAX_TOKENS", 502, false],
      ["answer_unusable", "MALFORMED_FUNCTION_CALL", 502, true],
    ] as const,
  )("%s for %s answers %d", async (code, reason, status, retryable) => {
    const answer = { candidates: [{ content: { parts: [{ text: "Конц" }] }, finishReason: reason }] };
    const response = await testRouter(() =>
      Promise.resolve({ ...RESULT, answer, finishReason: reason, verdict: { ok: false, code, reason } })
    ).post(ASK);
    expect(response.status).toBe(status);
    expect((await response.json()).error).toMatchObject({
      code,
      retryable,
      details: { reason, text: "Конц", key_alias: "demo-a", usage: { input_tokens: 9 } },
    });
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
  });
});

describe("an error at the native endpoint", () => {
  test("has a code, a message, the request's id and whether to retry", async () => {
    const refusing = testRouter(() =>
      Promise.reject(
        new GatewayError("rate_limited", {
          message: "m: the limit of 30 requests a minute is used up.",
          retryAfterMs: 30_500,
          limits: RESULT.limits,
          details: { limit: "rpm" },
        }),
      )
    );
    const response = await refusing.post({ ...ASK, request_id: "event-42" });
    expect(response.status).toBe(429);
    expect(await response.json()).toEqual({
      error: {
        code: "rate_limited",
        message: "m: the limit of 30 requests a minute is used up.",
        request_id: "event-42",
        retryable: true,
        details: { limit: "rpm" },
      },
    });
    expect(response.headers.get("retry-after")).toBe("31");
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(response.headers.get("x-eve-request-id")).toBe("event-42");
  });

  test("that nobody foresaw shows nothing but the request's id; the log knows the rest", async () => {
    const breaking = testRouter(() => Promise.reject(new TypeError("cannot read eve.lanes of undefined")));
    const response = await breaking.post(ASK);
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toContain("lanes");
    expect(JSON.parse(text).error).toMatchObject({ code: "internal", request_id: ID, retryable: false });
    expect(breaking.logged).toEqual([["request_ended", {
      request_id: ID,
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
      span_id: expect.stringMatching(/^[0-9a-f]{16}$/),
      "http.response.status_code": 500,
      "error.type": "internal",
      "eve.endpoint": "native",
      "eve.consumer": "default",
      "eve.outcome": "failed",
      "eve.duration_ms": expect.any(Number),
      detail: "TypeError: cannot read eve.lanes of undefined",
    }]]);
  });

  test("of the owner's set-up is logged and answered, until it is fixed", async () => {
    let opened = 0;
    const { receive } = testRouter(undefined, {});
    const broken = testRouter(undefined, {
      get endpoints(): never {
        opened++;
        throw new GatewayError("gateway_misconfigured", { detail: "settings: EVE_MAX_WAIT_MS: ..." });
      },
    });
    const response = await broken.post(ASK);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("EVE_MAX_WAIT_MS");
    await broken.post(ASK);
    expect(opened).toBe(2);
    expect((await receive(new Request("http://gateway/llm-invoke"))).status).toBe(405);
  });
});

describe("bad input never reaches the gateway", () => {
  test.each<[string, string, string, number]>([
    ["no JSON", "{", "invalid_json", 400],
    ["no body", "", "invalid_json", 400],
    ["no object", "[]", "invalid_request", 400],
    ["an empty prompt", '{"model":"m","prompt":" "}', "empty_prompt", 400],
    ["a body above the cap", `"${"x".repeat(100_001)}"`, "body_too_large", 413],
  ])("%s", async (_, body, code, status) => {
    const endpoint = testRouter();
    const response = await endpoint.post(body);
    expect(response.status).toBe(status);
    expect((await response.json()).error).toMatchObject({ code, request_id: ID });
    expect(endpoint.asked).toHaveLength(0);
  });

  test("who may not come in is refused before a byte of the body is read", async () => {
    let read = false;
    const body = new ReadableStream({ pull: () => void (read = true) }, { highWaterMark: 0 });
    const { receive } = testRouter(undefined, {
      identify: () => Promise.reject(new GatewayError("credential_missing")),
    });
    const response = await receive(new Request("http://gateway/llm-invoke", { method: "POST", body }));
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toContain("Bearer");
    expect(read).toBe(false);
  });
});

describe("routing", () => {
  test.each([
    ["http://x/llm-invoke", "/"],
    ["http://x/llm-invoke/", "/"],
    ["http://x/functions/v1/llm-invoke?x=1", "/"],
    ["http://x/llm-invoke/openai/v1/models/", "/openai/v1/models"],
    ["http://x/llm-invoke-2/x", "/llm-invoke-2/x"],
  ])("%s is %s", (url, path) => expect(pathWithin("llm-invoke", url)).toBe(path));

  test("another method gets the list of those that there are", async () => {
    const response = await testRouter().receive(new Request("http://gateway/llm-invoke"));
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("POST, OPTIONS");
  });

  test("a path without an endpoint is not found", async () => {
    const response = await testRouter().post(ASK, "/llm-invoke/openai/v2/chat");
    expect(response.status).toBe(404);
    expect((await response.json()).error.code).toBe("not_found");
  });

  test("a browser's preflight is answered without a credential", async () => {
    const { receive } = testRouter(undefined, {
      identify: () => Promise.reject(new GatewayError("credential_missing")),
    });
    const response = await receive(new Request("http://gateway/llm-invoke", { method: "OPTIONS" }));
    expect(response.status).toBe(204);
    expect(response.headers.get("access-control-allow-headers")).toContain("authorization");
    expect(response.headers.get("access-control-allow-methods")).toContain("POST");
  });
});
