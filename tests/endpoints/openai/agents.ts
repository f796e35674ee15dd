/** `@openai/agents`, whose agents speak the Responses API. */
import { Agent, type AgentInputItem, MemorySession, OpenAIProvider, Runner, tool } from "@openai/agents";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { GEMMA, SIGNING, type TestGateway } from "../test_gateway.ts";

export function agents(gateway: () => TestGateway): void {
  const runner = (useResponses = true) =>
    new Runner({
      modelProvider: new OpenAIProvider({
        apiKey: gateway().key,
        baseURL: `${gateway().baseUrl}/openai/v1`,
        useResponses,
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
    test("[openai.responses] hands a conversation over to another agent, which runs its own tool", async () => {
      const guide = agent().clone({ modelSettings: { toolChoice: "required" } });
      const front = new Agent({
        name: "Front",
        instructions: "Hand over.",
        model: GEMMA,
        handoffs: [guide],
        modelSettings: { toolChoice: "required" },
      });
      for (const useResponses of [true, false]) {
        const result = await runner(useResponses).run(front, ASKS, { maxTurns: 5 });
        expect(result.lastAgent?.name).toBe("Guide");
        expect(result.finalOutput).toContain("Лекция");
        const kinds = result.newItems.map(({ type }) => type);
        expect(kinds.slice(0, 2)).toEqual(["handoff_call_item", "handoff_output_item"]);
      }
    });

    test("[openai.responses] keeps a session, and gives an object of a schema", async () => {
      const session = new MemorySession();
      const first = await runner().run(agent(), ASKS, { session });
      expect(first.finalOutput).toContain("Лекция");
      const dated = new Agent({
        name: "Dated",
        model: SIGNING,
        outputType: z.object({ date: z.string() }),
      });
      const second = await runner().run(dated, "Концерт 14 февраля в 19:00", { session });
      expect(second.finalOutput).toEqual({ date: expect.any(String) });
      expect((await session.getItems()).length).toBeGreaterThan(4);
    });

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
