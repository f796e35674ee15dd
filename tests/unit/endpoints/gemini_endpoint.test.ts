import { describe, expect, test } from "vitest";
import type { EmbedRequest } from "../../../shared/contract/embedding.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { ModelInfo } from "../../../shared/contract/model_info.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { geminiEndpoint } from "../../../shared/endpoints/gemini/endpoint.ts";
import { ID, RESULT, testRouter } from "./router_fixture.ts";

const MODEL = "gemma-4-31b-it";
const PROMPT = { contents: [{ role: "user", parts: [{ text: "Что сегодня?" }] }] };

interface Init {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
}

/** The Gemini endpoint with a gateway behind it. */
function endpoint(
  answer?: (request: GatewayRequest) => Promise<GatewayResult>,
  behind: Partial<Gateway> = {},
) {
  const { asked, receive } = testRouter(
    answer,
    { endpoints: [geminiEndpoint({ maxWaitMs: 100_000 })] },
    behind,
  );
  return {
    asked,
    ask: (path: string, { method, body, headers }: Init = {}) =>
      receive(
        new Request(`http://gateway/llm-invoke${path}`, {
          method: method ?? (body === undefined ? "GET" : "POST"),
          headers,
          body: body === undefined ? undefined : JSON.stringify(body),
        }),
      ),
  };
}

const generate = `/v1beta/models/${MODEL}:generateContent`;

describe("generateContent", () => {
  test("hands on the prompt and gives back the model's body, field for field", async () => {
    const answer = {
      candidates: [{
        content: { role: "model", parts: [{ text: "a", thoughtSignature: "c2ln" }, { inlineData: {} }] },
        finishReason: "STOP",
        groundingMetadata: { webSearchQueries: ["a"] },
        ofTomorrow: 1,
      }],
      usageMetadata: { promptTokenCount: 3, serviceTier: "x" },
      responseId: "r",
    };
    const { ask, asked } = endpoint(() => Promise.resolve({ ...RESULT, answer }));
    const response = await ask(generate, { body: { ...PROMPT, labels: { team: "a" } } });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(answer);
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("29");
    expect(asked).toEqual([{
      id: ID,
      idIsClients: false,
      endpoint: "gemini",
      models: [MODEL],
      excludeKeys: [],
      stage: null,
      class: "interactive",
      maxWaitMs: 30_000,
      metadata: {},
      traceId: null,
      capture: null,
      prompt: { ...PROMPT, labels: { team: "a" } },
    }]);
  });

  test.each<[string, Record<string, string>, Record<string, unknown>]>([
    ["", { "x-eve-mode": "no_wait" }, { maxWaitMs: 0 }],
    ["", { "x-eve-max-wait-ms": "90000", "x-eve-class": "batch" }, { maxWaitMs: 90_000, class: "batch" }],
    ["?x-eve-request-id=event-42", {}, { id: "event-42", idIsClients: true }],
    ["", { "x-eve-capture": "true" }, { capture: true }],
    // Google's clients tell their time limit: half of it may pass with waiting.
    ["", { "x-server-timeout": "20" }, { maxWaitMs: 10_000 }],
    ["", { "x-server-timeout": "600" }, { maxWaitMs: 30_000 }],
    ["", { "x-server-timeout": "soon" }, { maxWaitMs: 30_000 }],
  ])("%s %j", async (query, headers, expected) => {
    const { ask, asked } = endpoint();
    const response = await ask(`${generate}${query}`, { body: PROMPT, headers });
    expect(response.status).toBe(200);
    expect(asked[0]).toMatchObject(expected);
    expect(response.headers.get("x-eve-request-id")).toBe(asked[0]!.id);
  });

  test.each(["SAFETY", "MALFORMED_FUNCTION_CALL", "MAX_TOKENS"])(
    "an answer that ended for %s is the model's own, with status 200",
    async (reason) => {
      const code = reason === "SAFETY" ? "content_blocked" : "empty_answer";
      const answer = { candidates: [{ finishReason: reason }] };
      const { ask } = endpoint(() =>
        Promise.resolve({
          ...RESULT,
          answer,
          verdict: {
            ok: false,
            code: reason === "MALFORMED_FUNCTION_CALL" ? "answer_unusable" : code,
            reason,
          },
        })
      );
      const response = await ask(generate, { body: PROMPT });
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual(answer);
      expect(response.headers.get("x-eve-verdict")).toMatch(/content_blocked|answer_unusable|empty_answer/);
    },
  );

  test("an empty answer without a reason is an error", async () => {
    const { ask } = endpoint(() =>
      Promise.resolve({ ...RESULT, verdict: { ok: false, code: "empty_answer", reason: "STOP" } })
    );
    const response = await ask(generate, { body: PROMPT });
    expect(response.status).toBe(502);
    expect((await response.json()).error).toMatchObject({ code: 502, status: "UNAVAILABLE" });
  });
});

