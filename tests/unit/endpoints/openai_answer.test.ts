import { describe, expect, test } from "vitest";
import type { Candidate, Part } from "../../../shared/contract/content.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import { ID, RESULT } from "./router_fixture.ts";
import { NOW, resultOf, testOpenai } from "./openai_fixture.ts";

/** What the endpoint makes of an answer with these candidates. */
async function completion(
  candidates: Candidate[] | undefined,
  verdict = RESULT.verdict,
  more: Record<string, unknown> = {},
) {
  const { chat } = testOpenai({ invoke: () => Promise.resolve(resultOf(candidates, { verdict })) });
  const response = await chat(more);
  return { status: response.status, body: await response.json(), headers: response.headers };
}

const said = (parts: Part[], finishReason = "STOP"): Candidate => ({
  content: { role: "model", parts },
  finishReason,
});

describe("a chat completion", () => {
  test("is all that OpenAI's clients read, thoughts apart from the text", async () => {
    const { body, status, headers } = await completion(RESULT.answer.candidates);
    expect(status).toBe(200);
    expect(body).toEqual({
      id: `chatcmpl-${ID}`,
      object: "chat.completion",
      created: NOW / 1000,
      model: "gemma-4-31b-it",
      choices: [{
        index: 0,
        message: {
          role: "assistant",
          content: "Концерт",
          refusal: null,
          reasoning_content: "Hmm",
          extra_content: { google: { thought_signature: "AA==" } },
        },
        logprobs: null,
        finish_reason: "stop",
        native_finish_reason: "STOP",
      }],
      usage: {
        prompt_tokens: 9,
        completion_tokens: 5,
        total_tokens: 14,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 2 },
      },
    });
    expect(headers.get("x-request-id")).toBe(ID);
    expect(headers.get("x-ratelimit-remaining-requests")).toBe("29");
    expect(headers.get("x-ratelimit-reset-tokens")).toBe("1m0s");
  });

  test("calls of tools carry their signature in a field and in the id", async () => {
    const { body } = await completion([said([
      { functionCall: { id: "x9", name: "f", args: { a: 1 } }, thoughtSignature: "c2ln" },
      { functionCall: { name: "g" } },
    ])]);
    expect(body.choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: {
        content: null,
        tool_calls: [
          {
            id: "call_g-x9__sig__c2ln",
            type: "function",
            function: { name: "f", arguments: '{"a":1}' },
            extra_content: { google: { thought_signature: "c2ln" } },
          },
          { id: "call_id2", type: "function", function: { name: "g", arguments: "{}" } },
        ],
      },
    });
  });

  test("one call at a time, where the client wants no parallel ones", async () => {
    const calls = said([{ functionCall: { name: "f" } }, { functionCall: { name: "g" } }]);
    const { body } = await completion([calls], undefined, { parallel_tool_calls: false });
    expect(body.choices[0].message.tool_calls).toHaveLength(1);
  });

  test("[openai.candidates] several choices, each with its own end", async () => {
    const { body } = await completion([
      said([{ text: "a" }]),
      said([{ text: "b" }], "MAX_TOKENS"),
      said([], "SAFETY"),
      said([], "MALFORMED_FUNCTION_CALL"),
    ]);
    expect(body.choices.map((choice: { finish_reason: string }) => choice.finish_reason)).toEqual([
      "stop",
      "length",
      "content_filter",
    ]);
  });

  test("[openai.stream-usage] usage that we counted ourselves is marked", async () => {
    const usage = { ...RESULT.usage, outputTokens: null, thoughtsTokens: null, estimated: true };
    const { chat } = testOpenai({ invoke: () => Promise.resolve({ ...RESULT, usage }) });
    expect((await (await chat()).json()).usage).toMatchObject({
      completion_tokens: 0,
      total_tokens: 9,
      estimated: true,
    });
  });

  test("a successor and a replay are named in headers", async () => {
    const { chat } = testOpenai({
      invoke: () => Promise.resolve({ ...RESULT, replaced: true, replayed: true, limits: null }),
    });
    const { headers } = await chat();
    expect([headers.get("x-eve-model"), headers.get("x-eve-replayed")]).toEqual([RESULT.model, "true"]);
  });
});

