/** The whole stack as an outsider meets it: every way in, with every credential that must not open it. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type postgres from "postgres";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { until } from "../harness/patience.ts";
import type { TestStack } from "../harness/stack.ts";
import { type Actors, claimsOf, MODEL, startWithActors } from "./actors.ts";

let actors: Actors;
let stack: TestStack;
let sql: postgres.Sql;
let admin: Actors["admin"];
let secrets: Actors["secrets"];
let strangers: Actors["strangers"];
let add: Actors["add"];
let tokenFor: Actors["tokenFor"];
/** Everything that any part printed, PostgreSQL's statements included. */
const printed: string[] = [];
/** Status, headers and body of every answer but those that hand a token out. */
const answered: string[] = [];

beforeAll(async () => {
  actors = await startWithActors({
    statementLog: true,
    output: (part, line) => void printed.push(`[${part}] ${line}`),
  });
  ({ stack, sql, admin, secrets, strangers, add, tokenFor } = actors);
});
afterAll(() => actors?.stop());

async function send(path: string, init: RequestInit = {}): Promise<{ status: number; text: string }> {
  const response = await fetch(`${stack.url}${path}`, { redirect: "manual", ...init });
  const text = await response.text();
  answered.push(`${response.status} ${[...response.headers].join("\n")} ${text}`);
  return { status: response.status, text };
}

