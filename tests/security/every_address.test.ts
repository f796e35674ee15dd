/**
 * Every address of every function, as their own tables have them (`addresses.ts`), on a whole stack: tried with each credential that
 * must not open it, and with those that open it for somebody else.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import pMap from "p-map";
import type postgres from "postgres";
import { SCOPES } from "../../shared/contract/actor.ts";
import type { TestStack } from "../harness/stack.ts";
import { type Address, ADDRESSES, apiAddresses, sensibleRequest } from "./addresses.ts";
import { type Actors, claimsOf, MODEL, startWithActors } from "./actors.ts";

let actors: Actors;
let stack: TestStack;
let sql: postgres.Sql;
/** Of a tenant of their own, with every scope. */
let owner: Record<string, string>;
/** As much, of another tenant. */
const others: Record<string, Record<string, string>> = {};

beforeAll(async () => {
  actors = await startWithActors({ startLate: [] });
  ({ stack, sql } = actors);
  await sql`select public.eve_tenant_save('acme'), public.eve_tenant_save('elsewhere')`;
  const scopes = [...SCOPES];
  owner = { apikey: await actors.add("owner", "service", { scopes, tenantId: "acme" }) };
  others["another consumer's key"] = {
    apikey: await actors.add("stranger", "service", { scopes, tenantId: "elsewhere" }),
  };
  const enrolment = await actors.add("strange-notes", "notebook", { scopes, tenantId: "elsewhere" });
  others["another notebook's token"] = { authorization: `Bearer ${await issue(enrolment)}` };
  others["an ordinary user"] = { authorization: `Bearer ${actors.secrets.session}` };
  const ended = await issue(enrolment);
  await actors.admin.revokeTokens({ tokenId: claimsOf(ended).jti });
  revoked = { authorization: `Bearer ${ended}` };
});
afterAll(() => actors?.stop());

/** A token that had every scope. */
let revoked: Record<string, string>;

async function issue(secret: string): Promise<string> {
  const response = await fetch(`${stack.url}/functions/v1/issue-kaggle-token`, {
    method: "POST",
    body: new URLSearchParams({ grant_type: "client_credentials", client_secret: secret }),
  });
  return (await response.json()).access_token;
}

async function send(
  { fn }: Pick<Address, "fn">,
  path: string,
  init: RequestInit,
): Promise<{ status: number; text: string }> {
  const response = await fetch(`${stack.url}/functions/v1/${fn}${path}`, { redirect: "manual", ...init });
  return { status: response.status, text: await response.text() };
}

/** What `api` takes for sense; elsewhere an empty object. */
function ask(address: Address, headers: Record<string, string>) {
  if (address.fn === "api") {
    const { path, init } = sensibleRequest(address);
    return send(address, path, { ...init, headers: { ...init.headers, ...headers } });
  }
  const { method, path } = address;
  return send(address, path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    ...(method !== "GET" && { body: "{}" }),
  });
}

const called = ({ fn, method, pattern }: Address) => `${fn} ${method} ${pattern}`;
const closed = ADDRESSES.filter(({ open }) => !open);
/** Signed by us and within its time: only the database can tell. */
const ENDED = /revoked|never issued|another consumer's/;
/** Who calls is asked of the database, in a time that a busy machine needs for a few of them. */
const AT_ONCE = 4;
/** Those by which nobody is known who has anything. */
const ALWAYS = ["nothing", "a revoked token", "a consumer's key with another secret", "a session"];

/** Whether a credential opens something there, to somebody at least. */
function opens(who: string, { fn }: Address): boolean {
  switch (fn) {
    case "api":
      return /session$/.test(who);
    case "admin":
      return who === "an administrator's session";
    case "issue-kaggle-token":
      return who === "an enrolment secret";
    default:
      return false;
  }
}

async function starts(): Promise<number> {
  const [row] = await sql`select coalesce(sum(turns), 0)::int as n from eve.lanes`;
  return row!.n;
}

