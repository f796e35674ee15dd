/** Programs that make one call, whole: to be copied and run. */

/** A body of llm-invoke's own API. */
export type CallBody = Record<string, unknown>;

/** Where llm-invoke is, and with what. */
export interface CallTarget {
  supabaseUrl: string;
  /** The function's name, with the prefix of its project. */
  functionName: string;
  /** A consumer's secret; null: what the environment's variable EVE_SECRET has. */
  secret: string | null;
}

export const SNIPPETS = ["curl", "python", "openai", "google", "supabase"] as const;
export type SnippetKind = typeof SNIPPETS[number];

/** Where a secret is to be put that only its holder has; without blanks, so that a double click takes all of it. */
export const SECRET_HERE = "PUT_THE_SECRET_HERE";
/** What a first call asks. */
export const FIRST_MODEL = "gemma-4-31b-it";

const urlOf = ({ supabaseUrl, functionName }: CallTarget) => `${supabaseUrl}/functions/v1/${functionName}`;

/** For sh, whatever is in it. */
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

const VARIABLE = "EVE_SECRET";
const inPython = (secret: string | null) =>
  secret === null ? `os.environ[${JSON.stringify(VARIABLE)}]` : JSON.stringify(secret);
/** With what Python has to import for it. */
const imports = (secret: string | null, lines: string[]) => secret === null ? ["import os", ...lines] : lines;

/** As Python writes a value of JSON. */
function python(value: unknown, indent = ""): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const lines = Array.isArray(value)
    ? value.map((one) => python(one, deeper))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, deeper)}`);
  const [open, shut] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  return lines.length === 0
    ? open + shut
    : `${open}\n${lines.map((line) => `${deeper}${line},\n`).join("")}${indent}${shut}`;
}

/** What OpenAI's and Google's clients can say of a call: its model, its text and what stands before it. */
const plain = (body: CallBody) => ({
  model: String(body.model ?? ""),
  prompt: typeof body.prompt === "string" ? body.prompt : "Hello",
  system: typeof body.system === "string" ? body.system : null,
});

export function snippetOf(kind: SnippetKind, target: CallTarget, body: CallBody): string {
  const url = urlOf(target);
  const { model, prompt, system } = plain(body);
  switch (kind) {
    case "curl":
      return [
        `curl ${quoted(url)} \\`,
        `  -H ${
          target.secret === null
            ? `"Authorization: Bearer $${VARIABLE}"`
            : quoted(`Authorization: Bearer ${target.secret}`)
        } -H 'Content-Type: application/json' \\`,
        `  -d ${quoted(JSON.stringify(body))}`,
      ].join("\n");
    case "python":
      return [
        "import json",
        ...imports(target.secret, ["import urllib.request"]),
        "",
        "request = urllib.request.Request(",
        `    ${JSON.stringify(url)},`,
        `    data=json.dumps(${python(body, "    ")}).encode(),`,
        `    headers={"Authorization": "Bearer " + ${
          inPython(target.secret)
        }, "Content-Type": "application/json"},`,
        ")",
        "with urllib.request.urlopen(request) as response:",
        `    print(json.load(response)["text"])`,
      ].join("\n");
    case "openai": {
      const messages = [
        ...(system === null ? [] : [{ role: "system", content: system }]),
        { role: "user", content: prompt },
      ];
      return [
        ...imports(target.secret, ["from openai import OpenAI"]),
        "",
        `client = OpenAI(base_url=${JSON.stringify(`${url}/openai/v1`)}, api_key=${inPython(target.secret)})`,
        "answer = client.chat.completions.create(",
        `    model=${JSON.stringify(model)},`,
        `    messages=${python(messages, "    ")},`,
        ")",
        "print(answer.choices[0].message.content)",
      ].join("\n");
    }
    case "google":
      return [
        ...imports(target.secret, ["from google import genai"]),
        "",
        "client = genai.Client(",
        `    api_key=${inPython(target.secret)},`,
        `    http_options={"base_url": ${JSON.stringify(url)}},`,
        ")",
        "answer = client.models.generate_content(",
        `    model=${JSON.stringify(model)},`,
        `    contents=${JSON.stringify(prompt)},`,
        ...(system === null ? [] : [`    config={"system_instruction": ${JSON.stringify(system)}},`]),
        ")",
        "print(answer.text)",
      ].join("\n");
    case "supabase":
      return [
        `import { createClient } from "@supabase/supabase-js";`,
        "",
        `const supabase = createClient(${JSON.stringify(target.supabaseUrl)}, ${
          target.secret === null ? `process.env.${VARIABLE}` : JSON.stringify(target.secret)
        });`,
        `const { data, error } = await supabase.functions.invoke(${JSON.stringify(target.functionName)}, {`,
        `  body: ${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")},`,
        "});",
        "if (error) throw error;",
        "console.log(data.text);",
      ].join("\n");
  }
}

/** A notebook's secret is no credential of a call: it is exchanged for a token, which the helper does and renews. */
export const notebookSnippet = ({ supabaseUrl, secret }: CallTarget, prompt: string): string =>
  [
    ...imports(secret, ["from eve_gateway import EveGateway"]),
    "",
    `eve = EveGateway(url=${JSON.stringify(supabaseUrl)}, secret=${inPython(secret)})`,
    `print(eve.generate(${JSON.stringify(prompt)}).text)`,
  ].join("\n");
