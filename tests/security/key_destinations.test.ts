/**
 * Where a stored key is sent: to the address that it was entered for, even if the address is changed, in any way. And a key of
 * the environment, which nobody typed, to the provider's own address or one of the environment.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../../shared/secrets/key_encryption.ts";
import { bindingOf } from "../../shared/stages/key_binding.ts";
import { PROVIDER_DEFINITIONS } from "../../shared/stages/provider_definitions.ts";
import { providerRegistry } from "../../shared/providers/registry.ts";
import { connect } from "../../cli/eve/connection.ts";
import { eve } from "../../cli/eve.ts";
import { asFetch, type FakeServer, serveFake } from "../fakes/fake_api.ts";
import { type Actor, type Actors, startWithActors } from "./actors.ts";

/** A server that takes every key, and what came to it: headers and body of each request, as one text. */
interface Recorder extends FakeServer {
  came: string[];
}

function recorder(): Recorder {
  const came: string[] = [];
  const server = serveFake(async (request) => {
    const { pathname } = new URL(request.url);
    came.push([request.method, request.url, ...[...request.headers].flat(), await request.text()].join("\n"));
    if (pathname.endsWith("/models")) return Response.json({ data: [{ id: "gpt-5-mini" }] });
    if (pathname.endsWith("/oauth")) {
      return Response.json({ access_token: `token-for-${server.url}`, expires_at: Date.now() + 1_800_000 });
    }
    if (pathname.endsWith("/chat/completions")) {
      const message = { role: "assistant", content: "Hello" };
      return Response.json({ choices: [{ index: 0, message, finish_reason: "stop" }] });
    }
    return Response.json({
      code: 200,
      data: { taskId: "task-1", status: "PENDING" },
      request_id: "request-1",
    });
  });
  return { ...server, came };
}

/** What an administrator sets up for each kind; `addresses` are its settings that say where calls go. */
const KINDS: { stage: string; kind: string; more: Record<string, string>; addresses: string[] }[] = [
  { stage: "POEM", kind: "openai", more: {}, addresses: ["base_url"] },
  { stage: "POEM", kind: "yandexgpt", more: { folder_id: "b1g" }, addresses: ["base_url"] },
  { stage: "POEM", kind: "gigachat", more: {}, addresses: ["base_url", "auth_url"] },
  { stage: "VOICE", kind: "speechkit", more: {}, addresses: ["base_url"] },
  { stage: "SONG", kind: "suno", more: {}, addresses: ["base_url"] },
  { stage: "CLIP", kind: "pika", more: {}, addresses: ["base_url"] },
];
const EACH = KINDS.flatMap(({ addresses, ...each }) =>
  addresses.map((setting) => ({ ...each, setting, addresses }))
);

/** Keys that nobody typed. */
const ENVIRONMENT = {
  OPENAI_API_KEY: "openai-key-of-the-environment",
  SPEECHKIT_API_KEY: "speechkit-key-of-the-environment",
  SUNO_API_KEY: "suno-key-of-the-environment",
  FAL_KEY: "fal-key-of-the-environment",
};

let actors: Actors;
/** Where the environment says that every provider is. */
let own: Recorder;
/** Where an administrator has entered keys for. */
let entered: Recorder;
/** Where no key may go. */
let elsewhere: Recorder;

beforeAll(async () => {
  own = recorder();
  entered = recorder();
  elsewhere = recorder();
  const addresses = Object.values(PROVIDER_DEFINITIONS).flatMap(({ settings }) =>
    Object.values(settings).filter(({ ownAddress }) => ownAddress !== undefined).map(({ variable }) =>
      [variable, variable.endsWith("AUTH_URL") ? `${own.url}/oauth` : own.url] as const
    )
  );
  expect(addresses).toHaveLength(7);
  actors = await startWithActors({ env: { ...ENVIRONMENT, ...Object.fromEntries(addresses) } });
});
afterAll(async () => {
  await actors?.stop();
  for (const server of [own, entered, elsewhere]) await server?.close();
});
beforeEach(() => {
  for (const server of [own, entered, elsewhere]) server.came.length = 0;
});

// deno-lint-ignore no-explicit-any -- JSON whose fields the tests look at.
type Json = any;