describe("models", () => {
  const info = (model: string, more: Partial<ModelInfo> = {}): ModelInfo => ({
    model,
    replacedBy: null,
    provider: "google",
    rpm: 30,
    tpm: 16_000,
    rpd: 14_400,
    capabilities: { system: true, json: true, tools: true, thinking: true },
    maxOutputTokens: 32_768,
    createdAt: null,
    ...more,
  });
  const { ask } = endpoint(undefined, {
    models: () =>
      Promise.resolve([
        info(MODEL),
        info("gemma-3-27b", { replacedBy: MODEL, tpm: null, maxOutputTokens: null }),
        info("gemini-embedding-001", {
          capabilities: { system: false, json: false, tools: false, thinking: false },
        }),
      ]),
  });
  const list = async (query: string) => await (await ask(`/v1/models${query}`)).json();

  test("are described as Google describes them", async () => {
    expect(await (await ask(`/v1beta/models/${MODEL}`)).json()).toEqual({
      name: `models/${MODEL}`,
      baseModelId: MODEL,
      displayName: MODEL,
      description: "Served through EVE Gateway.",
      inputTokenLimit: 16_000,
      outputTokenLimit: 32_768,
      supportedGenerationMethods: ["generateContent", "countTokens"],
      thinking: true,
    });
  });

  test("come in pages", async () => {
    const first = await list("?pageSize=2");
    expect(first.models.map(({ name }: { name: string }) => name)).toEqual([
      `models/${MODEL}`,
      "models/gemma-3-27b",
    ]);
    expect(await list(`?page_size=2&pageToken=${first.nextPageToken}`)).toEqual({
      models: [expect.objectContaining({ supportedGenerationMethods: ["embedContent", "countTokens"] })],
    });
    expect((await list("")).models).toHaveLength(3);
    expect((await list("?pageSize=many")).error).toMatchObject({ code: 400 });
  });

  test("that are not there are not found, in Google's words", async () => {
    const response = await ask("/v1beta/models/gemini-0");
    expect(response.status).toBe(404);
    expect((await response.json()).error).toMatchObject({
      code: 404,
      status: "NOT_FOUND",
      message: expect.stringContaining("models/gemini-0"),
    });
  });
});

describe("embeddings", () => {
  function embedder() {
    const embedded: EmbedRequest[] = [];
    const { ask } = endpoint(undefined, {
      embed: (request) => {
        embedded.push(request);
        return Promise.resolve({
          ...RESULT,
          requestId: request.id,
          embeddings: request.items.map((_, index) => ({ values: [index] })),
          usage: { inputTokens: 3, estimated: true },
        });
      },
    });
    return { embedded, ask };
  }
  const path = "/v1beta/models/gemini-embedding-001";
  const content = { parts: [{ text: "концерт" }] };

  test("one", async () => {
    const { ask, embedded } = embedder();
    const response = await ask(`${path}:embedContent`, {
      body: {
        model: "models/gemini-embedding-001",
        content: { parts: { text: "концерт" } },
        task_type: 1,
        output_dimensionality: 256,
        ofTomorrow: true,
      },
    });
    expect(await response.json()).toEqual({ embedding: { values: [0] } });
    expect(embedded[0]?.items).toEqual([
      { content, taskType: 1, outputDimensionality: 256, ofTomorrow: true },
    ]);
  });

  test("a batch, in its order", async () => {
    const { ask, embedded } = embedder();
    const response = await ask(`${path}:batchEmbedContents`, {
      body: { requests: [{ model: "models/gemini-embedding-001", content }, { content }] },
    });
    expect(await response.json()).toEqual({ embeddings: [{ values: [0] }, { values: [1] }] });
    expect(embedded[0]?.items).toHaveLength(2);
  });

  test.each<[string, unknown, string]>([
    ["embedContent", {}, "content"],
    ["embedContent", { content, model: "models/other" }, "model"],
    ["batchEmbedContents", {}, "requests"],
    ["batchEmbedContents", { requests: [] }, "requests"],
    ["batchEmbedContents", { requests: Array(101).fill({ content }) }, "requests"],
    [
      "batchEmbedContents",
      { requests: [{ content }, { content, model: "models/other" }] },
      "requests[1].model",
    ],
  ])("%s %#: what cannot be embedded is refused", async (method, body, field) => {
    const { ask, embedded } = embedder();
    const response = await ask(`${path}:${method}`, { body });
    expect(response.status).toBe(400);
    expect(JSON.stringify(await response.json())).toContain(`"field":"${field}"`);
    expect(embedded).toHaveLength(0);
  });
});