const GATEWAY = "/functions/v1/llm-invoke";
const chat = { model: MODEL, messages: [{ role: "user", content: "Hello" }] };
const contents = { contents: [{ parts: [{ text: "Hello" }] }] };
/** Every way to the models, and to what is known about them. */
const WAYS: [string, string, unknown?, Record<string, string>?][] = [
  ["POST", GATEWAY, { model: MODEL, prompt: "Hello" }],
  ["POST", GATEWAY, { model: MODEL, prompt: "Hello", stream: true }],
  ["POST", `${GATEWAY}/openai/v1/chat/completions`, chat],
  ["POST", `${GATEWAY}/openai/v1/chat/completions`, { ...chat, stream: true }],
  ["POST", `${GATEWAY}/openai/v1/embeddings`, { model: "gemini-embedding-001", input: "Hello" }],
  ["GET", `${GATEWAY}/openai/v1/models`],
  ["GET", `${GATEWAY}/openai/v1/models/${MODEL}`],
  ["POST", `${GATEWAY}/openai/v1/responses`, { model: MODEL, input: "Hello" }],
  ["POST", `${GATEWAY}/openai/v1/responses`, { model: MODEL, input: "Hello", background: true }],
  ["POST", `${GATEWAY}/anthropic/v1/messages`, { ...chat, max_tokens: 100 }],
  ["POST", `${GATEWAY}/anthropic/v1/messages`, { ...chat, max_tokens: 100, stream: true }],
  ["POST", `${GATEWAY}/anthropic/v1/messages/count_tokens`, chat],
  ["GET", `${GATEWAY}/anthropic/v1/messages/batches`],
  ["POST", `${GATEWAY}/anthropic/v1/messages/batches`, {
    // Its call will be found wrong, so nothing is sent while others are counted.
    requests: [{ custom_id: "a", params: { model: MODEL, max_tokens: 9, messages: [] } }],
  }],
  ["GET", `${GATEWAY}/anthropic/v1/models`],
  ["GET", `${GATEWAY}/anthropic/v1/models/${MODEL}`],
  ["POST", `${GATEWAY}/v1beta/models/${MODEL}:generateContent`, contents],
  ["POST", `${GATEWAY}/v1/models/${MODEL}:generateContent`, contents],
  ["POST", `${GATEWAY}/v1beta/models/${MODEL}:streamGenerateContent?alt=sse`, contents],
  ["POST", `${GATEWAY}/v1beta/models/${MODEL}:countTokens`, contents],
  ["POST", `${GATEWAY}/v1beta/models/gemini-embedding-001:embedContent`, { content: contents.contents[0] }],
  ["GET", `${GATEWAY}/v1beta/models`],
  ["GET", `${GATEWAY}/v1beta/models/${MODEL}`],
  ["POST", GATEWAY, { model: MODEL, prompt: "Hello", mode: "queue" }],
  ["GET", `${GATEWAY}/jobs`],
  ["GET", `${GATEWAY}/openai/v1/files`],
  ["GET", `${GATEWAY}/openai/v1/batches`],
  ["POST", `${GATEWAY}/openai/v1/uploads`, {
    bytes: 2,
    filename: "a.jsonl",
    mime_type: "application/jsonl",
    purpose: "batch",
  }],
  ["POST", `${GATEWAY}/v1beta/models/${MODEL}:batchGenerateContent`, {
    // Its request will be found wrong, so nothing is sent while others are counted.
    batch: { inputConfig: { requests: { requests: [{ request: { ...contents, model: "another" } }] } } },
  }],
  ["GET", `${GATEWAY}/v1beta/batches`],
  ["GET", `${GATEWAY}/v1beta/operations`],
  ["GET", `${GATEWAY}/v1beta/files`],
  ["POST", `${GATEWAY}/upload/v1beta/files`, { file: { mimeType: "text/plain", sizeBytes: 1 } }, {
    "x-goog-upload-protocol": "resumable",
    "x-goog-upload-command": "start",
  }],
];
const NOBODYS = "0".repeat(32);
/** Every way to what is kept; there is nothing of that name. */
const KEPT: typeof WAYS = [
  ...["GET", "DELETE"].flatMap((method): typeof WAYS => [
    [method, `${GATEWAY}/jobs/00000000-0000-4000-8000-000000000000`],
    [method, `${GATEWAY}/openai/v1/files/file-${NOBODYS}`],
    [method, `${GATEWAY}/openai/v1/responses/resp_${NOBODYS}`],
  ]),
  ...["GET", "DELETE"].flatMap((method): typeof WAYS => [
    [method, `${GATEWAY}/v1beta/files/${NOBODYS}`],
    [method, `${GATEWAY}/v1beta/batches/${NOBODYS}`],
  ]),
  ["GET", `${GATEWAY}/v1beta/files/${NOBODYS}:download`],
  ["GET", `${GATEWAY}/anthropic/v1/messages/batches/msgbatch_${NOBODYS}`],
  ["GET", `${GATEWAY}/anthropic/v1/messages/batches/msgbatch_${NOBODYS}/results`],
  ["DELETE", `${GATEWAY}/anthropic/v1/messages/batches/msgbatch_${NOBODYS}`],
  ["POST", `${GATEWAY}/anthropic/v1/messages/batches/msgbatch_${NOBODYS}/cancel`],
  ["POST", `${GATEWAY}/v1beta/batches/${NOBODYS}:cancel`, {}],
  ["GET", `${GATEWAY}/jobs/00000000-0000-4000-8000-000000000000/content`],
  ["GET", `${GATEWAY}/openai/v1/files/file-${NOBODYS}/content`],
  ["GET", `${GATEWAY}/openai/v1/batches/batch_${NOBODYS}`],
  ["POST", `${GATEWAY}/openai/v1/batches/batch_${NOBODYS}/cancel`],
  ["POST", `${GATEWAY}/openai/v1/responses/resp_${NOBODYS}/cancel`],
  ["POST", `${GATEWAY}/openai/v1/uploads/upload_${NOBODYS}/complete`, { part_ids: [`part_${NOBODYS}`] }],
  ["POST", `${GATEWAY}/openai/v1/uploads/upload_${NOBODYS}/cancel`],
  ["POST", `${GATEWAY}/openai/v1/batches`, {
    input_file_id: `file-${NOBODYS}`,
    endpoint: "/v1/responses",
    completion_window: "24h",
  }],
];
/** Signed by us and within its time: only the database can tell. */
const ENDED = /revoked|never issued|another consumer's/;
const reserves = ([method, path]: typeof WAYS[number]) =>
  method === "POST" && !/countTokens|count_tokens/.test(path);