describe("what is no answer is reported as what it is", () => {
  test.each([
    ["a blocked prompt", undefined, "content_blocked", "PROHIBITED_CONTENT", "content_filter", null],
    [
      "a filtered answer",
      [said([{ text: "Ко" }], "SAFETY")],
      "content_blocked",
      "SAFETY",
      "content_filter",
      "Ко",
    ],
    [
      "thoughts that took all the room",
      [said([], "MAX_TOKENS")],
      "empty_answer",
      "MAX_TOKENS",
      "length",
      null,
    ],
  ])("%s", async (_, candidates, code, reason, finish, content) => {
    const verdict = { ok: false, code, reason } as typeof RESULT.verdict;
    const { status, body } = await completion(candidates, verdict);
    expect(status).toBe(200);
    expect(body.choices).toEqual([
      expect.objectContaining({ finish_reason: finish, native_finish_reason: reason }),
    ]);
    expect(body.choices[0].message.content).toBe(content);
  });

  test("[openai.cut-off] JSON that was cut off ends with length", async () => {
    const { body } = await completion([said([{ text: '{"title": "Конц' }], "MAX_TOKENS")]);
    expect(body.choices[0]).toMatchObject({
      finish_reason: "length",
      message: { content: '{"title": "Конц' },
    });
  });

  test("[openai.schema] JSON that breaks its schema is an error if the schema is strict", async () => {
    const verdict = { ok: false, code: "schema_mismatch", reason: "title: missing" } as typeof RESULT.verdict;
    const format = (strict: boolean) => ({
      response_format: {
        type: "json_schema",
        json_schema: { name: "s", strict, schema: { type: "object" } },
      },
    });
    const loose = await completion([said([{ text: "{}" }])], verdict, format(false));
    expect([loose.status, loose.body.choices[0].message.content]).toEqual([200, "{}"]);
    const strict = await completion([said([{ text: "{}" }])], verdict, format(true));
    expect([strict.status, strict.body.error.code]).toEqual([502, "schema_mismatch"]);
  });

  test.each([
    ["empty_answer", "STOP"],
    ["empty_answer", "NO_CANDIDATES"],
    ["answer_unusable", "MALFORMED_FUNCTION_CALL"],
  ])("[openai.empty] %s for %s is an error that clients try again", async (code, reason) => {
    const { status, body, headers } = await completion(
      [],
      { ok: false, code, reason } as typeof RESULT.verdict,
    );
    expect([status, headers.get("x-should-retry")]).toEqual([502, "true"]);
    expect(body.error).toMatchObject({ type: "server_error", code, eve: { code, details: { reason } } });
  });
});

describe("an error", () => {
  const refused = async (error: GatewayError) => {
    const response = await testOpenai({ invoke: () => Promise.reject(error) }).chat();
    return { status: response.status, headers: response.headers, error: (await response.json()).error };
  };

  test("is of the form that OpenAI's clients read, with our own code beside", async () => {
    const { status, headers, error } = await refused(
      new GatewayError("rate_limited", {
        message: "m: the limit of 30 requests a minute is used up.",
        retryAfterMs: 30_500,
        limits: RESULT.limits,
        details: { limit: "rpm" },
      }),
    );
    expect(status).toBe(429);
    expect(error).toEqual({
      message: "m: the limit of 30 requests a minute is used up.",
      type: "rate_limit_error",
      param: null,
      code: "rate_limit_exceeded",
      eve: { code: "rate_limited", retryable: true, request_id: ID, details: { limit: "rpm" } },
    });
    expect(headers.get("retry-after")).toBe("31");
    expect(headers.get("retry-after-ms")).toBe("30500");
    expect(headers.get("x-should-retry")).toBe("true");
    expect(headers.get("x-ratelimit-limit-requests")).toBe("30");
    expect(headers.get("x-request-id")).toBe(ID);
  });

  test.each(
    [
      ["unknown_model", 404, "invalid_request_error", "model_not_found", "model", null],
      ["prompt_too_large", 400, "invalid_request_error", "context_length_exceeded", null, null],
      ["body_too_large", 413, "invalid_request_error", "body_too_large", null, null],
      ["credential_invalid", 401, "authentication_error", "invalid_api_key", null, null],
      ["consumer_disabled", 403, "permission_error", "consumer_disabled", null, null],
      ["model_not_allowed", 403, "permission_error", "model_not_allowed", "model", null],
      ["budget_exhausted", 429, "insufficient_quota", "insufficient_quota", null, "false"],
      ["request_running", 409, "invalid_request_error", "request_running", null, "true"],
      ["request_finished", 409, "invalid_request_error", "request_finished", null, "false"],
      ["no_active_key", 503, "server_error", "no_active_key", null, "false"],
      ["upstream_unavailable", 503, "server_error", "upstream_unavailable", null, "true"],
    ] as const,
  )("%s is %d %s %s", async (code, status, type, theirs, param, retry) => {
    const { headers, ...got } = await refused(new GatewayError(code));
    expect(got).toMatchObject({ status, error: { type, code: theirs, param } });
    expect(headers.get("x-should-retry")).toBe(retry);
  });

  test("clients do not come back early for what lasts until midnight", async () => {
    const { headers } = await refused(new GatewayError("daily_limit", { retryAfterMs: 3_600_000 }));
    expect([headers.get("retry-after"), headers.get("x-should-retry")]).toEqual(["3600", "false"]);
  });

  test("an unknown one is not described", async () => {
    const { chat } = testOpenai({ invoke: () => Promise.reject(new Error("secret")) });
    const response = await chat();
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain("secret");
  });

  test("names the field that is wrong", async () => {
    const response = await testOpenai().chat({ logprobs: true });
    expect(response.status).toBe(400);
    expect((await response.json()).error).toMatchObject({
      type: "invalid_request_error",
      code: "invalid_request",
      param: "logprobs",
      message: expect.stringContaining("logprobs"),
    });
  });
});