test("tokens are counted without a call", async () => {
  const { ask, asked } = endpoint(undefined, {
    countTokens: ({ prompt }) => {
      expect(prompt).toEqual(PROMPT);
      return Promise.resolve({ totalTokens: 7, estimated: true });
    },
  });
  const response = await ask(`/v1/models/${MODEL}:countTokens`, {
    body: { generateContentRequest: { model: `models/${MODEL}`, ...PROMPT } },
  });
  expect(await response.json()).toEqual({ totalTokens: 7 });
  expect(asked).toHaveLength(0);
});

describe("what goes wrong is reported in Google's form", () => {
  test.each<[string, string, Init, number, string]>([
    ["an address of other parts of the API", "/v1beta/files", {}, 404, "NOT_FOUND"],
    ["a method that models lack", `/v1beta/models/${MODEL}:predict`, { body: {} }, 404, "NOT_FOUND"],
    ["a GET where a POST belongs", generate, {}, 405, "UNIMPLEMENTED"],
    ["a body that is no JSON", generate, { method: "POST" }, 400, "INVALID_ARGUMENT"],
    ["an unknown format", `${generate}?alt=proto`, { body: PROMPT }, 400, "INVALID_ARGUMENT"],
    [
      "an unknown option",
      generate,
      { body: PROMPT, headers: { "x-eve-mode": "soon" } },
      400,
      "INVALID_ARGUMENT",
    ],
    ["a body above the cap", generate, { body: { contents: "x".repeat(100_001) } }, 413, "INVALID_ARGUMENT"],
  ])("%s", async (_, path, init, status, name) => {
    const { ask, asked } = endpoint();
    const response = await ask(path, init);
    expect(response.status).toBe(status);
    expect((await response.json()).error).toMatchObject({
      code: status,
      status: name,
      details: expect.arrayContaining([
        expect.objectContaining({ "@type": "type.googleapis.com/google.rpc.ErrorInfo" }),
      ]),
    });
    expect(asked).toHaveLength(0);
  });

  test.each([
    ["/v1beta/interactions", "Interactions are not offered here"],
    ["/v1beta/interactions/abc", "Interactions are not offered here"],
    [
      "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
      "Live is not offered here",
    ],
    ["/v1beta/auth_tokens", "Live is not offered here"],
  ])("%s is refused in words", async (path, words) => {
    const response = await endpoint().ask(path, {});
    expect([response.status, (await response.json()).error.message]).toEqual([
      404,
      expect.stringContaining(words),
    ]);
  });

  test("a stream that fails before its first chunk is an error, not a stream", async () => {
    const { ask } = endpoint(undefined, {
      stream: async function* () {
        yield await Promise.reject(new GatewayError("rate_limited", { retryAfterMs: 5_000 }));
      },
    });
    const response = await ask(`/v1beta/models/${MODEL}:streamGenerateContent`, { body: PROMPT });
    expect(response.status).toBe(429);
    // No array: Python's client breaks on one.
    expect((await response.json()).error).toMatchObject({ code: 429 });
  });
});
