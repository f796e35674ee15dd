/** How long an answer may be where a budget bounds it: what is reserved, what goes upstream, and what the caller is told. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { GenerationConfig } from "../../../shared/contract/content.ts";
import {
  outputAsked,
  outputLoweredTo,
  withOutputLimit,
} from "../../../shared/gateway/answers/output_limit.ts";
import { chatBody } from "../../../shared/providers/openai/request.ts";
import { gigachatBody } from "../../../shared/providers/gigachat/request.ts";
import { completionBody } from "../../../shared/providers/yandex/yandexgpt_request.ts";
import { ANSWER, grant, REQUEST, scriptedGateway } from "./gateway_fixture.ts";

const prompt = (generationConfig?: GenerationConfig) => ({ ...REQUEST.prompt, generationConfig });
const capabilities = grant().capabilities;

describe("the longest answer", () => {
  test.each([
    [undefined, null],
    [{ maxOutputTokens: 100 }, 100],
    [{ maxOutputTokens: "100" }, 100],
    [{ max_output_tokens: 100, candidate_count: 3 }, 300],
    [{ maxOutputTokens: 100, candidateCount: 4 }, 400],
    [{ maxOutputTokens: 2_000_000_000, candidateCount: 8 }, 2_147_483_647],
    [{ maxOutputTokens: -5 }, null],
    [{ maxOutputTokens: "many" }, null],
  ])("that %j asks for is reserved: %j", (config, most) => {
    expect(outputAsked(prompt(config))).toBe(most);
  });

  test("is never longer, over all candidates, than what was reserved, whatever was asked", () => {
    const number = fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: 9 }).map(String));
    const config = fc.record({
      maxOutputTokens: number,
      max_output_tokens: number,
      candidateCount: number,
      candidate_count: number,
      temperature: fc.double(),
    }, { requiredKeys: [] });
    fc.assert(fc.property(config, fc.integer({ min: 1, max: 100_000 }), (asked, allowed) => {
      const limited = withOutputLimit(prompt(asked), allowed).generationConfig!;
      expect(limited).not.toHaveProperty("max_output_tokens");
      expect(limited).not.toHaveProperty("candidate_count");
      const count = Number(limited.candidateCount ?? 1);
      expect(count * Number(limited.maxOutputTokens)).toBeLessThanOrEqual(allowed);
      expect(limited.temperature).toBe(asked.temperature);
    }));
  });

  test("without a budget is the caller's own affair", () => {
    const asked = prompt({ maxOutputTokens: 5, thinkingConfig: { thinkingBudget: 100 } });
    expect(withOutputLimit(asked, null)).toBe(asked);
  });

  test("leaves thoughts no more than the whole", () => {
    const { generationConfig } = withOutputLimit(
      prompt({ thinkingConfig: { thinkingBudget: 4_000, includeThoughts: true } }),
      300,
    );
    expect(generationConfig).toEqual({
      maxOutputTokens: 300,
      thinkingConfig: { thinkingBudget: 300, includeThoughts: true },
    });
    expect(withOutputLimit(prompt({ thinkingConfig: { thinkingBudget: -1 } }), 300).generationConfig)
      .toMatchObject({ thinkingConfig: { thinkingBudget: -1 } });
  });

  test("[native.budget] reaches every kind of provider in its own words", () => {
    const limited = withOutputLimit(prompt({ maxOutputTokens: 900 }), 70);
    expect(chatBody(limited, "m", { maxTokensField: "max_tokens" }).max_tokens).toBe(70);
    expect(chatBody(limited, "m", { maxTokensField: "max_completion_tokens" }).max_completion_tokens).toBe(
      70,
    );
    expect(gigachatBody(limited, "m").max_tokens).toBe(70);
    expect(completionBody(limited, "gpt://f/m", false).completionOptions).toMatchObject({ maxTokens: "70" });
  });
});

describe("the caller is told", () => {
  test.each([
    ["less than was asked for", 100, 40, null, 40],
    ["all that was asked for", 100, 100, null, null],
    ["no budget", 100, null, null, null],
    ["less than the model's own limit", undefined, 40, 8_192, 40],
    ["the model's own limit", undefined, 8_192, 8_192, null],
    ["a limit where the model has none that we know", undefined, 8_192, null, 8_192],
  ])("of %s", (_, asked, allowed, own, lowered) => {
    const given = prompt(asked === undefined ? undefined : { maxOutputTokens: asked });
    const wanted = { maxOutputTokens: allowed, capabilities: { ...capabilities, maxOutputTokens: own } };
    expect(outputLoweredTo(given, wanted)).toBe(lowered);
  });

  test("what goes upstream is what the grant allows, and the reservation what was asked for", async () => {
    const set = scriptedGateway({ reservations: [grant({ maxOutputTokens: 64 })] });
    const result = await set.invoke({ prompt: prompt({ maxOutputTokens: 500 }) });
    expect(set.reserved).toMatchObject([{ maxOutputTokens: 500 }]);
    expect(set.calls[0]!.prompt.generationConfig).toEqual({ maxOutputTokens: 64 });
    expect(result).toMatchObject({ outputLoweredTo: 64, answer: ANSWER.answer });
  });

  test("so is a stream's start", async () => {
    const set = scriptedGateway({ reservations: [grant({ maxOutputTokens: 64 })] });
    const lowered: unknown[] = [];
    const request = { ...REQUEST, prompt: prompt({ maxOutputTokens: 500 }) };
    for await (const event of set.gateway.stream(request, set.context())) {
      if (event.type === "started") lowered.push(event.outputLoweredTo);
      if (event.type === "done") lowered.push(event.result.outputLoweredTo);
    }
    expect(lowered).toEqual([64, 64]);
    expect(set.calls[0]!.prompt.generationConfig).toEqual({ maxOutputTokens: 64 });
  });

  test("an embedding writes nothing, and reserves nothing for it", async () => {
    const set = scriptedGateway({ reservations: [grant()] });
    await set.gateway.embed({
      ...REQUEST,
      models: ["gemini-embedding-001"],
      items: [{ content: { parts: [{ text: "a" }] } }],
    } as never, set.context());
    expect(set.reserved).toMatchObject([{ maxOutputTokens: 0 }]);
  });
});
