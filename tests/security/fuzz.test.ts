/** Spoilt requests against the whole stack: what the database thinks of them is tried here, the rest in tests/fuzz. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SCOPES } from "../../shared/contract/actor.ts";
import { API_ROUTES } from "../../shared/api/api_endpoint.ts";
import { webhookSecret } from "../../shared/telegram/settings.ts";
import { body, oddText, spoilt } from "../fuzz/arbitraries.ts";
import { ANY_API, API, UPDATES } from "../fuzz/samples.ts";
import { until } from "../harness/patience.ts";
import { ROUTES } from "../fuzz/properties.ts";
import { safe, wrongWith } from "../fuzz/property.ts";
import { type Actor, type Actors, startWithActors } from "./actors.ts";

const SEED = 12;
const CASES = 40;
/** Each of them asks Auth who it is. */
const ADMIN_CASES = 8;

let actors: Actors;
const printed: string[] = [];
beforeAll(async () => {
  actors = await startWithActors({ output: (_, line) => void printed.push(line) });
});
afterAll(() => actors?.stop());

function send(
  actor: Actor,
  path: string,
  bytes: BodyInit | null,
  headers = actors.headers[actor],
  method = "POST",
): Promise<Response> {
  return fetch(`${actors.stack.url}/functions/v1${path}`, {
    method,
    body: bytes,
    headers: safe({ "content-type": "application/json", ...headers }),
  });
}

test.each(ROUTES)("llm-invoke%s answers a notebook's token, or says what is wrong", async (path, bodies) => {
  await fc.assert(
    fc.asyncProperty(body(bodies), async (bytes) => {
      const response = await send("notebook token", `/llm-invoke${path}`, bytes);
      expect(wrongWith(path, response, await response.text())).toEqual([]);
    }),
    { seed: SEED, numRuns: CASES },
  );
});

const name = "notes";
/** What a console asks of the admin API; nothing that would take away what other cases need. */
const ASKED: [string, unknown[]][] = [
  ["/consumers/add", [{ name: "new", kind: "service", models: ["m"], rpm: 5 }]],
  ["/consumers/scope", [{ name, models: ["m"], requests_per_day: 5 }]],
  ["/tokens/revoke", [{ token_id: crypto.randomUUID() }, { consumer: name }]],
  ["/providers/update", [{
    stage_type: "POEM",
    provider_kind: "openai",
    api_key: "sk-0123456789abcdef",
    settings: { base_url: "https://example.com" },
  }]],
  ["/providers/remove", [{ stage_type: "POEM" }]],
  ["/limits/set", [{ model: "gemma-4-31b-it", rpm: 5, tpm: null, rpd: 10 }]],
  ["/limits/import", [{ text: "Model,RPM\nm,5", planned: [{ line: 2 }] }]],
  ["/alerts/close", [{ id: 1 }]],
  ["/alerts/acknowledge", [{ id: 1 }]],
  ["/invoke", [{ path: "/", body: { model: "gemma-4-31b-it", prompt: "Hello" } }]],
];

describe.each<Actor>(["console administrator", "ordinary user"])(
  "the admin API, asked by the %s",
  (actor) => {
    test.each(ASKED)("%s", async (path, bodies) => {
      await fc.assert(
        fc.asyncProperty(spoilt(bodies), async (value) => {
          const response = await send(actor, `/admin${path}`, JSON.stringify(value) ?? "");
          const text = await response.text();
          expect({ status: response.status, text }).not.toMatchObject({ status: 500 });
          if (actor === "ordinary user") expect(response.status).toBe(403);
          expect(() => JSON.parse(text)).not.toThrow();
        }),
        { seed: SEED, numRuns: ADMIN_CASES },
      );
    });
  },
);

