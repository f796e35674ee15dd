import type { Command, CommandDependencies, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { callFunction, type FunctionAnswer, sendToFunction } from "../function_call.ts";
import { namedEvents } from "../named_events.ts";
import { dim, duration } from "../table.ts";
import { readChoice, readDuration } from "../values.ts";

export const DEFAULT_MODEL = "gemma-4-31b-it";

export const invokeCommand: Command = {
  name: "invoke",
  summary: "ask a model through the gateway",
  arguments: ["PROMPT..."],
  options: {
    model: { value: "NAME", help: `${DEFAULT_MODEL} by default` },
    system: { value: "TEXT", help: "the system text" },
    class: { value: "CLASS", help: "interactive (default) or batch" },
    wait: { value: "TIME", help: "how long to wait for a slot, such as 30s; 0 is now or never" },
    stream: { help: "show the answer while it is made; with --json one event a line" },
    key: { value: "KEY", help: "call as this consumer's key or with this token, not as the project" },
  },
  examples: [
    'invoke "Say hello in Russian"',
    'invoke --stream "Tell me about Kaliningrad"',
    'invoke --model gemini-3.5-flash --wait 60s "Name three festivals" --json',
    "invoke - < prompt.txt",
  ],
  async run(given, around) {
    const words = given.arguments.join(" ");
    const prompt = words === "-" ? await around.read("-") : words;
    if (prompt.trim() === "") throw misuse("The prompt is empty.");
    const connection = around.connect();
    const wait = given.option("wait");
    const waitMs = wait === undefined ? undefined : readDuration("wait", wait) * 1_000;
    const streams = given.switch("stream");
    const body = {
      model: given.option("model") ?? DEFAULT_MODEL,
      prompt,
      system: given.option("system"),
      class: readChoice(given, "class", ["interactive", "batch"]),
      ...(waitMs === 0 ? { mode: "no_wait" } : { max_wait_ms: waitMs }),
      ...(streams && { stream: true }),
    };
    const key = given.option("key");
    if (streams) return await stream(connection, body, key, around);
    around.progress("Waiting for the answer ...");
    const answer = await callFunction(connection, "llm-invoke", body, { key, signal: around.signal });
    if (answer.status !== 200 || answer.body === undefined) return refusal(answer);
    return { json: answer.body, text: `${answer.body.text}\n${dim(noteOf(answer.body))}` };
  },
};

async function stream(
  connection: Connection,
  body: unknown,
  key: string | undefined,
  { say, write, progress, json, signal }: CommandDependencies,
): Promise<Outcome | undefined> {
  const response = await sendToFunction(connection, "llm-invoke", body, { key, signal });
  if (!response.ok || response.body === null) {
    const parsed = await response.json().catch(() => undefined);
    return refusal({ status: response.status, headers: response.headers, body: parsed });
  }
  for await (const { event, data } of namedEvents(response.body)) {
    if (json) say(JSON.stringify({ event, ...data }));
    if (event === "error") {
      // In its own line already.
      if (json) return { json: undefined, text: "", exitCode: EXIT.failed };
      throw new CliFailure(`${data.code}: ${data.message}`);
    }
    if (json) continue;
    if (event === "queued") {
      progress(`Waiting ${duration(Number(data.wait_ms))} for a slot on ${data.model} ...`);
    } else if (event === "started") progress("");
    else if (event === "delta") write(String(data.text));
    else if (event === "done") say(`\n${dim(noteOf(data))}`);
  }
  return undefined;
}

// deno-lint-ignore no-explicit-any -- the native endpoint's answer, shown as it is.
function noteOf({ model, key_alias, usage, wait_ms }: any): string {
  return `${model} by ${key_alias}, ${usage.input_tokens} + ${usage.output_tokens} tokens, waited ${wait_ms} ms`;
}

function refusal({ status, headers, body }: FunctionAnswer): Outcome {
  const error = body?.error;
  if (error === undefined) {
    throw new CliFailure(`The gateway answered ${status} without saying why.`);
  }
  const retry = headers.get("retry-after");
  const text = `${error.code}: ${error.message}${retry === null ? "" : ` Come back in ${retry} s.`}`;
  return { json: body, text, exitCode: EXIT.failed };
}
