/** Clients whose base URL ends elsewhere, and names of models as other gateways have them. */
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { GEMMA, type TestGateway } from "../test_gateway.ts";

export function aliases(gateway: () => TestGateway): void {
  describe("aliases", () => {
    test.each(["/v1beta/openai", "/v1", "", "/openai", "/openai/v1"])(
      "[openai.aliases] openai works at %s",
      async (path) => {
        const client = new OpenAI({
          apiKey: gateway().key,
          baseURL: `${gateway().baseUrl}${path}`,
          maxRetries: 0,
        });
        const answer = await client.chat.completions.create({
          model: `google/${GEMMA}`,
          messages: [{ role: "user", content: "Reply with exactly: концерт" }],
        });
        expect(answer.choices[0]?.message.content).toBe("концерт");
        expect(answer.model).toBe(GEMMA);
        expect((await client.models.list()).data.map(({ id }) => id)).toContain(GEMMA);
        expect((await client.models.retrieve(`models/${GEMMA}`)).object).toBe("model");
      },
    );

    test("[openai.aliases gemini.aliases] @google/genai works on v1alpha, with either prefix", async () => {
      const client = new GoogleGenAI({
        apiKey: gateway().key,
        apiVersion: "v1alpha",
        httpOptions: { baseUrl: gateway().baseUrl },
      });
      for (const model of [GEMMA, `google/${GEMMA}`, `models/gemini/${GEMMA}`]) {
        const answer = await client.models.generateContent({
          model,
          contents: "Reply with exactly: концерт",
        });
        expect(answer.text, model).toBe("концерт");
      }
    });
  });
}
