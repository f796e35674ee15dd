/** Chats over HTTP, as their callers meet them: over a real database, each answer held against the OpenAPI document. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { type Answer } from "../harness/media.ts";
import { apiOver, type ApiUnderTest, json, SECRET } from "../harness/media_api.ts";
import { documentedCalls } from "../harness/documented_calls.ts";

let db: TestDatabase;
let api: ApiUnderTest;
let ask: ReturnType<typeof documentedCalls>;
/** Access tokens and keys by name. */
const ANN = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYXV0aGVudGljYXRlZCJ9.ann";
let app = "";

beforeAll(async () => {
  db = await cloneDatabase();
  api = apiOver(db);
  ask = documentedCalls(api);
  api.sessions.set(ANN, "a0000000-0000-4000-8000-000000000001");
  const secret = await mintConsumerSecret("service");
  app = secret.text;
  await db
    .sql`select public.eve_consumer_add('app', 'service', key_id => ${secret.keyId}, proof => ${secret.proof})`;
  await db.sql`select public.eve_consumer_access('app', '{chats}')`;
});
afterAll(async () => {
  await Promise.all(api.background);
  await api.close();
  await db?.drop();
});

test("a conversation is begun, written, branched, read in pages and searched", async () => {
  const chat = await ask(
    "POST",
    "/v1/chats",
    json({ title: "Plans", user_id: "u1", metadata: { lang: "ru" } }),
  );
  expect(chat).toMatchObject({ status_code: 201, title: "Plans", metadata: { lang: "ru" }, owner: null });
  const at = `/v1/chats/${chat.id}`;
  expect(await ask("POST", "/v1/chats", json({ id: chat.id }))).toMatchObject({
    status_code: 200,
    title: "Plans",
  });
  const one = await ask("POST", `${at}/messages`, json({ content: "Где стена?", client_id: "1" }));
  expect(one).toMatchObject({ status_code: 201, role: "user", parent_id: null });
  expect(await ask("POST", `${at}/messages`, json({ content: "?", client_id: "1" }))).toMatchObject({
    status_code: 200,
    id: one.id,
    content: "Где стена?",
  });
  const two = await ask("POST", `${at}/messages`, json({ role: "assistant", content: "На листе 4." }));
  await ask("POST", `${at}/messages`, json({ content: "Где дверь?", edits: one.id }));
  const all = await ask("GET", `${at}/messages?limit=2`);
  expect(all.messages.map(({ id }: Answer) => id)).toEqual([one.id, two.id]);
  const rest = await ask("GET", `${at}/messages?after=${encodeURIComponent(all.next)}`);
  expect(rest).toMatchObject({ messages: [{ content: "Где дверь?" }], next: null });
  expect((await ask("GET", `${at}/messages?order=desc&limit=1`)).messages).toMatchObject([{
    content: "Где дверь?",
  }]);
  expect((await ask("GET", `${at}/messages?path=${two.id}`)).messages).toHaveLength(2);
  expect((await ask("GET", `${at}/messages?path=current`)).messages).toHaveLength(1);
  expect(await ask("PATCH", `/v1/messages/${two.id}`, json({ feedback: "good" }))).toMatchObject({
    feedback: "good",
  });
  const q = encodeURIComponent("стены");
  expect((await ask("GET", `/v1/chats/search?q=${q}`)).found).toMatchObject([{
    message: { id: one.id },
    excerpt: "Где <b>стена</b>",
  }]);
  expect((await ask("GET", "/v1/chats?user_id=u1")).chats).toMatchObject([{ id: chat.id }]);
  expect((await ask("GET", "/v1/chats?user_id=u2")).chats).toEqual([]);
});

test("pictures are of files that were uploaded, read by their address, and erased with the chat", async () => {
  const chat = await ask("POST", "/v1/chats", json({ title: "Pictures" }));
  const message = await ask("POST", `/v1/chats/${chat.id}/messages`, json({ content: "look" }));
  const text = { headers: { "content-type": "text/plain" }, body: "a file of ours" };
  const file = await ask("POST", `/v1/media?key=chats/1/image/a.txt`, text);
  const image = await ask(
    "POST",
    `/v1/messages/${message.id}/images`,
    json({ image_name: "viewport", s3_path: "chats/1/image/a.txt", width: 10, height: 5 }),
  );
  expect(image).toMatchObject({ status_code: 201, file_sha256: file.sha256, file_size: 14 });
  const redirect = await api.call("GET", image.s3_url);
  expect(redirect.status).toBe(302);
  expect((await ask("GET", `/v1/messages/${message.id}/images`)).images).toMatchObject([{ id: image.id }]);
  // The file is in use now.
  expect(await db.sql`select refs_count from public.media_objects`).toEqual([{ refs_count: 1 }]);
  expect(await ask("DELETE", `/v1/chats/${chat.id}?erase=true`)).toMatchObject({
    messages: 1,
    images: 1,
    files: { deleted: 1, bytes: 14, left: 0 },
  });
  expect(await db.sql`select from public.media_objects`).toHaveLength(0);
  expect(await ask("GET", `/v1/chats/${chat.id}`)).toMatchObject({ error: { code: "chat_not_found" } });
});

