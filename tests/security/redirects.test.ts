/**
 * Redirects, which lead a credential away: a runtime takes `authorization` off when a redirect leads elsewhere, and no other header.
 * So no client of ours follows any, whatever it carries its credential in.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { connect } from "../../cli/eve/connection.ts";
import { callFunction } from "../../cli/eve/function_call.ts";
import { workerCall } from "../../shared/calls/worker_call.ts";
import type { Prompt } from "../../shared/contract/content.ts";
import { identifyAdministrator } from "../../shared/identity/administrator.ts";
import type { AlertMessage } from "../../shared/database/maintenance/alerts.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { telegramChannel } from "../../shared/maintenance/alerts/telegram_channel.ts";
import { webhookChannel } from "../../shared/maintenance/alerts/webhook_channel.ts";
import { type ProviderName, providerRegistry } from "../../shared/providers/registry.ts";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";

const SECRET = "a-key-that-goes-nowhere-else";
const PROMPT: Prompt = { contents: [{ role: "user", parts: [{ text: "Hello" }] }] };
const signal = new AbortController().signal;

/** Answers every request with a redirect to `elsewhere`. */
let here: FakeServer;
let elsewhere: FakeServer;
let status = 302;
/** What came to each of them, headers and body, as one text. */
const came: { here: string[]; elsewhere: string[] } = { here: [], elsewhere: [] };

async function described(request: Request): Promise<string> {
  return [request.method, request.url, ...[...request.headers].flat(), await request.text()].join("\n");
}

beforeAll(() => {
  elsewhere = serveFake(async (request) => {
    came.elsewhere.push(await described(request));
    return Response.json({});
  });
  here = serveFake(async (request) => {
    const { pathname, search } = new URL(request.url);
    came.here.push(await described(request));
    if (pathname === "/token") {
      return Response.json({ access_token: SECRET, expires_at: Date.now() + 1_800_000 });
    }
    return new Response(null, {
      status,
      headers: { location: `${elsewhere.url}${pathname}${search}` },
    });
  });
});
afterAll(async () => {
  await here?.close();
  await elsewhere?.close();
});
beforeEach(() => {
  came.here.length = 0;
  came.elsewhere.length = 0;
});

/** As the functions have them, every address in the environment being that of `here`. */
function registry(environment: Record<string, string> = {}) {
  const read = (name: string) =>
    environment[name] ??
      (/_(BASE|AUTH)_URL$/.test(name) ? here.url : name === "YANDEX_FOLDER_ID" ? "b1g" : undefined);
  return providerRegistry({
    googleBaseUrl: here.url,
    read,
    createClient: () => {
      throw new Error("there are no private roots here");
    },
  });
}

const PROVIDERS = Object.keys(providerRegistry({
  googleBaseUrl: undefined,
  read: () => undefined,
  createClient: () => undefined,
})) as ProviderName[];
const MODELS: Record<ProviderName, string> = {
  google: "gemma-4-31b-it",
  openai: "openai/gpt-5-mini",
  yandexgpt: "yandexgpt/yandexgpt-lite",
  gigachat: "gigachat/GigaChat-2",
  speechkit: "speechkit/alena",
  suno: "suno/V4_5",
  pika: "pika/fal-ai/pika/v2.2/text-to-video",
};

/** Everything that a provider can be asked for; what it does not do, it does not send either. */
const ASKED = [
  "generate",
  "stream",
  "countTokens",
  "embed",
  "submit",
  "poll",
  "checkKey",
  "listModels",
] as const;

async function ask(name: ProviderName, what: typeof ASKED[number], environment?: Record<string, string>) {
  const provider = registry(environment)[name];
  const call = { model: MODELS[name], secret: SECRET, prompt: PROMPT, signal };
  const job = { model: call.model, secret: SECRET, signal };
  switch (what) {
    case "generate":
      return await provider.text?.generate(call);
    case "stream":
      for await (const _ of provider.text?.stream(call) ?? []) { /* It is what goes out that counts. */ }
      return;
    case "countTokens":
      return await provider.text?.countTokens?.(call);
    case "embed":
      return await provider.embeddings?.embed({ ...job, item: { content: PROMPT.contents[0]! } });
    case "submit":
      return await provider.jobs?.submit({ ...job, text: "Hello", options: {}, callbackUrl: here.url });
    case "poll":
      return await provider.jobs?.poll({ ...job, upstreamId: "7" });
    case "checkKey":
      return await provider.checkKey(job);
    case "listModels":
      return await provider.listModels(job);
  }
}

const ALERT: AlertMessage = {
  deliveryId: 1,
  attempt: 1,
  alertId: 1,
  event: "opened",
  kind: "key_blocked",
  severity: "critical",
  subject: "key a",
  title: "Key a is blocked",
  message: "Key a is blocked",
  advice: null,
  details: {},
  openedAt: "2026-11-21T08:05:00Z",
  closedAt: null,
} as AlertMessage;

