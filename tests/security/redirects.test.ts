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
import * as z from "zod";
import { encryptSecret } from "../../shared/events/webhooks/secret.ts";
import { webhookHandler } from "../../shared/events/webhooks/deliver_webhook.ts";
import { neo4jSettings, neo4jStatements } from "../../shared/graph/neo4j.ts";
import { pinnedRequest } from "../../shared/http/outgoing/pinned_request.ts";
import { networkOf } from "../../shared/http/outgoing/runtime_network.ts";
import { post } from "../../shared/maintenance/alerts/alert_channel.ts";
import type { OperationContext } from "../../shared/maintenance/operation.ts";
import { traceExport, tracesOperation } from "../../shared/maintenance/traces.ts";
import { createS3Store } from "../../shared/media/s3/store.ts";
import { recognizeText } from "../../shared/providers/yandex/vision_ocr.ts";
import { sha256Of } from "../../shared/media/hash.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { createKeyEncryption } from "../../shared/secrets/key_encryption.ts";
import { createBotApi } from "../../shared/telegram/bot_api.ts";
import { type FakeServer, serveFake } from "../fakes/fake_api.ts";
import { callsIn, sourcesIn } from "../harness/source_calls.ts";
import { CHECKOUT } from "../../local/paths.ts";

const SECRET = "a-key-that-goes-nowhere-else";
const BASIC = btoa(`neo4j:${SECRET}`);
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

const store = () =>
  createS3Store({
    endpoint: here.url,
    region: "test",
    bucket: "files",
    accessKeyId: SECRET,
    secretAccessKey: SECRET,
    maxFileBytes: 1_000,
  }, { fetch, clock, now: Date.now, random: () => 0 });
const bot = () => createBotApi({ token: `1:${SECRET}`, botId: 1, baseUrl: here.url, fetch, clock });

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
  "the driver of stores that speak S3": () => store().head("a").catch(() => {}),
  "the Bot API, asked for a file": () => bot().download("a", signal).catch(() => {}),
  "the Bot API, told where updates go": () =>
    bot().call("setWebhook", { secret_token: SECRET }, z.unknown(), signal).catch(() => {}),
  "a delivery to a webhook": async () => {
    const encryption = createKeyEncryption("a-secret-of-tests-that-is-long-enough");
    const { token } = await encryptSecret(encryption, `whsec_${btoa(SECRET)}`, here.url);
    const deliver = webhookHandler({
      encryption,
      allows: () => true,
      clock,
      now: Date.now,
      gateway: "here",
      fetch,
    });
    const event = {
      id: "e",
      type: "job.succeeded",
      occurred_at: "2026-11-21T08:05:00Z",
      data: {},
      traceparent: null,
    };
    const webhook = { url: here.url, secrets: [token] };
    return deliver({ event, webhook } as unknown as Parameters<typeof deliver>[0], signal);
  },
  "a connection to an address that was judged": () =>
    pinnedRequest(
      {
        url: new URL(here.url),
        method: "POST",
        headers: { "webhook-signature": SECRET },
        body: new TextEncoder().encode("{}"),
      },
      { connect: networkOf(Deno).connect!, addresses: ["127.0.0.1"], signal },
    ),
  "Neo4j's client": () => {
    const settings = neo4jSettings((name) =>
      ({ NEO4J_URI: here.url, NEO4J_USER: "neo4j", NEO4J_PASSWORD: SECRET })[name]
    )!;
    return neo4jStatements(settings, (url, body, headers) => post(url, body, headers, { fetch, signal }))(
      "RETURN 1",
    ).catch(() => {});
  },
  "the export of traces": () =>
    tracesOperation(() =>
      traceExport(
        (name) => ({ EVE_OTLP_ENDPOINT: here.url, EVE_OTLP_HEADERS: `authorization=${SECRET}` })[name],
        "here",
      )
    ).run(
      {
        fetch,
        deadline: { signal, leftMs: () => 60_000 },
        call: () => Promise.resolve({ requests: [], until: { at: "2026-11-21T08:05:00Z", no: 1 } }),
      } as unknown as OperationContext,
    ).catch(() => {}),
  "Yandex's reader of pictures": () =>
    recognizeText(
      { apiKey: SECRET, folderId: "folder", baseUrl: here.url, fetch },
      { picture: new Uint8Array(4), mimeType: "image/png", signal },
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
    expect(came.here[0]).toMatch(new RegExp(`${SECRET}|${BASIC}|webhook-signature`));
    expect(came.elsewhere).toEqual([]);
  });

  test("is not followed by what finds out what a store can do", async () => {
    const body = new Uint8Array(4);
    await store().put("a", { body, sha256: await sha256Of(body), contentType: "text/plain" }).catch(() => {});
    expect(came.here.some((text) => text.includes(SECRET))).toBe(true);
    expect(came.elsewhere).toEqual([]);
  });
});

describe("[security.redirects] no call is forgotten", () => {
  /** `app.fetch` is a router's own, and sends nothing. */
  const callsOfFetch = (path: string) => callsIn(path, /(?<!app\.|[\w$])fetch\(/g);

  test("every call of fetch in what is deployed, and in the command line, says that it follows none", () => {
    const calls = ["shared", "supabase/functions", "cli"].flatMap(sourcesIn).flatMap(callsOfFetch);
    expect(calls.length).toBeGreaterThan(5);
    // This one passes on what it is given, which says so.
    const open = calls.filter(([where]) => !where.startsWith("shared/providers/trusting_fetch.ts:"))
      .filter(([, given]) => !/\bredirect: "(manual|error)"/.test(given.replace(/\s+/g, " ")));
    expect(open).toEqual([]);
  });

  /** Where a call goes out, and what above tries it. Those without a credential carry nothing away. */
  const CLIENTS: Record<string, string | null> = {
    "shared/calls/worker_call.ts": "who wakes the worker",
    "shared/crawl/fetch_page.ts": null,
    "shared/http/outgoing/public_fetch.ts": null,
    "shared/http/outgoing/public_post.ts": "a delivery to a webhook",
    "shared/identity/session.ts": "the Auth API's client",
    "shared/maintenance/alerts/alert_channel.ts": "the webhook's channel",
    "shared/media/s3/probe.ts": "the driver of stores that speak S3",
    "shared/media/s3/transport.ts": "the driver of stores that speak S3",
    "shared/telegram/bot_api.ts": "the Bot API, asked for a file",
  };

  test("every file of shared/ that calls fetch is tried above, or carries no credential", () => {
    const calling = sourcesIn("shared").filter((path) =>
      !path.startsWith("shared/providers/") && callsOfFetch(path).length > 0
    );
    expect(calling.sort()).toEqual(Object.keys(CLIENTS));
    const tried = Object.values(CLIENTS).filter((name) => name !== null);
    expect(tried.filter((name) => !(name in OTHERS))).toEqual([]);
  });

  test("nothing that is deployed imports Google's library, which follows them", () => {
    const importing = ["shared", "supabase/functions"].flatMap(sourcesIn).filter((path) =>
      /from\s+["']@google\//.test(Deno.readTextFileSync(`${CHECKOUT}/${path}`))
    );
    expect(importing).toEqual([]);
  });
});