const call = ([method, path, body, more]: typeof WAYS[number], headers: Record<string, string>) =>
  send(path, {
    method,
    headers: { "content-type": "application/json", ...more, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

/** A form of fields and one file, `{}`. */
function sendForm(
  path: string,
  fields: Record<string, string>,
  file: string,
  headers: Record<string, string>,
) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  form.set(file, new File(["{}"], "a.jsonl"));
  return send(`${GATEWAY}/openai/v1/${path}`, { method: "POST", headers, body: form });
}
const sendFile = (headers: Record<string, string>) =>
  sendForm("files", { purpose: "batch" }, "file", headers);
const sendPart = (id: string, headers: Record<string, string>) =>
  sendForm(`uploads/${id}/parts`, {}, "data", headers);

describe("the functions", () => {
  test("every way is one: the project's key passes", async () => {
    for (const way of WAYS) {
      const { status, text } = await call(way, { apikey: stack.keys.secret });
      // There may be no such embedding model here; what counts is that it is not the credential that is refused.
      expect.soft([401, 403, 405, 500], `${way[0]} ${way[1]}: ${text}`).not.toContain(status);
    }
  });

  test("no stranger gets through any of them, and none learns more than that", async () => {
    await worked();
    const before = await starts();
    for (const [at, [who, headers]] of Object.entries(strangers).entries()) {
      // Each stranger tries every fifth of them, and five or six strangers each one: who calls is asked in one place for all.
      const kept = KEPT.filter((_, n) => (n + at) % 5 === 0);
      const answers = [
        ...[...WAYS, ...kept].filter((way) => !ENDED.test(who) || reserves(way)).map((way) =>
          [`${way[0]} ${way[1]}`, () => call(way, headers)] as const
        ),
        ["a file", () => sendFile(headers)] as const,
        ["a part", () => sendPart(`upload_${NOBODYS}`, headers)] as const,
      ];
      await Promise.all(answers.map(async ([way, answer]) => {
        const { status, text } = await answer();
        expect.soft([401, 403], `${who}: ${way}: ${status} ${text.slice(0, 200)}`).toContain(status);
        expect.soft(text, who).not.toMatch(/eve\.|scoped_tokens|postgres|stack|at file:|kid|signature/i);
      }));
    }
    expect(await starts()).toBe(before);
  });

  // Revocation is the database's to know, and a way that reserves nothing does not ask it yet.
  test("a token that ended gets through none that reserves nothing either", async () => {
    for (const [who, headers] of Object.entries(strangers).filter(([who]) => ENDED.test(who))) {
      for (const way of [...WAYS, ...KEPT].filter((way) => !reserves(way))) {
        const { status } = await call(way, headers);
        expect.soft([401, 403], `${who}: ${way[0]} ${way[1]}`).toContain(status);
      }
    }
  });

  test("[security.token-leak] a token does what it is for in every endpoint", async () => {
    for (const way of WAYS.filter(([, path]) => !path.includes("embed"))) {
      const { status, text } = await call(way, { authorization: `Bearer ${secrets.token}` });
      expect.soft([200, 202], `${way[0]} ${way[1]}: ${text}`).toContain(status);
    }
    for (const way of KEPT) {
      const { status, text } = await call(way, { authorization: `Bearer ${secrets.token}` });
      expect.soft(status, `${way[0]} ${way[1]}: ${text}`).toBe(404);
    }
    expect((await sendFile({ authorization: `Bearer ${secrets.token}` })).status).toBe(200);
  });

  test("what one consumer keeps is not there for another", async () => {
    const mine = { apikey: secrets.service! };
    const made = async (way: typeof WAYS[number]) => JSON.parse((await call(way, mine)).text);
    const background = { model: MODEL, input: "Hello", background: true };
    const { job } = await made(["POST", GATEWAY, { model: MODEL, prompt: "Hello", mode: "queue" }]);
    const response = await made(["POST", `${GATEWAY}/openai/v1/responses`, background]);
    const file = JSON.parse((await sendFile(mine)).text);
    const upload = await made(WAYS.find(([, path]) => path.endsWith("/uploads"))!);
    const part = JSON.parse((await sendPart(upload.id, mine)).text);
    const batch = await made(["POST", `${GATEWAY}/openai/v1/batches`, {
      input_file_id: file.id,
      endpoint: "/v1/responses",
      completion_window: "24h",
    }]);
    const ways: typeof WAYS = [
      ["GET", `${GATEWAY}/jobs/${job.id}`],
      ["GET", `${GATEWAY}/openai/v1/responses/${response.id}`],
      ["POST", `${GATEWAY}/openai/v1/responses/${response.id}/cancel`],
      ["DELETE", `${GATEWAY}/openai/v1/responses/${response.id}`],
      ["GET", `${GATEWAY}/openai/v1/files/${file.id}`],
      ["GET", `${GATEWAY}/openai/v1/files/${file.id}/content`],
      ["DELETE", `${GATEWAY}/openai/v1/files/${file.id}`],
      ["GET", `${GATEWAY}/openai/v1/batches/${batch.id}`],
      ["POST", `${GATEWAY}/openai/v1/batches/${batch.id}/cancel`],
      ["DELETE", `${GATEWAY}/jobs/${job.id}`],
      ["POST", `${GATEWAY}/openai/v1/uploads/${upload.id}/complete`, { part_ids: [part.id] }],
      ["POST", `${GATEWAY}/openai/v1/uploads/${upload.id}/cancel`],
    ];
    for (const who of ["other", "token"]) {
      for (const way of ways) {
        const { status, text } = await call(way, { authorization: `Bearer ${secrets[who]}` });
        expect.soft(status, `${who}: ${way[0]} ${way[1]}: ${text}`).toBe(404);
      }
      expect.soft((await sendPart(upload.id, { authorization: `Bearer ${secrets[who]}` })).status, who).toBe(
        404,
      );
      for (const list of ["/jobs", "/openai/v1/files", "/openai/v1/batches"]) {
        const { text } = await send(GATEWAY + list, { headers: { authorization: `Bearer ${secrets[who]}` } });
        for (const { id } of [job, file, batch]) expect.soft(text, `${who}: ${list}`).not.toContain(id);
      }
    }
    // They are there for anyone who made them.
    for (const way of ways.filter(([method]) => method === "GET")) {
      expect.soft((await call(way, mine)).status, way[1]).toBe(200);
    }
  });

  test("a token lists its own models only", async () => {
    const { text } = await send(`${GATEWAY}/openai/v1/models`, {
      headers: { authorization: `Bearer ${secrets.token}` },
    });
    expect(JSON.parse(text).data.map((one: { id: string }) => one.id)).toEqual([MODEL]);
  });

  test("[security.guessing] a wrong secret and an unknown consumer get the same answer", async () => {
    const [wrong, unknown] = await Promise.all(
      [secrets.service!.replace(/.{4}$/, "0000"), `eve_service_${"0".repeat(16)}_${"0".repeat(64)}`].map((
        key,
      ) => send(GATEWAY, { method: "POST", headers: { apikey: key }, body: "{}" })),
    );
    const withoutIds = (text: string) => text.replace(/[0-9a-f-]{36}/g, "");
    expect([wrong!.status, withoutIds(wrong!.text)]).toEqual([unknown!.status, withoutIds(unknown!.text)]);
  });

  test("a header of 100,000 letters is refused, and the next caller served", async () => {
    for (
      const name of [
        "authorization",
        "apikey",
        "x-api-key",
        "x-goog-api-key",
        "traceparent",
        "x-eve-request-id",
      ]
    ) {
      const value = (name === "authorization" ? "Bearer " : "") + "x".repeat(100_000);
      const status = await send(GATEWAY, { method: "POST", headers: { [name]: value }, body: "{}" })
        .then((answer) => answer.status, () => "closed");
      expect.soft([400, 401, 413, 431, "closed"], name).toContain(status);
    }
    expect((await call(WAYS[0]!, { apikey: secrets.service! })).status).toBe(200);
  });

  test("[security.prompt] an image's address leads to nowhere inside", async () => {
    let visited = 0;
    const inside = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
      visited++;
      return new Response("inside");
    });
    const { port } = inside.addr;
    const decimal = 127 * 2 ** 24 + 1;
    const hosts = [
      `127.0.0.1:${port}`,
      `localhost:${port}`,
      `[::1]:${port}`,
      `[::ffff:127.0.0.1]:${port}`,
      `0.0.0.0:${port}`,
    ];
    const links = [
      ...[...hosts, `${decimal}:${port}`, `0x7f000001:${port}`, `127.1:${port}`].map((host) =>
        `http://${host}/a.png`
      ),
      `${stack.url}/rest/v1/google_ai_api_keys?apikey=${stack.keys.publishable}`,
      "http://169.254.169.254/latest/meta-data/",
      "http://metadata.google.internal/",
      "http://10.0.0.1/a.png",
      `https://user:pass@127.0.0.1:${port}/a.png`,
      "file:///etc/passwd",
      "ftp://127.0.0.1/a.png",
    ];
    for (const url of links) {
      const { status, text } = await call([
        "POST",
        `${GATEWAY}/openai/v1/chat/completions`,
        { model: MODEL, messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }] },
      ], { apikey: secrets.service! });
      expect.soft(status, `${url}: ${text}`).toBe(400);
    }
    expect(visited).toBe(0);
    await inside.shutdown();
  });

  test("[security.prompt] text that means something elsewhere means nothing here", async () => {
    const nasty = [
      "'; drop table eve.requests; --",
      '" or ""="',
      "$$; select pg_sleep(5); $$",
      "\r\nx-injected: yes",
      "../../etc/passwd",
      "{{7*7}}",
      "\u0000",
      "__proto__",
      "%00%0d%0ax-injected:%20yes",
    ];
    const fields = [
      "model",
      "prompt",
      "system",
      "request_id",
      "class",
      "mode",
      "max_wait_ms",
      "metadata",
      "tools",
    ];
    for (const text of nasty) {
      for (const field of fields) {
        const body = { model: MODEL, prompt: "Hello", [field]: text };
        const { status } = await send(GATEWAY, {
          method: "POST",
          headers: { apikey: secrets.service! },
          body: JSON.stringify(body),
        });
        expect.soft(status, `${field}: ${JSON.stringify(text)}`).toBeLessThan(500);
      }
      for (
        const field of [
          "client_id",
          "client_secret",
          "scope",
          "models",
          "class",
          "requests",
          "ttl",
          "grant_type",
        ]
      ) {
        const { status } = await send("/functions/v1/issue-kaggle-token", {
          method: "POST",
          body: new URLSearchParams({
            grant_type: "client_credentials",
            client_secret: secrets.notebook!,
            [field]: text,
          }),
        });
        expect.soft([400, 401], `${field}: ${JSON.stringify(text)}`).toContain(status);
      }
      for (
        const header of [
          "traceparent",
          "x-forwarded-for",
          "cf-connecting-ip",
          "x-eve-request-id",
          "x-eve-mode",
        ]
      ) {
        const { status } = await send(GATEWAY, {
          method: "POST",
          headers: { apikey: secrets.service!, [header]: encodeURIComponent(text) },
          body: JSON.stringify({ model: MODEL, prompt: "Hello" }),
        });
        expect.soft(status, `${header}: ${JSON.stringify(text)}`).toBeLessThan(500);
      }
    }
    expect(answered.filter((answer) => /^x-injected/m.test(answer))).toEqual([]);
    expect(await sql`select count(*)::int > 0 as there from eve.requests`).toEqual([{ there: true }]);
  });
});

