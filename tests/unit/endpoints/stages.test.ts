/** A stage in the place of a model: looked up once, whichever endpoint the call comes through. */
import { describe, expect, test } from "vitest";
import { systemClock } from "../../../shared/runtime/clock.ts";
import type { EmbedRequest } from "../../../shared/contract/embedding.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import type { ServedBy, Target } from "../../../shared/contract/target.ts";
import { geminiEndpoint } from "../../../shared/endpoints/gemini/endpoint.ts";
import { nativeEndpoint } from "../../../shared/endpoints/native/endpoint.ts";
import { openaiEndpoint } from "../../../shared/endpoints/openai/endpoint.ts";
import { RESULT, testRouter } from "./router_fixture.ts";

const POEM: ServedBy = {
  models: ["stage:POEM"],
  excludeKeys: ["key-of-song"],
  stage: { stageType: "POEM", produces: "text", source: "environment", providerKind: "openai" },
};
const messages = [{ role: "user", content: "?" }];
const content = { parts: [{ text: "?" }] };

function allEndpoints() {
  const targets: Target[] = [];
  const served: (GatewayRequest | EmbedRequest)[] = [];
  const maxWaitMs = 100_000;
  const gateway: Partial<Gateway> = {
    invoke(request) {
      served.push(request);
      return Promise.resolve(RESULT);
    },
    async *stream(request) {
      served.push(request);
      yield { type: "delta", chunk: RESULT.answer };
      yield { type: "done", result: RESULT };
    },
    embed(request) {
      served.push(request);
      return Promise.resolve({
        ...RESULT,
        embeddings: [{ values: [1] }],
        usage: { inputTokens: 1, estimated: true },
      });
    },
  };
  const { post } = testRouter(undefined, {
    endpoints: [
      nativeEndpoint({ maxWaitMs }),
      geminiEndpoint({ maxWaitMs }),
      openaiEndpoint({ maxWaitMs, clock: systemClock, fetch, now: () => 0, newId: () => "id" }),
    ],
    resolve(target, caller) {
      expect(caller.name).toBe("default");
      targets.push(target);
      return Promise.resolve(POEM);
    },
  }, gateway);
  return { targets, served, post };
}

describe("is looked up once, and what it is served by goes to the gateway", () => {
  const native = "/llm-invoke";
  const openai = `${native}/openai/v1`;
  const gemini = `${native}/v1beta/models/stage:POEM`;
  test.each<[string, string, Record<string, unknown>]>([
    ["native, by its field", native, { stage: "poem", prompt: "?" }],
    ["native, in the place of a model", native, { model: "stage:POEM", prompt: "?" }],
    ["native, as a stream", native, { stage: "poem", prompt: "?", stream: true }],
    ["OpenAI's chat", `${openai}/chat/completions`, { model: "stage:poem", messages }],
    ["OpenAI's chat, as a stream", `${openai}/chat/completions`, {
      model: "stage:POEM",
      messages,
      stream: true,
    }],
    ["OpenAI's responses", `${openai}/responses`, { model: "stage:POEM", input: "?" }],
    ["OpenAI's embeddings", `${openai}/embeddings`, { model: "stage:POEM", input: "?" }],
    ["Gemini", `${gemini}:generateContent`, { contents: [content] }],
    ["Gemini, as a stream", `${gemini}:streamGenerateContent`, { contents: [content] }],
    ["Gemini's embedContent", `${gemini}:embedContent`, { content }],
    ["Gemini's batchEmbedContents", `${gemini}:batchEmbedContents`, { requests: [{ content }] }],
  ])("%s", async (_, path, body) => {
    const { targets, served, post } = allEndpoints();
    const response = await post(body, path);
    expect(response.status).toBe(200);
    await response.text();
    expect(targets).toEqual([{ kind: "stage", stageType: "POEM" }]);
    expect(served).toEqual([expect.objectContaining(POEM)]);
  });

  test.each<[string, string, Record<string, unknown>]>([
    ["native", native, { stage: "poem" }],
    ["OpenAI's chat", `${openai}/chat/completions`, { model: "stage:POEM", messages: [] }],
    ["OpenAI's embeddings", `${openai}/embeddings`, { model: "stage:POEM", input: [] }],
    ["Gemini", `${gemini}:generateContent`, { contents: [] }],
    ["Gemini's embedContent", `${gemini}:embedContent`, {}],
  ])("%s: not for a body that is refused", async (_, path, body) => {
    const { targets, post } = allEndpoints();
    expect((await post(body, path)).status).toBe(400);
    expect(targets).toEqual([]);
  });
});
