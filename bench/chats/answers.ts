import postgres from "postgres";
import { withStack } from "../with_stack.ts";
import { median, percentile } from "../statistics.ts";

export interface Answers {
  calls: number;
  in_a_chat_p50_ms: number;
  in_a_chat_p99_ms: number;
  plain_p50_ms: number;
  plain_p99_ms: number;
  ms_more: number;
}

const WARM_UP = 20;
/** Milliseconds between calls, in which what is stored behind a response is stored. */
const PAUSE_MS = 15;
const ANSWER = {
  candidates: [{ content: { role: "model", parts: [{ text: "Hello." }] }, finishReason: "STOP", index: 0 }],
  usageMetadata: { promptTokenCount: 8, candidatesTokenCount: 2, totalTokenCount: 10 },
};
const PROMPT = "Say hello in one word.";

/** Native calls in a chat and without one, in turns, on a stack whose functions ask the database directly. */
export async function answers(quick: boolean): Promise<Answers> {
  const calls = quick ? 60 : 400;
  const upstream = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      await request.body?.cancel();
      return Response.json(ANSWER);
    },
  );
  try {
    const options = {
      schedule: false,
      googleApiBaseUrl: `http://127.0.0.1:${upstream.addr.port}`,
      env: { EVE_LEDGER_TRANSPORT: "direct" },
    };
    return await withStack(options, async (stack) => {
      const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
      await sql`update public.google_ai_model_limits set rpm = null, tpm = null, rpd = null`;
      await sql.end();
      const ask = async (path: string, body: unknown) => {
        const response = await fetch(`${stack.url}/functions/v1/${path}`, {
          method: "POST",
          headers: { apikey: stack.keys.secret, "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        const answer = await response.json();
        if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
        return answer;
      };
      const took = { chat: [] as number[], plain: [] as number[] };
      const call = { model: "gemma-4-31b-it", prompt: PROMPT };
      let chat = "";
      for (let number = 0; number < WARM_UP + calls; number++) {
        // A conversation of some turns, as people have them.
        if (number % 10 === 0) chat = (await ask("api/v1/chats", {})).id;
        for (const [who, body] of [["plain", call], ["chat", { ...call, chat_id: chat }]] as const) {
          const since = performance.now();
          await ask("llm-invoke", body);
          if (number >= WARM_UP) took[who].push(performance.now() - since);
          await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        }
      }
      const round = (ms: number) => Math.round(ms * 100) / 100;
      return {
        calls,
        in_a_chat_p50_ms: round(median(took.chat)),
        in_a_chat_p99_ms: round(percentile(took.chat, 0.99)),
        plain_p50_ms: round(median(took.plain)),
        plain_p99_ms: round(percentile(took.plain, 0.99)),
        ms_more: round(median(took.chat) - median(took.plain)),
      };
    });
  } finally {
    await upstream.shutdown();
  }
}