describe("one consumer's affairs", () => {
  const ask = (key: string, body: Record<string, unknown>) =>
    send(GATEWAY, {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: MODEL, prompt: "Hello", ...body }),
    });

  test("are not another's: the same request_id is another request", async () => {
    const id = "shared-id";
    expect((await ask(secrets.service!, { request_id: id })).status).toBe(200);
    expect((await ask(secrets.other!, { request_id: id })).status).toBe(200);
    expect((await ask(secrets.other!, { request_id: `${id}-2`, prompt: "Other" })).status).toBe(200);
    await settled();
    const rows = await sql`
      select c.name from eve.requests r join eve.consumers c on c.id = r.consumer_id
      where r.request_id = ${id} order by c.name`;
    expect(rows.map((row) => row.name)).toEqual(["bot", "other"]);
  });

  // The reservation answers a repeated request before it asks who repeats it.
  test("end with its token: a revoked one does not even get stored answers", async () => {
    const token = await tokenFor();
    secrets.replayed = token;
    expect((await ask(token, { request_id: "told-before" })).status).toBe(200);
    await settled();
    await admin.revokeTokens({ tokenId: claimsOf(token).jti });
    expect((await ask(token, { request_id: "told-before" })).status).toBe(401);
  });

  test("stay within a token's budget, of requests and of tokens, though 50 call at once", async () => {
    const requests = secrets.raced = await tokenFor({ requests: 7 });
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) => ask(requests, { prompt: `Say ${n}` })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(7);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));

    const tokens = secrets.spent = await tokenFor({ tokens: 100 });
    await Promise.all(Array.from({ length: 50 }, (_, n) => ask(tokens, { prompt: `Say ${n}` })));
    await settled();
    const [row] = await sql`
      select coalesce(sum(coalesce(a.input_tokens, a.tokens_booked)), 0)::int as spent from eve.attempts a
      join eve.requests r on r.request_no = a.request_no where r.token_id = ${claimsOf(tokens).jti}`;
    expect(row!.spent).toBeGreaterThan(0);
    // What a settled call had booked and not used is there for the next one: so spent, not booked.
    expect(row!.spent).toBeLessThanOrEqual(100);
  });

  test("are those of its own minute", async () => {
    await stopClock(sql);
    onTestFinished(() => moveClock(sql, 0));
    const key = secrets.slow = await add("slow", "service", { rpm: 3 });
    const statuses = [];
    for (let n = 0; n < 5; n++) statuses.push((await ask(key, { prompt: `Say ${n}` })).status);
    expect(statuses).toEqual([200, 200, 200, 429, 429]);
  });
});

