/**
 * A bot that reads an event out of a post while a person waits for the answer.
 *
 *     EVE_GATEWAY_URL=https://<ref>.supabase.co EVE_GATEWAY_SECRET=eve_service_... \
 *       npx deno run -A examples/bot.ts "the post"
 *
 * The secret is a service's: npm run eve -- consumers add my-bot --kind service --class interactive
 */
import process from "node:process";
import { createClient } from "@supabase/supabase-js";

/** Where the project's database is: a function that runs elsewhere crosses the sea for each of its questions. */
const REGION = process.env.EVE_REGION ?? "eu-central-1";
/** In milliseconds. A person looks at "typing..." for about this long before asking again. */
const MAX_WAIT_MS = 10_000;

const SCHEMA = {
  type: "object",
  properties: {
    title: { type: "string" },
    date: { type: "string" },
    time: { type: "string" },
    place: { type: "string" },
    price: { type: "string" },
  },
  required: ["title", "date", "place"],
};

/** A variable of the environment. Throws if it is not set. */
function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set.`);
  return value;
}

/** The event that a post announces. Throws what the gateway said if it refused. */
async function parseEvent(post: string): Promise<Record<string, string>> {
  // No session to keep: the key is the bot's own.
  const auth = { persistSession: false, autoRefreshToken: false };
  const supabase = createClient(setting("EVE_GATEWAY_URL"), setting("EVE_GATEWAY_SECRET"), { auth });
  const { data, error } = await supabase.functions.invoke("llm-invoke", {
    headers: { "x-region": REGION },
    body: {
      model: "gemma-4-31b-it",
      class: "interactive",
      max_wait_ms: MAX_WAIT_MS,
      system: "Извлеки событие из объявления. Ответь в JSON; дата в виде ГГГГ-ММ-ДД.",
      prompt: post,
      response_schema: SCHEMA,
      generation: { temperature: 0 },
    },
  });
  if (error) {
    throw new Error(error.context instanceof Response ? await error.context.text() : error.message);
  }
  return JSON.parse(data.text);
}

try {
  console.log(JSON.stringify(await parseEvent(process.argv.slice(2).join(" "))));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
