/** `@ai-sdk/anthropic` under `ai`, which speaks the Messages API. */
import { createAnthropic } from "@ai-sdk/anthropic";
import {
  APICallError,
  generateText,
  isStepCount,
  jsonSchema,
  type ModelMessage,
  Output,
  streamText,
  tool,
} from "ai";
import { describe, expect, test } from "vitest";
import { BUSY_FOR_A_SECOND, GEMMA, PNG, SIGNING, type TestGateway } from "../test_gateway.ts";

export function aiSdkAnthropic(gateway: () => TestGateway): void {
  const provider = (more: Parameters<typeof createAnthropic>[0] = {}) =>
    createAnthropic({ apiKey: gateway().key, baseURL: `${gateway().baseUrl}/anthropic/v1`, ...more });
  const object = (field: string) => ({
    type: "object" as const,
    properties: { [field]: { type: "string" as const } },
    required: [field],
    additionalProperties: false,
  });
  const tools = {
    find_events: tool({
      description: "Looks up the events",
      inputSchema: jsonSchema<{ date: string }>(object("date")),
      execute: () => ({ found: "Лекция" }),
    }),
  };
  const ASKS = "Use find_events for 5 мая 2027 года";

  describe("@ai-sdk/anthropic", () => {
    test.each([GEMMA, SIGNING])(
      "[anthropic.tools] gets through the turns of a tool and of a second question",
      async (model) => {
        const messages: ModelMessage[] = [{ role: "user", content: ASKS }];
        const first = await generateText({
          model: provider()(model),
          tools,
          stopWhen: isStepCount(3),
          messages,
        });
        expect(first.text).toContain("Лекция");
        expect(first.steps).toHaveLength(2);
        messages.push(...first.response.messages, { role: "user", content: "Reply with exactly: yes" });
        const second = await generateText({ model: provider()(model), tools, messages });
        expect([second.text, second.finishReason]).toEqual(["yes", "stop"]);
        expect(second.usage.inputTokens).toBeGreaterThan(0);
      },
    );

    test("[anthropic.stream anthropic.thinking] streams through the same turns, with thoughts", async () => {
      const result = streamText({
        model: provider()(SIGNING),
        tools,
        stopWhen: isStepCount(3),
        prompt: ASKS,
        providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: 1_024 } } },
      });
      const kinds = new Set<string>();
      for await (const { type } of result.fullStream) kinds.add(type);
      expect(await result.text).toContain("Лекция");
      expect([...kinds]).toEqual(expect.arrayContaining(["reasoning-delta", "tool-call", "tool-result"]));
      expect(kinds).not.toContain("error");
    });

    test("[anthropic.schema anthropic.media anthropic.system] gets an object of a schema, from a picture", async () => {
      const { output } = await generateText({
        model: provider()(GEMMA),
        system: "Be brief.",
        messages: [{
          role: "user",
          content: [
            { type: "text", text: "Концерт 14 февраля в 19:00 в Доме офицеров" },
            { type: "file", data: PNG, mediaType: "image/png" },
          ],
        }],
        output: Output.object({ schema: jsonSchema<{ date: string }>(object("date")) }),
      });
      expect(output).toEqual({ date: expect.any(String) });
    });

    test("[anthropic.errors anthropic.quota] is refused for a bad key, and comes back after a 429", async () => {
      const refused = generateText({ model: provider({ apiKey: "no-key" })(GEMMA), prompt: "Hello" });
      await expect(refused).rejects.toMatchObject({ statusCode: 401, isRetryable: false });
      await expect(refused).rejects.toBeInstanceOf(APICallError);
      await gateway().faults(BUSY_FOR_A_SECOND);
      const stopping = await gateway().stoppingClock();
      const { text } = await generateText({
        model: provider({ fetch: stopping, headers: { "x-eve-mode": "no_wait" } })(GEMMA),
        prompt: "Reply with exactly: yes",
        maxRetries: 4,
      });
      expect(text).toBe("yes");
    });

    test("[anthropic.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const errors: unknown[] = [];
      const { fullStream } = streamText({
        model: provider()(SIGNING),
        prompt: "Write 200 words about a concert",
        onError: ({ error }) => void errors.push(error),
      });
      for await (const _ of fullStream);
      expect(JSON.stringify(errors)).toContain("overloaded_error");
    });
  });
}