async function call(
  path: string,
  body?: unknown,
  as: Actor | "project" = "console administrator",
): Promise<Json> {
  const response = await fetch(`${actors.stack.url}/functions/v1${path}`, {
    method: body === undefined ? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    headers: as === "project" ? { apikey: actors.stack.keys.secret } : actors.headers[as],
  });
  return { status: response.status, ...await response.json() };
}
const update = (body: Record<string, unknown>, as?: Actor | "project") =>
  call("/admin/providers/update", body, as);
const configOf = async (stage: string) =>
  (await call(`/admin/providers?stage_type=${stage}`)).stages[0].config;
const at = (server: Recorder, setting: string, path = "") =>
  `${server.url}${setting === "auth_url" ? "/oauth" : path}`;

/** Every way in which a stage's key is sent somewhere. */
async function useEveryWay(stage: string): Promise<void> {
  await call("/llm-invoke", { stage, prompt: "Hello" }, "project");
  await call("/admin/providers/refresh", { stage_type: stage });
  await call("/maintenance/providers_sync", {}, "project");
}

const askAgain = { status: 400, error: { code: "invalid_request", details: [{ field: "api_key" }] } };

describe("[security.addresses] a key of the environment", () => {
  test("serves, and goes to where the environment says", async () => {
    const { stages } = await call("/admin/providers");
    expect(stages.map(({ config }: { config: { updated_by: string } }) => config.updated_by)).toEqual(
      Array(4).fill("environment"),
    );
    for (const stage of new Set(KINDS.map(({ stage }) => stage))) await useEveryWay(stage);
    for (const key of Object.values(ENVIRONMENT)) {
      expect(own.came.some((text) => text.includes(key)), key).toBe(true);
    }
  });

  describe.each(EACH.filter(({ kind }) => /openai|speechkit|suno|pika/.test(kind)))(
    "of $kind",
    ({ stage, kind, more, setting }) => {
      const wish = () => ({
        stage_type: stage,
        provider_kind: kind,
        settings: { ...more, [setting]: at(elsewhere, setting) },
      });

      test("is led nowhere else by an administrator", async () => {
        const answer = await update(wish());
        expect(answer).toMatchObject(askAgain);
        expect(answer.error.details[0].problem).toContain(`entered for ${setting} ${own.url}`);
        await useEveryWay(stage);
        expect(elsewhere.came).toEqual([]);
      });

      test("nor once the stage was taken away, and the environment serves it directly", async () => {
        await call("/admin/providers/remove", { stage_type: stage });
        await useEveryWay(stage);
        expect((await update(wish())).status).toBe(400);
        await useEveryWay(stage);
        expect(elsewhere.came).toEqual([]);
      });
    },
  );

  test("is led nowhere else by who writes to the database", async () => {
    await actors.sql`delete from public.provider_configs`;
    await call("/llm-invoke", { stage: "SONG", prompt: "Hello" }, "project");
    const job = await call("/llm-invoke", { stage: "SONG", prompt: "Hello" }, "project");
    await actors.sql`
      update eve.jobs set settings = ${actors.sql.json({ base_url: elsewhere.url })}, checked_at = null`;
    expect(await call(`/llm-invoke/jobs/${job.job.id}`, undefined, "project")).toMatchObject({
      job: { status: "running" },
    });
    // A row without a key of its own is served by those of the pool.
    await actors.sql`
      insert into public.provider_configs (stage_type, provider_kind, model, settings)
      values ('SONG', 'suno', 'V4_5', ${actors.sql.json({ base_url: elsewhere.url })})`;
    await useEveryWay("SONG");
    await actors.sql`delete from public.provider_configs`;
    expect(own.came.some((text) => text.includes("record-info"))).toBe(true);
    expect(elsewhere.came).toEqual([]);
  });
});