test("[security.strangers] no stranger gets in at any of them, and none learns more than that", async () => {
  expect(closed.length).toBeGreaterThan(150);
  const before = await starts();
  for (const [at, [who, headers]] of Object.entries(actors.strangers).entries()) {
    // The four who matter try all of them, every other stranger a fifth: each address has five or six of those.
    const tried = closed.filter((address, n) =>
      !opens(who, address) && (ALWAYS.includes(who) || (n + at) % 5 === 0)
    );
    await pMap(tried, async (address) => {
      const { status, text } = await ask(address, headers);
      const what = `${who}: ${called(address)}: ${status} ${text.slice(0, 200)}`;
      // An empty object makes no sense to most addresses of models, and that is said before the database is asked.
      const early = address.fn === "llm-invoke" && ENDED.test(who) ? [400, 404] : [];
      const misplaced = address.fn === "issue-kaggle-token" ? [400, 429] : [];
      expect.soft([401, 403, ...early, ...misplaced], what).toContain(status);
      expect.soft(text, what).not.toMatch(/postgres|stack|at file:/i);
    }, { concurrency: AT_ONCE });
  }
  expect(await starts()).toBe(before);
});

test("[security.strangers] functions that are the project's own open to nobody else", async () => {
  for (
    const address of closed.filter(({ fn }) => ["admin", "maintenance", "worker", "telegram"].includes(fn))
  ) {
    for (const who of ["notebook token", "consumer key", "ordinary user"] as const) {
      const { status } = await ask(address, actors.headers[who]);
      expect.soft([401, 403], `${who}: ${called(address)}`).toContain(status);
    }
  }
});

test("[security.strangers] a token that was revoked ends at every address of the function api, whatever it was for", async () => {
  for (const address of closed.filter(({ fn }) => fn === "api")) {
    const { status, text } = await ask(address, revoked);
    expect.soft(status, `${called(address)}: ${text.slice(0, 200)}`).toBe(401);
  }
});

/** In everything that the owner keeps. */
const MARK = "marked-as-the-owners";

/** One of everything. @returns the parts of paths that lead to it, by how the path begins */
async function belongings(): Promise<[RegExp, Record<string, string>][]> {
  const made = async (path: string, body: unknown, type = "application/json") => {
    const { status, text } = await send({ fn: "api" }, path, {
      method: "POST",
      headers: { ...owner, "content-type": type },
      body: type === "application/json" ? JSON.stringify(body) : String(body),
    });
    expect(status, `${path}: ${text}`).toBeLessThan(300);
    return JSON.parse(text);
  };
  const chat = await made("/v1/chats", { title: MARK, metadata: { [MARK]: true } });
  const message = await made(`/v1/chats/${chat.id}/messages`, { content: MARK });
  await made(`/v1/chats/${chat.id}/search-results`, { block_text: MARK });
  await made(`/v1/messages/${message.id}/images`, { image_name: MARK });
  const share = await made(`/v1/chats/${chat.id}/shares`, {});
  const file = await made(`/v1/media?key=${MARK}.txt`, MARK, "text/plain");
  const post = await made("/v1/intake/posts", { source: "test", external_id: MARK, text: MARK });
  // Nobody fetches an address inside.
  const { page } = await made("/v1/crawl", { url: `http://127.0.0.1:1/${MARK}`, wait: false });
  const pageId = page?.id ??
    (await sql`select id from public.crawl_pages where url like ${`%${MARK}`}`)[0]!.id;
  return [
    [/^\/v1\/chats/, { id: chat.id, share_id: share.id }],
    [/^\/v1\/messages/, { id: message.id }],
    [/^\/v1\/media\/uploads/, { sha256: file.sha256 }],
    [/^\/v1\/media/, { name: file.sha256 }],
    [/^\/v1\/(?:intake|vision)\/posts/, { id: post.id }],
    [/^\/v1\/crawl/, { id: pageId }],
    [/^\/v1\/storage/, { tenant_id: "acme" }],
  ];
}

/** Everything of the owner's. */
async function fingerprint(): Promise<string> {
  const [row] = await sql`
    select md5(concat(
      (select string_agg(t::text, '' order by t.id) from public.chats t where t.title = ${MARK}),
      (select string_agg(t::text, '' order by t.id) from public.messages t where t.content = ${MARK}),
      (select string_agg(t::text, '' order by t.id) from public.message_images t where t.image_name = ${MARK}),
      (select string_agg(t::text, '' order by t.id) from public.chat_shares t),
      (select string_agg(t::text, '' order by t.id) from public.posts t where t.tenant_id = 'acme'),
      (select string_agg(t::text, '') from eve.tenants t where t.id = 'acme')
    )) as digest`;
  return row!.digest;
}