test("Vault holds the project's address and key, and roles of the REST API but the service's read none of it", async () => {
  expect(await sql`select name from vault.secrets order by name`).toEqual([
    { name: "eve_project_url" },
    { name: "eve_secret_key" },
  ]);
  const readers = await sql`
    select r.rolname as role from pg_catalog.pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role') and has_schema_privilege(r.oid, 'vault', 'usage')
      and has_table_privilege(r.oid, 'vault.decrypted_secrets', 'select')`;
  expect(readers).toEqual([{ role: "service_role" }]);
});

describe("[security.project-user] the REST API", () => {
  test("shows and does nothing, for any caller", async () => {
    const tables = await sql<{ name: string; column: string }[]>`
      select distinct on (c.oid) c.relname as name, a.attname as column
      from pg_catalog.pg_class c
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace in ('public'::regnamespace, 'eve'::regnamespace) and c.relkind in ('r', 'v')
        and a.attgenerated = '' and a.attidentity = ''
      order by c.oid, a.attnum desc`;
    const functions = await sql<{ name: string; args: string[] }[]>`
      select distinct on (p.proname) p.proname as name, coalesce(p.proargnames, '{}') as args
      from pg_catalog.pg_proc p
      where p.pronamespace in ('public'::regnamespace, 'eve'::regnamespace) order by p.proname`;
    expect([tables.length > 15, functions.length > 30]).toEqual([true, true]);
    const ways: typeof WAYS = [
      ...tables.flatMap(({ name, column }): typeof WAYS => [
        ["GET", `/rest/v1/${name}?select=*`],
        ["POST", `/rest/v1/${name}`, { [column]: null }],
        ["PATCH", `/rest/v1/${name}?${column}=not.is.null`, { [column]: null }],
        ["DELETE", `/rest/v1/${name}?${column}=not.is.null`],
      ]),
      ...functions.map(({ name, args }): typeof WAYS[number] => [
        "POST",
        `/rest/v1/rpc/${name}`,
        Object.fromEntries(args.map((arg) => [arg, null])),
      ]),
    ];
    const few = ["nothing", "the publishable key", "a session", "alg none as the service role"];
    const callers = few.map((who): [string, Record<string, string>] => [who, {
      ...(who === "nothing" ? {} : { apikey: stack.keys.publishable }),
      ...strangers[who],
    }]);
    callers.push(["a notebook's token", {
      apikey: stack.keys.publishable,
      authorization: `Bearer ${secrets.token}`,
    }]);
    callers.push(["a consumer's key", { apikey: secrets.service! }]);
    // What signed-in users have of their own is theirs through this API too: none of it is another's.
    const chats = ["chats", "messages", "message_images", "search_results", "chat_shares"];
    await sql`insert into public.chats (title, owner) values ('of another', gen_random_uuid())`;
    for (const table of chats) {
      const answer = await call(["GET", `/rest/v1/${table}?select=id`], {
        apikey: stack.keys.publishable,
        ...strangers["a session"],
      });
      expect.soft([answer.status, answer.text.trim()], table).toEqual([200, "[]"]);
    }
    // And what they may read of their tenants: it has none.
    const ofTenants = ["posts", "post_media_map", "graph_nodes", "graph_edges", "articles", "post_links"];
    await sql`insert into public.posts (tenant_id, source, external_id) values ('default', 'test', 'one')`;
    for (const table of ofTenants) {
      const answer = await call(["GET", `/rest/v1/${table}?select=*`], {
        apikey: stack.keys.publishable,
        ...strangers["a session"],
      });
      expect.soft([answer.status, answer.text.trim()], table).toEqual([200, "[]"]);
    }
    const isTheirs = ([method, path]: typeof WAYS[number]) =>
      chats.some((table) => path.startsWith(`/rest/v1/${table}?`) || path === `/rest/v1/${table}`) ||
      method === "GET" && ofTenants.some((table) => path.startsWith(`/rest/v1/${table}?`));
    // These are no credentials here, whatever they ask for: each way is tried by one of them.
    const unknown = ["alg none as the service role", "a notebook's token", "a consumer's key"];
    const before = await fingerprint();
    for (const [who, headers] of callers) {
      for (const [place, way] of ways.entries()) {
        if (who === "a session" && isTheirs(way)) continue;
        if (unknown.includes(who) && unknown[place % unknown.length] !== who) continue;
        const { status, text } = await call(way, headers);
        const what = `${who}: ${way[0]} ${way[1]}: ${text.slice(0, 200)}`;
        expect.soft(status, what).toBeGreaterThanOrEqual(400);
        expect.soft(status, what).toBeLessThan(500);
      }
    }
    expect(await fingerprint()).toBe(before);
  });

  test("knows no other schema, though the owner asks", async () => {
    for (const profile of ["eve", "auth", "pg_catalog", "vault"]) {
      const { status } = await send("/rest/v1/consumers?select=*", {
        headers: { apikey: stack.keys.secret, "accept-profile": profile },
      });
      expect.soft(status, profile).toBeGreaterThanOrEqual(400);
    }
  });
});