test("search results are added one or many, all or none, and read in their order", async () => {
  const chat = await ask("POST", "/v1/chats", json({}));
  const at = `/v1/chats/${chat.id}/search-results`;
  await ask("POST", at, json({ block_id: "b0", page_number: 1, coords_norm: [0.1, 0.2, 0.3, 0.4] }));
  const many = Array.from({ length: 120 }, (_, n) => ({ block_id: `b${n + 1}`, block_text: "text" }));
  expect((await ask("POST", at, json({ results: many }))).results).toHaveLength(120);
  const wrong = [{ block_id: "x" }, { block_id: "y", message_id: crypto.randomUUID() }];
  expect(await ask("POST", at, json({ results: wrong }))).toMatchObject({
    error: { code: "message_not_found" },
  });
  const first = await ask("GET", `${at}?limit=100`);
  const second = await ask("GET", `${at}?limit=100&after=${encodeURIComponent(first.next)}`);
  expect([...first.results, ...second.results].map(({ block_id }: Answer) => block_id)).toEqual(
    Array.from({ length: 121 }, (_, n) => `b${n}`),
  );
  expect(first.results[0].coords_norm).toEqual([0.1, 0.2, 0.3, 0.4]);
});

describe("a link", () => {
  test("shows the conversation as it was, to anyone who has it, until it is taken back or over", async () => {
    const chat = await ask("POST", "/v1/chats", json({ title: "Shared" }, ANN));
    const at = `/v1/chats/${chat.id}`;
    await ask("POST", `${at}/messages`, json({ content: "before" }, ANN));
    const share = await ask("POST", `${at}/shares`, json({ expires_in: 3600 }, ANN));
    expect(share).toMatchObject({ status_code: 201, messages: 1 });
    await ask("POST", `${at}/messages`, json({ content: "after" }, ANN));
    const path = new URL(share.url).pathname.replace("/functions/v1/api", "");
    expect(await ask("GET", path, { as: null })).toMatchObject({
      title: "Shared",
      messages: [{ role: "user", content: "before" }],
    });
    expect((await ask("GET", `${at}/shares`, { as: ANN })).shares).toMatchObject([{ id: share.id }]);
    // The secret part stands nowhere.
    const [row] = await db.sql`select s::text as row from public.chat_shares s`;
    expect(row!.row).not.toContain(path.split("/").at(-1));
    expect(await ask("DELETE", `${at}/shares/${share.id}`, { as: app })).toMatchObject({
      error: { code: "chat_not_found" },
    });
    expect(await ask("DELETE", `${at}/shares/${share.id}`, { as: ANN })).toMatchObject({ deleted: true });
    expect(await ask("GET", path, { as: null })).toMatchObject({ error: { code: "share_not_found" } });
    const other = await ask("POST", `${at}/shares`, json({}, ANN));
    await db.sql`update public.chat_shares set expires_at = now() - interval '1 second'`;
    expect(await ask("GET", new URL(other.url).pathname.replace("/functions/v1/api", ""), { as: null }))
      .toMatchObject({ error: { code: "share_not_found" } });
  });
});