describe("[security.strangers] what one consumer keeps", () => {
  let mine: [RegExp, Record<string, string>][];
  beforeAll(async () => {
    mine = await belongings();
  });

  const addresses = () =>
    apiAddresses().filter(({ open }) => !open).map((address) => {
      const [, values = {}] = mine.find(([pattern]) => pattern.test(address.pattern)) ?? [];
      return apiAddresses(values).find(({ method, pattern }) =>
        method === address.method && pattern === address.pattern
      )!;
    });

  test("is there for them, at every address that shows it", async () => {
    const shown: string[] = [];
    for (const address of addresses().filter(({ method }) => method === "GET")) {
      const { status, text } = await ask(address, owner);
      expect.soft([200, 302, 403, 404], `${called(address)}: ${text.slice(0, 200)}`).toContain(status);
      if (text.includes(MARK)) shown.push(address.pattern);
    }
    expect(shown).toEqual(
      expect.arrayContaining([
        "/v1/chats",
        "/v1/chats/{id}",
        "/v1/chats/{id}/messages",
        "/v1/chats/{id}/export",
        "/v1/messages/{id}/images",
        "/v1/vision/posts/{id}",
        "/v1/crawl/pages/{id}",
      ]),
    );
  });

  test("is not there for another's key, for a token of theirs or for a user, and stays as it is", async () => {
    const before = await fingerprint();
    for (const [who, headers] of Object.entries(others)) {
      for (const address of addresses()) {
        for (const inTenant of [false, true]) {
          const { path, init } = sensibleRequest(address);
          const named = inTenant && address.route?.query !== undefined &&
            "tenant_id" in address.route.query.shape;
          if (inTenant && !named) continue;
          const asked = named ? `${path}${path.includes("?") ? "&" : "?"}tenant_id=acme` : path;
          const { status, text } = await send(address, asked, {
            ...init,
            headers: { ...init.headers, ...headers },
          });
          const what = `${who}: ${called(address)} ${asked}: ${status} ${text.slice(0, 200)}`;
          expect.soft(status, what).toBeLessThan(500);
          expect.soft(text, what).not.toContain(MARK);
          // That nothing of theirs is under way is said of anything.
          const saysNothing = address.pattern.endsWith("/abort");
          if ((/\{/.test(address.pattern) || named) && !saysNothing) {
            expect.soft(status, what).toBeGreaterThanOrEqual(400);
          }
        }
      }
    }
    expect(await fingerprint()).toBe(before);
  });

  test("is found by its file's key by them alone", async () => {
    const found = (headers: Record<string, string>) =>
      send({ fn: "api" }, `/v1/media/${MARK}.txt?info=true`, { headers });
    expect((await found(owner)).status).toBe(200);
    for (const [who, headers] of Object.entries(others)) {
      expect.soft([403, 404], who).toContain((await found(headers)).status);
    }
  });
});

test("[security.strangers] what is asked without sense is counted, by code and by whom, at every function", async () => {
  const asked: [Pick<Address, "fn">, string, RequestInit, number][] = [
    [{ fn: "admin" }, "/providers/remove", { method: "POST", body: "{" }, 400],
    [{ fn: "maintenance" }, "/alerts", { method: "POST", body: "[]" }, 400],
    [{ fn: "telegram" }, "/replay", { method: "POST", body: '{"update_ids":[]}' }, 400],
    [{ fn: "worker" }, "", { method: "DELETE" }, 405],
    [{ fn: "api" }, "/v1/chats", { method: "POST", body: "{" }, 400],
  ];
  for (const [fn, path, init, expected] of asked) {
    const { status, text } = await send(fn, path, {
      ...init,
      headers: { "content-type": "application/json", apikey: stack.keys.secret },
    });
    expect.soft(status, `${fn.fn}: ${text}`).toBe(expected);
  }
  const unsupported = await send({ fn: "issue-kaggle-token" }, "", {
    method: "POST",
    body: new URLSearchParams({ grant_type: "password", client_secret: "x" }),
  });
  expect(unsupported.status).toBe(400);
  await expect.poll(async () =>
    (await sql`select code, subject from eve.bad_requests`).map(({ code, subject }) => `${code} ${subject}`)
  ).toEqual(expect.arrayContaining([
    "invalid_json project",
    "invalid_request project",
    "method_not_allowed project",
    "unsupported_grant_type ",
  ]));
});

test("and after all of it others are answered", async () => {
  const { status } = await send({ fn: "llm-invoke" }, "", {
    method: "POST",
    headers: owner,
    body: JSON.stringify({ model: MODEL, prompt: "Hello" }),
  });
  expect(status).toBe(200);
});