test("a key that an administrator enters is used, and nothing shows it; one that Google rejects is kept nowhere", async () => {
  const headers = { "apikey": stack.keys.secret, "content-type": "application/json" };
  const post = (path: string, body: unknown) =>
    send(`/functions/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  secrets["mistyped key"] = "AIzaSyMistypedMistypedMistypedMistyped00";
  const rejected = await post("admin/keys/add", { alias: "mistyped", api_key: secrets["mistyped key"] });
  expect(rejected).toMatchObject({ status: 400, text: expect.stringMatching(/api_key.*Google rejects it/) });
  expect((await post("admin/keys/test", { api_key: secrets["mistyped key"] })).text).toContain("invalid");
  await sql`update public.google_ai_api_keys set is_active = false`;
  try {
    // Twice: the second is known to its instance already.
    for (const alias of ["entered", "entered again"]) {
      expect(await post("admin/keys/add", { alias, api_key: secrets["google c"] })).toMatchObject({
        status: 200,
      });
    }
    for (let call = 0; call < 3; call++) {
      const { status } = await post("llm-invoke", { model: MODEL, prompt: "Hello" });
      expect(status).toBe(200);
    }
    const [stored] =
      await sql`select env_var_name from public.google_ai_api_keys where key_alias = 'entered'`;
    const said = await post("admin/keys/test", { env_var_name: stored!.env_var_name });
    expect(said.text).toContain('"active"');
    expect((await send("/functions/v1/admin/keys", { headers })).text).toContain('"last_four":"ey-c"');
    expect((await post("maintenance/key_health", {})).text).toContain('"entered":"works"');
    expect((await post("maintenance/models_sync", {})).text).toMatch(/"entered":\d/);
  } finally {
    await sql`delete from public.google_ai_api_keys where env_var_name like 'stored:%'`;
    await sql`update public.google_ai_api_keys set is_active = true`;
  }
  expect((await sql`select from eve.stored_keys`).length).toBe(0);
});

test("[security.database-read] no secret of all this is in any table, any log or any answer", async () => {
  await settled();
  // Taken before the tables are searched: those searches write what they look for into the statement log.
  const log = printed.join("\n");
  const hidden = Object.entries(secrets);
  expect(hidden.length).toBeGreaterThan(12);
  // The part that is secret: what comes before it is a name.
  const needles = hidden.map(([name, secret]): [string, string] => [
    name,
    secret.startsWith("eve_")
      ? secret.split("_")[3]!
      : secret.startsWith("eyJ")
      ? secret.split(".")[2]!
      : secret,
  ]);
  const tables = await sql<{ relation: string }[]>`
    select format('%I.%I', relnamespace::regnamespace, relname) as relation from pg_catalog.pg_class
    where relkind in ('r', 'm') and relnamespace in ('public'::regnamespace, 'eve'::regnamespace, 'net'::regnamespace, 'cron'::regnamespace, 'vault'::regnamespace)`;
  expect(tables.map(({ relation }) => relation)).toContain("vault.secrets");
  for (const { relation } of tables) {
    for (const [name, needle] of needles) {
      // There for the schedule, which calls with it.
      if (relation === "vault.secrets" && name === "project") continue;
      const found = await sql.unsafe(`select 1 from ${relation} t where strpos(t::text, $1) > 0 limit 1`, [
        needle,
      ]);
      expect.soft(found.length, `${name} in ${relation}`).toBe(0);
    }
  }
  expect(log, "the statement log was on").toMatch(/eve_reserve/);
  expect(log, "with what the statements were given").toMatch(/proof/);
  const answers = answered.join("\n");
  for (const [name, needle] of needles) {
    // The REST layer, here as on Supabase, hands a request's headers to the database as a setting. So a statement log
    // holds what came to /rest/v1: the project's key, which the functions use there, and the visitor's session.
    const throughRest = ["project", "session"].includes(name);
    const lines = log.split("\n").filter((line) =>
      line.includes(needle) && !(throughRest && line.startsWith("[postgres]"))
    );
    expect.soft(lines, `${name} in a log`).toEqual([]);
    expect.soft(answers.includes(needle), `${name} in an answer`).toBe(false);
  }
});

/** Changes with every row of the owner's tables. */
async function fingerprint(): Promise<string> {
  await settled();
  const [row] = await sql`
    select md5(concat(
      (select string_agg(t::text, '' order by t.id) from public.google_ai_api_keys t),
      (select string_agg(t::text, '' order by t.id) from public.google_ai_model_limits t),
      (select string_agg(t::text, '' order by t.id) from public.token_usage t),
      (select string_agg(t::text, '' order by t.id) from eve.consumers t)
    )) as digest`;
  return row!.digest;
}

/** Starts ever booked. */
async function starts(): Promise<number> {
  const [row] = await sql`select coalesce(sum(turns), 0)::int as n from eve.lanes`;
  return row!.n;
}

/** What was handed in has been run, or else it counts with what comes next. */
async function worked(): Promise<void> {
  await until(async () => {
    const [row] = await sql`select count(*)::int as n from eve.jobs where finished_at is null`;
    if (row!.n > 0) await (await stack.invoke("worker", {})).body?.cancel();
    return row!.n === 0;
  }, "a job has not ended");
  await settled();
}

/** Answers go out before they are settled. */
function settled(): Promise<void> {
  return until(async () => {
    const [row] = await sql`select count(*)::int as n from eve.inflight`;
    return row!.n === 0;
  }, "a reservation is still open");
}