test("an export has all that belongs to a chat, as JSON and as Markdown", async () => {
  const chat = await ask("POST", "/v1/chats", json({ title: "Report\n# not a heading", description: "d" }));
  const at = `/v1/chats/${chat.id}`;
  const message = await ask("POST", `${at}/messages`, json({ content: "Question" }));
  for (let n = 0; n < 150; n++) await ask("POST", `${at}/messages`, json({ content: `line ${n}` }));
  await ask(
    "POST",
    `/v1/messages/${message.id}/images`,
    json({ image_name: "a]", s3_url: "https://x.example/a b" }),
  );
  await ask(
    "POST",
    `${at}/search-results`,
    json({ message_id: message.id, page_number: 4, block_text: "wall" }),
  );
  await ask("POST", `${at}/search-results`, json({ block_id: "alone" }));
  const whole = await ask("GET", `${at}/export`);
  expect(whole).toMatchObject({ next: null, search_results: [{ block_id: "alone" }] });
  expect(whole.messages).toHaveLength(151);
  expect(whole.messages[0]).toMatchObject({
    images: [{ image_name: "a]" }],
    search_results: [{ page_number: 4 }],
  });
  const markdown = await (await api.call("GET", `${at}/export?format=markdown`)).text();
  expect(markdown).toMatch(/^# Report # not a heading\n\nd\n\n## User, 20/);
  expect(markdown).toContain("![a](<https://x.example/ab>)\n> page 4: wall\n");
  expect(markdown).toContain("line 149");
  expect(markdown).toContain("> alone");
});

test("all that fits by its bytes is stored, and what only the table finds too long is refused in words", async () => {
  const metadata = { text: "ы".repeat(8_186) };
  const chat = await ask("POST", "/v1/chats", json({ title: "ы".repeat(1_000), metadata }));
  expect(chat).toMatchObject({ status_code: 201, metadata });
  const at = `/v1/chats/${chat.id}`;
  expect(await ask("POST", `${at}/messages`, json({ content: "ы".repeat(500_000) }))).toMatchObject({
    status_code: 201,
  });
  // All digits of the numbers are in the table, three hundred each.
  expect(await ask("PATCH", at, json({ metadata: { numbers: Array(60).fill(1e300) } }))).toMatchObject({
    status_code: 400,
    error: { code: "invalid_argument" },
  });
  expect(await ask("GET", at)).toMatchObject({ metadata });
});

describe("who may", () => {
  test("an app with the scope, a signed-in user, and the secret key; each their own", async () => {
    const mine = await ask("POST", "/v1/chats", json({ title: "app's" }, app));
    const anns = await ask("POST", "/v1/chats", json({ title: "Ann's" }, ANN));
    expect(mine).toMatchObject({ owner: null });
    expect(anns).toMatchObject({ owner: "a0000000-0000-4000-8000-000000000001", consumer_id: null });
    expect((await ask("GET", "/v1/chats", { as: app })).chats).toMatchObject([{ id: mine.id }]);
    expect((await ask("GET", `/v1/chats/${anns.id}`, { as: app })).error.code).toBe("chat_not_found");
    expect(await ask("GET", `/v1/chats/${anns.id}`, { as: SECRET })).toMatchObject({ title: "Ann's" });
    expect((await ask("GET", "/v1/chats", { as: null })).error.code).toBe("credential_missing");
  });

  test.each([
    // Bytes count: each of these letters has two.
    ["a title of 2,002 bytes", "POST", "/v1/chats", { title: "ы".repeat(1_001) }],
    ["metadata of 16,385 bytes", "POST", "/v1/chats", { metadata: { text: "ы".repeat(8_187) } }],
    ["a message of 1,000,002 bytes", "POST", `/v1/chats/${crypto.randomUUID()}/messages`, {
      content: "ы".repeat(500_001),
    }],
    ["a field that there is not", "POST", "/v1/chats", { name: "x" }],
    ["an id that is none", "POST", "/v1/chats", { id: "7" }],
    ["another id in the path", "PATCH", "/v1/chats/7", {}],
    ["a parent and an edit", "POST", `/v1/chats/${crypto.randomUUID()}/messages`, {
      parent_id: crypto.randomUUID(),
      edits: crypto.randomUUID(),
    }],
    ["a role that there is not", "POST", `/v1/chats/${crypto.randomUUID()}/messages`, { role: "owner" }],
    ["501 search results", "POST", `/v1/chats/${crypto.randomUUID()}/search-results`, {
      results: Array.from({ length: 501 }, () => ({})),
    }],
  ])("%s is refused in words", async (_, method, path, body) => {
    expect(await ask(method, path, json(body))).toMatchObject({
      status_code: 400,
      error: { code: "invalid_request" },
    });
  });

  test.each(["limit=0", "limit=101", "after=x", "archived=maybe", "after=2026-01-01T00:00:00Z,7"])(
    "a page asked for by %s is refused in words",
    async (query) => {
      expect(await ask("GET", `/v1/chats?${query}`)).toMatchObject({ error: { code: "invalid_request" } });
    },
  );
});