describe.each(KINDS)(
  "[security.addresses] a key that was entered for $kind",
  ({ stage, kind, more, addresses }) => {
    const KEY = `typed-${kind}-key-0123456789`;
    const settings = (server: Recorder, path = "") => ({
      ...more,
      ...Object.fromEntries(addresses.map((name) => [name, at(server, name, path)])),
    });
    const save = (body: Record<string, unknown> = {}) =>
      update({ stage_type: stage, provider_kind: kind, api_key: KEY, settings: settings(entered), ...body });

    beforeEach(async () => {
      // Other stages call the same servers.
      await actors.sql`delete from public.provider_configs`;
      expect((await save()).status).toBe(200);
    });

    test("goes to its address, and stays while nothing but the path is changed", async () => {
      expect(await save({ api_key: undefined, settings: settings(entered, "/v2") })).toMatchObject({
        status: 200,
      });
      await useEveryWay(stage);
      expect(entered.came.some((text) => text.includes(KEY))).toBe(true);
    });

    test.each(addresses)(
      "is asked for again when %s is changed, and goes nowhere meanwhile",
      async (setting) => {
        const wanted = { ...settings(entered), [setting]: at(elsewhere, setting) };
        const before = await configOf(stage);
        const answer = await save({ api_key: undefined, settings: wanted });
        expect(answer).toMatchObject(askAgain);
        expect(answer.error.details[0].problem).toBe(
          `is needed again: the one that is kept was entered for ${setting} ${entered.url}, and is not sent to ${elsewhere.url}`,
        );
        await useEveryWay(stage);
        expect(elsewhere.came).toEqual([]);
        expect((await configOf(stage)).settings).toEqual(before.settings);
        // With a key it goes: with that one.
        expect(await save({ api_key: "another-key-0123456789", settings: wanted })).toMatchObject({
          status: 200,
        });
        expect(elsewhere.came.join()).not.toContain(KEY);
      },
    );

    test.each(addresses)(
      "is asked for again when %s is taken away, and the environment's would hold",
      async (setting) => {
        const { [setting]: _, ...wanted } = settings(entered);
        expect(await save({ api_key: undefined, settings: wanted })).toMatchObject(askAgain);
        await useEveryWay(stage);
        expect(own.came.join()).not.toContain(KEY);
      },
    );

    test.each(addresses)(
      "is not sent when %s is changed in the database, and the stage says why",
      async (setting) => {
        const wanted = { ...settings(entered), [setting]: at(elsewhere, setting) };
        await actors.sql`
      update public.provider_configs set settings = ${actors.sql.json(wanted)} where stage_type = ${stage}`;
        const answer = await call("/llm-invoke", { stage, prompt: "Hello" }, "project");
        expect(answer).toMatchObject({
          status: 500,
          error: { code: "gateway_misconfigured", message: expect.stringContaining("enter the key again") },
        });
        expect(JSON.stringify(answer), "callers are not told addresses").not.toContain(elsewhere.url);
        await useEveryWay(stage);
        expect(elsewhere.came).toEqual([]);
        expect(await configOf(stage)).toMatchObject({
          status: "error",
          status_reason: expect.stringContaining(`entered for ${setting} ${entered.url}`),
        });
        // An administrator who sees that in the console and saves it unchanged is asked too.
        expect(await update({ stage_type: stage, provider_kind: kind })).toMatchObject(askAgain);
        expect(elsewhere.came).toEqual([]);
      },
    );

    test("brought back from the time of another address, is not sent to the present one", async () => {
      await save({ api_key: "the-present-key-0123456789", settings: settings(elsewhere) });
      elsewhere.came.length = 0;
      await actors.sql`
      update public.provider_configs c
      set (api_key_encrypted, key_fingerprint, key_last_four) =
        (select k.api_key_encrypted, k.fingerprint, k.last_four from public.api_keys k
        where k.stage_type = c.stage_type and k.used_until is not null order by k.id desc limit 1)
      where c.stage_type = ${stage}`;
      await useEveryWay(stage);
      expect(elsewhere.came).toEqual([]);
    });

    test("without a word about where it was entered for, is asked for again", async () => {
      const encryption = createKeyEncryption(actors.stack.keys.adminSecretKey);
      await actors.sql`
      update public.provider_configs set api_key_encrypted = ${await encryption.encrypt(
        KEY,
      )} where stage_type = ${stage}`;
      entered.came.length = 0;
      await useEveryWay(stage);
      expect(entered.came).toEqual([]);
      expect(await save({ api_key: undefined })).toMatchObject(askAgain);
      await save();
      await useEveryWay(stage);
      // GigaChat's goes out for an access token, which is kept.
      expect(entered.came.join()).toMatch(new RegExp(`${KEY}|token-for-`));
    });

    test("is bound as before once it is encrypted again", async () => {
      const secret = actors.stack.keys.adminSecretKey;
      const run = (secrets: string) =>
        eve(["providers", "reencrypt", "--json"], {
          say: () => {},
          complain: () => {},
          connect: () => connect(actors.stack.url, actors.stack.keys.secret),
          variable: (name) => name === ADMIN_SECRET_VARIABLE ? secrets : undefined,
        });
      const other = "another-secret-of-more-than-22-characters";
      expect(await run(`${other},${secret}`)).toBe(0);
      expect(await run(`${secret},${other}`)).toBe(0);
      expect(await save({ api_key: undefined, settings: settings(elsewhere) })).toMatchObject(askAgain);
      expect(await save({ api_key: undefined })).toMatchObject({ status: 200 });
      expect(elsewhere.came).toEqual([]);
    });

    test("is led nowhere by anybody else", async () => {
      const wish = { stage_type: stage, provider_kind: kind, settings: settings(elsewhere) };
      for (
        const actor of ["ordinary user", "notebook token", "revoked token", "consumer key", "nobody"] as const
      ) {
        expect([401, 403], actor).toContain((await update(wish, actor)).status);
        expect([401, 403], actor).toContain((await update({ ...wish, api_key: "somebody-s" }, actor)).status);
      }
      await useEveryWay(stage);
      expect(elsewhere.came).toEqual([]);
    });
  },
);

