import { describe, expect, test } from "vitest";
import { geminiCountedPrompt, geminiPrompt } from "../../../shared/endpoints/gemini/request.ts";

const fault = (body: unknown) => {
  try {
    geminiPrompt(body);
  } catch (error) {
    return error as { code: string; publicMessage: string; details: unknown };
  }
  return expect.unreachable();
};

describe("a body is passed on whole", () => {
  test("with fields that nobody here knows, at every depth", () => {
    const body = {
      contents: [
        {
          role: "user",
          parts: [
            { text: "a", aFieldOfTomorrow: { x_y: 1 } },
            { inlineData: { mimeType: "image/png", data: "AA==", displayName: "poster" } },
            { fileData: { fileUri: "gs://x" }, videoMetadata: { fps: 1 } },
          ],
          another: true,
        },
        {
          role: "model",
          parts: [{ functionCall: { name: "f", args: { snake_case: 1 } }, thoughtSignature: "c2ln" }],
        },
        { role: "user", parts: [{ functionResponse: { name: "f", response: { other_key: [] } } }] },
      ],
      systemInstruction: { parts: [{ text: "Кратко." }] },
      tools: [{ functionDeclarations: [{ name: "f", parameters: { type: "OBJECT" } }] }, {
        googleSearch: {},
      }],
      toolConfig: { functionCallingConfig: { mode: "ANY" } },
      safetySettings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
      generationConfig: { temperature: 0, thinkingConfig: { thinkingLevel: "HIGH" }, ofTomorrow: 1 },
      cachedContent: "cachedContents/x",
      labels: { team_name: "events" },
      serviceTier: "flex",
    };
    expect(geminiPrompt(body)).toEqual(body);
  });

  test("but for the model's name, which the path tells", () => {
    const body = { model: "models/gemma-4-31b-it", contents: [{ parts: [{ text: "a" }] }] };
    expect(geminiPrompt(body)).toEqual({ contents: body.contents });
  });
});

describe("what scripts over REST write means the same", () => {
  test("fields in snake_case", () => {
    expect(geminiPrompt({
      contents: [{ parts: [{ inline_data: { mime_type: "image/png", data: "AA==" } }, { text: "b" }] }],
      system_instruction: { parts: [{ text: "Кратко." }] },
      generation_config: {
        max_output_tokens: 5,
        top_p: 0.9,
        response_mime_type: "application/json",
        response_schema: { type: "OBJECT", properties: { event_title: { type: "STRING", max_items: 1 } } },
        thinking_config: { thinking_budget: 0 },
      },
      safety_settings: [{ category: 7, threshold: 4 }],
      tool_config: { function_calling_config: { mode: "ANY", allowed_function_names: ["f"] } },
      tools: [{ function_declarations: [{ name: "find_events" }] }],
    })).toEqual({
      contents: [{ parts: [{ inlineData: { mimeType: "image/png", data: "AA==" } }, { text: "b" }] }],
      systemInstruction: { parts: [{ text: "Кратко." }] },
      generationConfig: {
        maxOutputTokens: 5,
        topP: 0.9,
        responseMimeType: "application/json",
        // The names inside a schema are the user's.
        responseSchema: { type: "OBJECT", properties: { event_title: { type: "STRING", max_items: 1 } } },
        thinkingConfig: { thinkingBudget: 0 },
      },
      safetySettings: [{ category: 7, threshold: 4 }],
      toolConfig: { functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["f"] } },
      tools: [{ functionDeclarations: [{ name: "find_events" }] }],
    });
  });

  test("one message where a list is meant", () => {
    expect(geminiPrompt({
      contents: { parts: { text: "a" } },
      system_instruction: { parts: { text: "b" } },
      tools: { google_search: {} },
    })).toEqual({
      contents: [{ parts: [{ text: "a" }] }],
      systemInstruction: { parts: [{ text: "b" }] },
      tools: [{ googleSearch: {} }],
    });
  });

  test("null is what is not set, but not in what belongs to the user", () => {
    expect(geminiPrompt({
      contents: [{
        role: null,
        parts: [{ text: null, functionCall: { name: "f", args: { city: null } }, thought: null }],
      }],
      tools: null,
      system_instruction: null,
      generation_config: { response_schema: null, top_k: null, seed: 1 },
    })).toEqual({
      contents: [{ parts: [{ functionCall: { name: "f", args: { city: null } } }] }],
      generationConfig: { seed: 1 },
    });
  });

  test("types of a schema as numbers", () => {
    const schemaOf = (responseSchema: unknown) =>
      geminiPrompt({ contents: [{ parts: [] }], generationConfig: { responseSchema } }).generationConfig;
    expect(schemaOf({
      type: 6,
      properties: {
        type: { type: 1 },
        list: { type: 5, items: { anyOf: [{ type: 2 }, { type: "STRING" }] } },
      },
      required: ["type"],
    })).toEqual({
      responseSchema: {
        type: "OBJECT",
        properties: {
          type: { type: "STRING" },
          list: { type: "ARRAY", items: { anyOf: [{ type: "NUMBER" }, { type: "STRING" }] } },
        },
        required: ["type"],
      },
    });
  });

  test("a field in both spellings is left for upstream to refuse", () => {
    const generationConfig = { _responseJsonSchema: {}, top_p: 1, topP: 0 };
    expect(geminiPrompt({ contents: [{ parts: [] }], generationConfig })).toEqual({
      contents: [{ parts: [] }],
      generationConfig,
    });
  });
});

describe("what cannot be a prompt is refused, the field named", () => {
  test.each<[unknown, string]>([
    [{}, "contents"],
    [{ contents: [] }, "contents"],
    [{ contents: "Привет" }, "contents"],
    [{ contents: ["Привет"] }, "contents[0]"],
    [{ contents: [{ parts: "Привет" }] }, "contents[0].parts"],
    [{ contents: [{ parts: [{ text: 5 }] }] }, "contents[0].parts[0].text"],
    [{ contents: [{ parts: [{ inline_data: { data: 5 } }] }] }, "contents[0].parts[0].inlineData.data"],
    [{ contents: [{ parts: [] }], systemInstruction: "Кратко." }, "systemInstruction"],
    [{ contents: [{ parts: [] }], generationConfig: [] }, "generationConfig"],
    [[], ""],
    ["Привет", ""],
  ])("%j", (body, field) => {
    expect(fault(body)).toMatchObject({
      code: "invalid_request",
      details: [expect.objectContaining({ field })],
    });
  });
});

describe("tokens are counted", () => {
  const prompt = { contents: [{ parts: [{ text: "a" }] }] };

  test("of contents, and of a whole request in either spelling", () => {
    expect(geminiCountedPrompt(prompt)).toEqual(prompt);
    expect(geminiCountedPrompt({ generateContentRequest: { model: "models/m", ...prompt } })).toEqual(prompt);
    expect(geminiCountedPrompt({ generate_content_request: prompt })).toEqual(prompt);
  });

  test("of nothing they are not", () => {
    expect(() => geminiCountedPrompt({ generateContentRequest: {} })).toThrow("contents");
    expect(() => geminiCountedPrompt({})).toThrow("contents");
  });
});
