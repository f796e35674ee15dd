import type { Command } from "../command.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { dim } from "../table.ts";
import { readChoice, readDuration } from "../values.ts";

const DEFAULT_MODEL = "gemma-4-31b-it";

export const invokeCommand: Command = {
  name: "invoke",
  summary: "ask a model through the gateway",
  arguments: ["PROMPT..."],
  options: {
    model: { value: "NAME", help: `${DEFAULT_MODEL} by default` },
    system: { value: "TEXT", help: "the system text" },
    class: { value: "CLASS", help: "interactive (default) or batch" },
    wait: { value: "TIME", help: "how long to wait for a slot, such as 30s; 0 is now or never" },
    key: { value: "KEY", help: "call as this consumer's key or with this token, not as the project" },
  },
  examples: [
    'invoke "Say hello in Russian"',
    'invoke --model gemini-3.5-flash --wait 60s "Name three festivals" --json',
  ],
  async run(given, connect) {
    const prompt = given.arguments.join(" ");
    if (prompt.trim() === "") throw misuse("The prompt is empty.");
    const { url, secretKey, fetch } = connect();
    const wait = given.option("wait");
    const waitMs = wait === undefined ? undefined : readDuration("wait", wait) * 1_000;
    const response = await fetch(`${url}/functions/v1/llm-invoke`, {
      method: "POST",
      headers: { "content-type": "application/json", apikey: given.option("key") ?? secretKey },
      body: JSON.stringify({
        model: given.option("model") ?? DEFAULT_MODEL,
        prompt,
        system: given.option("system"),
        class: readChoice(given, "class", ["interactive", "batch"]),
        ...(waitMs === 0 ? { mode: "no_wait" } : { max_wait_ms: waitMs }),
      }),
    });
    const body = await response.json().catch(() => null);
    if (response.ok && body !== null) {
      const { model, key_alias, usage, wait_ms } = body;
      const note =
        `${model} by ${key_alias}, ${usage.input_tokens} + ${usage.output_tokens} tokens, waited ${wait_ms} ms`;
      return { json: body, text: `${body.text}\n${dim(note)}` };
    }
    const error = body?.error;
    if (error === undefined) {
      throw new CliFailure(`The gateway answered ${response.status} without saying why.`);
    }
    const retry = response.headers.get("retry-after");
    const text = `${error.code}: ${error.message}${retry === null ? "" : ` Come back in ${retry} s.`}`;
    return { json: body, text, exitCode: EXIT.failed };
  },
};
