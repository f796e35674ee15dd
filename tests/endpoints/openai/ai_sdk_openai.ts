/** `@ai-sdk/openai` under `ai`, which speaks the Responses API and lets the server keep what was said. */
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, jsonSchema, type ModelMessage, streamText, tool } from "ai";
import { describe, expect, test } from "vitest";
import { SIGNING, type TestGateway } from "../test_gateway.ts";

export function aiSdkOpenai(gateway: () => TestGateway): void {
  const provider = (sending: typeof fetch = fetch) =>
    createOpenAI({ apiKey: gateway().key, baseURL: `${gateway().baseUrl}/openai/v1`, fetch: sending });
  const tools = {
    find_events: tool({
      description: "Looks up the events",
      inputSchema: jsonSchema<{ date: string }>({
        type: "object",
        properties: { date: { type: "string" } },
        required: ["date"],
        additionalProperties: false,
      }),
      execute: () => ({ found: "Лекция" }),
    }),
  };
  const ASKS = "Use find_events for 5 мая 2027 года";

  describe("@ai-sdk/openai", () => {
    test("[openai.response-store] gets through the turns of a tool and of a second question", async () => {
      const sent: string[] = [];
      const model = provider((url, init) => {
        sent.push(String(init?.body));
        return fetch(url, init);
      })(SIGNING);
      const messages: ModelMessage[] = [{ role: "user", content: ASKS }];
      const first = await generateText({ model, tools, stopWhen: isStepCount(3), messages });
      expect(first.text).toContain("Лекция");
      expect(first.steps).toHaveLength(2);
      messages.push(...first.response.messages, { role: "user", content: "Reply with exactly: yes" });
      expect((await generateText({ model, tools, messages })).text).toBe("yes");
      // What was said goes by its name.
      expect(sent.at(-1)).toContain('"type":"item_reference"');
      expect(JSON.stringify((await gateway().bodies()).at(-1))).toContain(first.text.slice(0, 10));
    });

    test("[openai.response-store] streams through the same turns, and goes on by the response's id", async () => {
      const model = provider()(SIGNING);
      const first = streamText({ model, tools, stopWhen: isStepCount(3), prompt: ASKS });
      expect(await first.text).toContain("Лекция");
      const { openai } = (await first.finalStep).providerMetadata as { openai: { responseId: string } };
      const second = await generateText({
        model,
        prompt: "Reply with exactly: yes",
        providerOptions: { openai: { previousResponseId: openai.responseId } },
      });
      expect(second.text).toBe("yes");
      const bodies = await gateway().bodies();
      expect(JSON.stringify(bodies.at(-1))).toContain("find_events");
    });

    test("[openai.stream-error] meets an error in the middle of a stream as an error", async () => {
      await gateway().faults({ kind: "mid_stream_error", afterChunks: 2, error: "overloaded" });
      const errors: unknown[] = [];
      const { fullStream } = streamText({
        model: provider()(SIGNING),
        prompt: "Write 200 words about a concert",
        onError: ({ error }) => void errors.push(error),
      });
      for await (const _ of fullStream);
      expect(JSON.stringify(errors)).toContain("upstream_unavailable");
    });
  });
}
