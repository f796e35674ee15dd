/** `@openai/agents`, whose agents speak the Responses API. */
import { Agent, type AgentInputItem, OpenAIProvider, Runner, tool } from "@openai/agents";
import { describe, expect, test } from "vitest";
import { SIGNING, type TestGateway } from "../gemini/gemini_stack.ts";

export function agents(gateway: () => TestGateway): void {
  const runner = () =>
    new Runner({
      modelProvider: new OpenAIProvider({
        apiKey: gateway().key,
        baseURL: `${gateway().baseUrl}/openai/v1`,
        useResponses: true,
      }),
      tracingDisabled: true,
    });
  const agent = () =>
    new Agent({
      name: "Guide",
      instructions: "Be brief.",
      model: SIGNING,
      tools: [tool({
        name: "find_events",
        description: "Looks up the events",
        parameters: {
          type: "object",
          properties: { date: { type: "string" } },
          required: ["date"],
          additionalProperties: false,
        },
        strict: true,
        execute: () => "Лекция",
      })],
    });
  const ASKS = "Use find_events for 5 мая 2027 года";

  describe("@openai/agents", () => {
    test("[openai.responses] runs an agent with a tool, and a second turn with its history", async () => {
      const first = await runner().run(agent(), ASKS);
      expect(first.finalOutput).toContain("Лекция");
      const history: AgentInputItem[] = [...first.history, {
        role: "user",
        content: "Reply with exactly: yes",
      }];
      expect((await runner().run(agent(), history)).finalOutput).toBe("yes");
    });

    test("[openai.response-store] streams an agent, and goes on by the response's id", async () => {
      const first = await runner().run(agent(), ASKS, { stream: true });
      for await (const _ of first);
      expect(first.finalOutput).toContain("Лекция");
      const second = await runner().run(agent(), "Reply with exactly: yes", {
        previousResponseId: first.lastResponseId!,
      });
      expect(second.finalOutput).toBe("yes");
    });
  });
}
