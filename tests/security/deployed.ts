/**
 * The functions as they are deployed (`supabase/functions`), in this process: everything that they reach outside is noted, in the
 * order in which it is reached, and none of it is there. What answers is no more than it takes to know who calls.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { vi } from "vitest";
import type { FunctionName } from "../../shared/runtime/function_names.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { signToken } from "../../shared/tokens/sign.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import { webhookSecret } from "../../shared/telegram/settings.ts";

export const PROJECT = {
  url: "http://project.test",
  secretKeys: { default: "sb_secret_for_tests_only" },
  publishableKeys: { default: "sb_publishable_for_tests" },
};
const SIGNING_KEY = new Uint8Array(32).fill(7);
const BOT_TOKEN = "123456:letters";
const ENVIRONMENT: Record<string, string> = {
  SUPABASE_URL: PROJECT.url,
  SUPABASE_SECRET_KEYS: JSON.stringify(PROJECT.secretKeys),
  SUPABASE_PUBLISHABLE_KEYS: JSON.stringify(PROJECT.publishableKeys),
  EVE_TOKEN_SIGNING_KEYS: JSON.stringify([{
    kid: "now",
    k: btoa(String.fromCharCode(...SIGNING_KEY)).replaceAll("+", "-").replaceAll("/", "_").replaceAll(
      "=",
      "",
    ),
  }]),
  EVE_TELEGRAM_BOT_TOKEN: BOT_TOKEN,
  ADMIN_SECRET_KEY: "an-administrators-secret-of-tests-that-is-long-enough",
};

const SERVICE = await mintConsumerSecret("service");
const ENROLMENT = await mintConsumerSecret("notebook");
const VALID = "9b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b22";
const REVOKED = "1b7a3a52-30f7-4a9f-8a44-1f9b0a7c2b23";
const CONSUMER = "5f0c8f1e-7a7e-4bd7-9d0a-0d6a3c9f1a11";
const USER = "6f0c8f1e-7a7e-4bd7-9d0a-0d6a3c9f1a12";
const SESSION = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCJ9.c2ln";

const now = Math.floor(Date.now() / 1000);
const rules = tokenRules(PROJECT.url, [{ kid: "now", key: SIGNING_KEY }]);
const tokenOf = async (tokenId: string) => ({
  authorization: `Bearer ${await signToken({
    tokenId,
    consumerId: CONSUMER,
    scope: { models: null, class: "batch", requests: null, tokens: null },
    issuedAt: now - 3_600,
    expiresAt: now + 3_600,
  }, rules)}`,
});

export const ACTORS = {
  "nobody": {},
  "the publishable key": { apikey: PROJECT.publishableKeys.default },
  "a forged session": { authorization: `Bearer ${SESSION.replace("c2ln", "c2lnbg")}` },
  "an ordinary user": { authorization: `Bearer ${SESSION}` },
  "a wrong consumer key": { apikey: SERVICE.text.replace(/.$/, (last) => last === "0" ? "1" : "0") },
  "an enrolment secret": { apikey: ENROLMENT.text },
  "a revoked token": await tokenOf(REVOKED),
  "a notebook's token": await tokenOf(VALID),
  "a consumer's key": { apikey: SERVICE.text },
  "the project's key": { apikey: PROJECT.secretKeys.default },
} satisfies Record<string, Record<string, string>>;
export type DeployedActor = keyof typeof ACTORS;

/** What Telegram shows with its updates. */
export const TELEGRAM = { "x-telegram-bot-api-secret-token": await webhookSecret(BOT_TOKEN) };

/** `identity`: who calls. `authorisation`: whether a token still holds. `network`: anywhere but the project. */
export type Effect = "identity" | "authorisation" | "body" | "database" | "network";

/** What SQL functions answer that tell who somebody is. */
const IDENTITY: Record<string, (args: Record<string, unknown>) => unknown> = {
  eve_authenticate_consumer: ({ proof }) =>
    proof === SERVICE.proof
      ? { status: "known", consumer_id: CONSUMER, name: "bot", kind: "service" }
      : proof === ENROLMENT.proof
      ? { status: "known", consumer_id: CONSUMER, name: "notes", kind: "notebook" }
      : { status: "refused", code: "credential_invalid" },
  eve_log_refused_token: () => ({ code: "credential_invalid", retry_after_ms: null }),
  eve_administrator: () => ({ administrator: false }),
  eve_issue_token: () => ({ status: "refused", code: "invalid_client", detail: null, retry_after_ms: null }),
};