describe("the function api", () => {
  const API_CASES = 8;
  let keeper: Record<string, string>;
  const parts: Record<string, string> = {};
  beforeAll(async () => {
    keeper = { apikey: await actors.add("keeper", "service", { scopes: [...SCOPES] }) };
    const made = async (path: string, body: unknown) => {
      const response = await send("nobody", `/api${path}`, JSON.stringify(body), keeper);
      expect(response.status, path).toBe(201);
      return await response.json();
    };
    const chat = await made("/v1/chats", { title: "A" });
    parts.chats = chat.id;
    parts.messages = (await made(`/v1/chats/${chat.id}/messages`, { content: "Hello" })).id;
    parts.vision = parts.intake = (await made("/v1/intake/posts", { source: "test", external_id: "1" })).id;
  });

  /** What the database thinks of it: an answer, or an error that is the caller's. */
  async function isUnderstood(response: Response): Promise<void> {
    const text = await response.text();
    expect({ status: response.status, text }).not.toMatchObject({ status: 500 });
    expect(() => JSON.parse(text)).not.toThrow();
  }

  const withJson = API_ROUTES.filter(({ body, path }) =>
    // Pages that are asked for are fetched, and what is cleaned up is gone for others.
    body !== undefined && body !== "file" && !/crawl$|cleanup$/.test(path)
  );

  test.each(withJson)("$method $path answers, or says what is wrong", async ({ method, path }) => {
    const where = path.replace(/\{(\w+)\}/g, parts[path.split("/")[2]!] ?? "0".repeat(64));
    await fc.assert(
      fc.asyncProperty(spoilt(API[`${method} ${path}`] ?? ANY_API), async (value) => {
        const sent = JSON.stringify(value) ?? "";
        await isUnderstood(await send("nobody", `/api${where}`, sent, keeper, method.toUpperCase()));
      }),
      { seed: SEED, numRuns: API_CASES },
    );
  });

  const withQuery = API_ROUTES.filter(({ method, query }) => method === "get" && query !== undefined);
  test.each(withQuery)("$method $path with any query", async ({ path, query }) => {
    const names = Object.keys(query!.shape);
    const where = path.replace(/\{(\w+)\}/g, parts[path.split("/")[2]!] ?? "0".repeat(64));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(...names), oddText), { maxLength: 4 }),
        async (pairs) => {
          const asked = pairs.map(([name, text]) => `${name}=${encodeURIComponent(text.toWellFormed())}`);
          await isUnderstood(await send("nobody", `/api${where}?${asked.join("&")}`, null, keeper, "GET"));
        },
      ),
      { seed: SEED, numRuns: API_CASES },
    );
  });
});

test("Telegram's updates are taken, and done: as posts, or as something that cannot be read", async () => {
  const secret = {
    "x-telegram-bot-api-secret-token": await webhookSecret(
      actors.stack.telegram!.env.EVE_TELEGRAM_INTAKE_TOKEN!,
    ),
  };
  // Without links: nothing goes out from here.
  const plain = JSON.parse(
    JSON.stringify(UPDATES).replaceAll(/https:\/\/\w+\.example\/?|\w+\.example/g, "somewhere"),
  );
  let next = 1_000;
  await fc.assert(
    fc.asyncProperty(spoilt(plain), async (value) => {
      // Each is a message of its own.
      const sent = (JSON.stringify(value) ?? "").replace(/"update_id":\d+/, `"update_id":${++next}`)
        .replace(/"message_id":7\b/, `"message_id":${next}`);
      const response = await send("nobody", "/telegram", sent, secret);
      expect.soft([200, 400], await response.text()).toContain(response.status);
    }),
    { seed: SEED, numRuns: CASES },
  );
  await until(async () => {
    await (await actors.stack.invoke("worker", {})).body?.cancel();
    const [row] = await actors.sql`
      select count(*)::int as n from eve.jobs where kind = 'telegram' and finished_at is null and run_at <= now()`;
    return row!.n === 0;
  }, "an update is not done");
  const failed = await actors.sql`
    select error_code, error_detail from eve.jobs where kind = 'telegram' and error_code = 'internal'`;
  expect(failed).toEqual([]);
  const [row] = await actors.sql`select count(*)::int as n from public.posts where source like 'telegram:%'`;
  expect(row!.n).toBeGreaterThan(5);
});

test("no secret was printed, and nothing went unhandled", () => {
  const all = printed.join("\n");
  for (const secret of Object.values(actors.secrets)) expect(all).not.toContain(secret);
  expect(all).not.toMatch(/unhandled|uncaught/i);
});
