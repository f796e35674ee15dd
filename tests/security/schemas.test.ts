/** What a notebook's token can do with a JSON schema: nothing that anybody else would notice. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Actors, MODEL, startWithActors } from "./actors.ts";

let actors: Actors;
beforeAll(async () => {
  actors = await startWithActors();
});
afterAll(() => actors?.stop());

async function send(path: string, body: unknown): Promise<{ status: number; text: string }> {
  const response = await fetch(`${actors.stack.url}/functions/v1/llm-invoke${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...actors.headers["notebook token"] },
    body: JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

type Schema = Record<string, unknown>;
const contents = [{ role: "user", parts: [{ text: "Hello" }] }];
const messages = [{ role: "user", content: "Hello" }];

/** Every field that takes a schema for the answer, by where it is. */
const WAYS: Record<string, (schema: Schema) => Promise<{ status: number; text: string }>> = {
  "response_schema": (schema) => send("", { model: MODEL, prompt: "Hello", response_schema: schema }),
  "response_format.json_schema.schema": (schema) =>
    send("/openai/v1/chat/completions", {
      model: MODEL,
      messages,
      response_format: { type: "json_schema", json_schema: { name: "a", strict: true, schema } },
    }),
  "text.format.schema": (schema) =>
    send("/openai/v1/responses", {
      model: MODEL,
      input: "Hello",
      text: { format: { type: "json_schema", name: "a", strict: true, schema } },
    }),
  "output_config.format.schema": (schema) =>
    send("/anthropic/v1/messages", {
      model: MODEL,
      max_tokens: 1_000,
      messages,
      output_config: { format: { type: "json_schema", schema } },
    }),
  "generationConfig.responseSchema": (schema) =>
    send(`/v1beta/models/${MODEL}:generateContent`, {
      contents,
      generationConfig: { responseMimeType: "application/json", responseSchema: schema },
    }),
  "generationConfig.responseJsonSchema": (schema) =>
    send(`/v1beta/models/${MODEL}:generateContent`, {
      contents,
      generationConfig: { responseMimeType: "application/json", responseJsonSchema: schema },
    }),
};

/** What held the function, by the place that is told. */
const ATTACKS: [string, string, Schema][] = [
  ["25 levels of two references each", ".$defs.n", {
    $ref: "#/$defs/n0",
    $defs: Object.fromEntries([
      ...Array.from({ length: 25 }, (_, i) => {
        const next = { $ref: `#/$defs/n${i + 1}` };
        return [`n${i}`, { anyOf: [next, next] }];
      }),
      ["n25", { type: "string" }],
    ]),
  }],
  ["an expression under unevaluatedProperties", ".unevaluatedProperties", {
    type: "object",
    unevaluatedProperties: { pattern: "^(x+x+)+y$" },
  }],
  ["an expression under dependentSchemas", ".dependentSchemas", {
    type: "object",
    dependentSchemas: { a: { properties: { a: { pattern: "^(x+x+)+y$" } } } },
  }],
  ["an expression where no schema is", ".hidden", {
    $ref: "#/hidden",
    hidden: { type: "string", pattern: "^(x+x+)+y$" },
  }],
  ["an expression that looks around", ".pattern", { type: "string", pattern: "^(?=(x+x+)+y)" }],
];

describe.each(Object.keys(WAYS))("in %s", (field) => {
  test.each(ATTACKS)("[security.schema] %s is refused at once, by its place", async (_, place, schema) => {
    const { status, text } = await WAYS[field]!(schema);
    expect({ status, text }).toEqual({ status: 400, text: expect.stringContaining(`${field}${place}`) });
  });
});

/** A schema that makes the emulated model answer with a value of the caller's choice. */
const answeredWith = (value: unknown, schema: Schema) => ({ allOf: [{ const: value }, schema] });

test.each(Object.keys(WAYS))(
  "an answer that takes too many steps to check ends in an error (%s)",
  async (field) => {
    const nested = JSON.parse("[".repeat(60) + "]".repeat(60));
    const twice = { type: "array", items: { $ref: "#/$defs/twice" } };
    const schema = {
      ...answeredWith(nested, { $ref: "#/$defs/twice" }),
      $defs: { twice: { not: { anyOf: [{ not: twice }, { not: twice }] } } },
    };
    const { status, text } = await WAYS[field]!(schema);
    // Gemini's clients get the answer as it is; a header says that it was not checked. In its older form Google has no references.
    if (field === "generationConfig.responseSchema") {
      expect({ status, text }).toEqual({ status: 400, text: expect.stringContaining("response_schema") });
    } else if (field.startsWith("generationConfig")) expect(status).toBe(200);
    else {expect({ status, text }).toEqual({
        status: 400,
        text: expect.stringContaining("schema_too_complex"),
      });}
  },
);

test("[security.schema] expressions and formats that made JavaScript's engine backtrack endlessly end in time", async () => {
  const long = `${"x".repeat(5_000)}!`;
  const ask = WAYS["response_schema"]!;
  expect((await ask(answeredWith(long, { type: "string", pattern: "^(x+x+)+y$" }))).text).toContain(
    "schema_mismatch",
  );
  expect((await ask(answeredWith(`http://${long}`, { type: "string", format: "url" }))).status).toBe(200);
});

test("after all of it others are answered", async () => {
  const { status } = await WAYS["response_schema"]!({
    type: "object",
    properties: { title: { type: "string" } },
  });
  expect(status).toBe(200);
});