/** Everybody else who carries a credential somewhere. */
const OTHERS: Record<string, () => Promise<unknown>> = {
  "the webhook's channel": () =>
    webhookChannel({ url: `${here.url}/${SECRET}`, secret: SECRET, gateway: "here", now: Date.now })
      .send(ALERT, { fetch, signal }),
  "Telegram's channel": () =>
    telegramChannel({ token: SECRET, chatId: "1", baseUrl: here.url, gateway: "here" })
      .send(ALERT, { fetch, signal }),
  "who wakes the worker": () => workerCall(fetch, here.url, SECRET, () => {})(),
  "the REST API's client": () =>
    rpcTransport({ url: here.url, secretKey: SECRET })("eve_models", {}, signal).catch(() => {}),
  "the Auth API's client": () =>
    identifyAdministrator(
      new Request("http://gateway/", { headers: { authorization: "Bearer eyJh.eyJh.c2ln" } }),
      {
        project: { url: here.url, secretKeys: {}, publishableKeys: {} } as never,
        apiKey: SECRET,
        stages: { isAdministrator: () => Promise.resolve(true) },
        fetch,
      },
    ).catch(() => {}),
  "the command line, at a function": () => callFunction(connect(here.url, SECRET), "llm-invoke", {}),
  "the command line, at a table": async () =>
    await connect(here.url, SECRET).tables.from("google_ai_api_keys").select("*"),
};

describe.each([301, 302, 303, 307, 308])("[security.redirects] a redirect with %i", (code) => {
  beforeEach(() => {
    status = code;
  });

  describe.each(PROVIDERS)("is not followed by %s", (name) => {
    test.each(ASKED)("asked for %s", async (what) => {
      await ask(name, what).catch(() => {});
      expect(came.elsewhere).toEqual([]);
    });

    test("which did send its key to where it should", async () => {
      for (const what of ASKED) await ask(name, what).catch(() => {});
      expect(came.here.some((text) => text.includes(SECRET))).toBe(true);
    });
  });

  test.each(["generate", "stream", "checkKey", "listModels"] as const)(
    "is not followed by gigachat with an access token, asked for %s",
    async (what) => {
      await ask("gigachat", what, { GIGACHAT_AUTH_URL: `${here.url}/token` }).catch(() => {});
      expect(came.here.filter((text) => text.includes(`Bearer ${SECRET}`))).toHaveLength(1);
      expect(came.elsewhere).toEqual([]);
    },
  );

  test.each(Object.entries(OTHERS))("is not followed by %s", async (_, call) => {
    await call();
    expect(came.here).toHaveLength(1);
    expect(came.here[0]).toMatch(new RegExp(`${SECRET}|webhook-signature`));
    expect(came.elsewhere).toEqual([]);
  });
});

describe("[security.redirects] no call is forgotten", () => {
  const root = new URL("../../", import.meta.url);

  function sourcesIn(folder: string): string[] {
    return [...Deno.readDirSync(new URL(`${folder}/`, root))].flatMap((entry) =>
      entry.isDirectory
        ? sourcesIn(`${folder}/${entry.name}`)
        : entry.name.endsWith(".ts")
        ? [`${folder}/${entry.name}`]
        : []
    );
  }

  /** The arguments of each call of a `fetch`, by where it stands. `app.fetch` is a router's own, and sends nothing. */
  function callsIn(path: string): [where: string, given: string][] {
    const text = Deno.readTextFileSync(new URL(path, root));
    return [...text.matchAll(/(?<!app\.|[\w$])fetch\(/g)].map((match) => {
      let depth = 0;
      let at = match.index + match[0].length - 1;
      do {
        if (text[at] === "(") depth++;
        if (text[at] === ")") depth--;
        at++;
      } while (depth > 0 && at < text.length);
      const line = text.slice(0, match.index).split("\n").length;
      return [`${path}:${line}`, text.slice(match.index, at)];
    });
  }

  test("every call of fetch in what is deployed, and in the command line, says that it follows none", () => {
    const calls = ["shared", "supabase/functions", "cli"].flatMap(sourcesIn).flatMap(callsIn);
    expect(calls.length).toBeGreaterThan(5);
    // This one passes on what it is given, which says so.
    const open = calls.filter(([where]) => !where.startsWith("shared/providers/trusting_fetch.ts:"))
      .filter(([, given]) => !/\bredirect: "(manual|error)"/.test(given.replace(/\s+/g, " ")));
    expect(open).toEqual([]);
  });

  test("nothing that is deployed imports Google's library, which follows them", () => {
    const importing = ["shared", "supabase/functions"].flatMap(sourcesIn).filter((path) =>
      /from\s+["']@google\//.test(Deno.readTextFileSync(new URL(path, root)))
    );
    expect(importing).toEqual([]);
  });
});