describe("[security.addresses] a job", () => {
  test("is asked about with the key of its time, or not at all", async () => {
    const save = (key: string, server: Recorder) =>
      update({
        stage_type: "SONG",
        provider_kind: "suno",
        api_key: key,
        settings: { base_url: server.url },
      });
    await save("the-first-key-0123456789", entered);
    const { job } = await call("/llm-invoke", { stage: "SONG", prompt: "Hello" }, "project");
    await save("the-second-key-0123456789", elsewhere);
    entered.came.length = 0;
    await actors.sql`update eve.jobs set checked_at = null`;
    expect(await call(`/llm-invoke/jobs/${job.id}`, undefined, "project")).toMatchObject({
      status: 200,
      job: { status: "running" },
    });
    expect(entered.came).toEqual([]);
    await save("the-third-key-0123456789", entered);
    await actors.sql`update eve.jobs set checked_at = null`;
    await call(`/llm-invoke/jobs/${job.id}`, undefined, "project");
    expect(entered.came.join()).toContain("the-third-key-0123456789");
  });
});

describe("what a key is bound to is where its provider is called", () => {
  const signal = new AbortController().signal;

  test.each(KINDS)(
    "of $kind: by its settings, by the environment, or its own address",
    async ({ kind, more, addresses }) => {
      const inEnvironment = (name: string) =>
        /_(BASE|AUTH)_URL$/.test(name) ? `https://${name.toLowerCase()}.example/v1` : undefined;
      for (
        const [settings, read] of [
          [more, () => undefined],
          [more, inEnvironment],
          [
            { ...more, ...Object.fromEntries(addresses.map((name) => [name, `https://${name}.example/x`])) },
            inEnvironment,
          ],
        ] as [Record<string, string>, (name: string) => string | undefined][]
      ) {
        const called = new Set<string>();
        const realFetch = globalThis.fetch;
        globalThis.fetch = asFetch((request) => {
          called.add(new URL(request.url).origin);
          return Response.json({ access_token: "token", expires_at: Date.now() + 1_800_000, data: [] });
        });
        try {
          const provider = providerRegistry({
            googleBaseUrl: undefined,
            read,
            createClient: () => undefined,
          })[
            PROVIDER_DEFINITIONS[kind]!.provider as "openai"
          ];
          await provider.checkKey({ secret: "key", settings, signal }).catch(() => {});
        } finally {
          globalThis.fetch = realFetch;
        }
        expect([...called].sort()).toEqual(Object.values(bindingOf(kind, settings, read).origins).sort());
      }
    },
  );
});