/** Of the request that a call belongs to: what an earlier one tries again later is none of the next one's effects. */
const requests = new AsyncLocalStorage<(effect: Effect) => void>();
const note = (effect: Effect) => requests.getStore()?.(effect);

async function outside(...[input, init]: Parameters<typeof fetch>): Promise<Response> {
  const request = new Request(input, init);
  const { origin, pathname } = new URL(request.url);
  if (origin !== PROJECT.url) {
    note("network");
    throw new TypeError("there is no network here");
  }
  const [, called] = /^\/rest\/v1\/rpc\/(\w+)$/.exec(pathname) ?? [];
  // Counted a second later, by any call until then.
  if (called === "eve_count_bad_requests") return Response.json({ status: "counted" });
  const args = await request.json().catch(() => ({}));
  if (pathname === "/auth/v1/user") {
    note("identity");
    return request.headers.get("authorization") === `Bearer ${SESSION}`
      ? Response.json({ id: USER, email: "visitor@example.com" })
      : Response.json({}, { status: 401 });
  }
  const identity = called === undefined ? undefined : IDENTITY[called];
  if (identity !== undefined) {
    note("identity");
    return Response.json(identity(args));
  }
  if (called === "eve_models") {
    note("authorisation");
    return args.token_id === REVOKED
      ? Response.json({ code: "EV401", message: "revoked" }, { status: 400 })
      : Response.json([]);
  }
  note("database");
  return Response.json({ code: "57P03", message: "there is no database here" }, { status: 503 });
}

type Served = { fetch(request: Request): Promise<Response> };

/** Starts them, in what is set of the environment. Call it once, in a file that has its own process. */
export async function deployFunctions(names: readonly FunctionName[]): Promise<Map<FunctionName, Served>> {
  for (const [name, value] of Object.entries(ENVIRONMENT)) Deno.env.set(name, value);
  vi.stubGlobal("fetch", outside);
  const runtime = Deno as unknown as Record<"resolveDns" | "connect", unknown>;
  for (const name of ["resolveDns", "connect"] as const) {
    runtime[name] = () => {
      note("network");
      return Promise.reject(new TypeError("there is no network here"));
    };
  }
  const served = await Promise.all(names.map(async (name): Promise<[FunctionName, Served]> => {
    const { default: fn } = await import(`../../supabase/functions/${name}/index.ts`);
    // What an instance asks for itself, at its first request, is none of a caller's effects.
    await (await fn.fetch(new Request(`http://gateway/${name}`))).body?.cancel();
    return [name, fn];
  }));
  return new Map(served);
}

export interface Sent {
  method: string;
  /** From the function's name on. */
  url: string;
  headers: Record<string, string>;
  body: Uint8Array<ArrayBuffer> | null;
  /** Whether it says its length. */
  known: boolean;
}

/** What a request set going, in order (the same thing twice in a row once), and how many bytes of its body were taken. */
export async function effectsOf(
  fn: Served,
  { method, url, headers, body, known }: Sent,
): Promise<{ effects: Effect[]; status: number; text: string; taken: number }> {
  const effects: Effect[] = [];
  const mine = (effect: Effect) => {
    if (effects.at(-1) !== effect) effects.push(effect);
  };
  let taken = 0;
  const stream = body && new ReadableStream<Uint8Array>({
    pull(controller) {
      mine("body");
      if (taken >= body.length) return controller.close();
      controller.enqueue(body.slice(taken, taken += PIECE_BYTES));
    },
  }, { highWaterMark: 0 });
  const response = await requests.run(mine, () =>
    fn.fetch(
      new Request(url, {
        method,
        body: stream,
        headers: { ...headers, ...(body !== null && known && { "content-length": String(body.length) }) },
      }),
    ));
  const text = await response.text();
  return { effects, status: response.status, text, taken: Math.min(taken, body?.length ?? 0) };
}

const PIECE_BYTES = 16_384;
