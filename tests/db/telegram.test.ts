/** Telegram's updates become posts: real rows, files and jobs, and the emulator of its Bot API. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import fc from "fast-check";
import type { EmulatedMessage } from "../../local/telegram/messages.ts";
import { USUAL_CHAT } from "../../local/telegram/emulator.ts";
import { webhookSecret } from "../../shared/telegram/settings.ts";
import { GatewayError } from "../../shared/contract/gateway_error.ts";
import { openObject } from "../../shared/media/read.ts";
import { sha256Of } from "../../shared/runtime/sha256.ts";
import { seededRandom } from "../../bench/quota/random.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { empty } from "../harness/rows.ts";
import { BOT_TOKEN, telegramOver, type TelegramUnderTest } from "../harness/telegram.ts";
import { expectStory, hashes, picture, type PostRow, tellStory } from "../harness/telegram_story.ts";

let db: TestDatabase;
let telegram: TelegramUnderTest;
beforeAll(async () => {
  db = await cloneDatabase();
});
afterAll(() => db?.drop());
beforeEach(async () => {
  telegram = telegramOver(db);
  await telegram.connect();
});
afterEach(async () => {
  await telegram.close();
  await cleared();
});

const cleared = () =>
  empty(db.sql, "eve.telegram_bots", "public.posts", "eve.jobs", "eve.job_queues", "eve.metric_counters");

const posts = () =>
  db.sql<PostRow[]>`
    select p.*, array(select m.file_sha256 from public.post_media_map m where m.post_id = p.id order by m.place) as media
    from public.posts p order by p.published_at, p.id`;
const updates = () =>
  db.sql`select update_id, kind, state, reason, body is null as is_empty, trace_id from eve.telegram_updates order by update_id`;

const inGroup = { id: -100777, type: "supergroup", title: "Friends" } as const;

test("a message with two pictures and a link becomes one post, with one trace from the update to its pictures", async () => {
  const pictures = [picture(1), picture(2)];
  await db
    .sql`insert into eve.job_kinds (kind, description) values ('crawl', 'A page.') on conflict do nothing`;
  telegram.emulator.send({ text: "Concert tonight: https://example.com/tickets?a=1", photos: pictures });
  await telegram.work();

  const [post, ...more] = await posts();
  expect(more).toEqual([]);
  expect(post).toMatchObject({
    source: "telegram:city_events",
    text: "Concert tonight: https://example.com/tickets?a=1",
    media: await hashes(pictures),
    metadata: {
      links: ["https://example.com/tickets?a=1"],
      message_ids: [1, 2],
      url: "https://t.me/City_Events/1",
      chat: { id: USUAL_CHAT.id, title: "City events", username: "City_Events" },
      attachments: [{ kind: "photo", status: "stored" }, { kind: "photo", status: "stored" }],
    },
  });
  const traces = await db.sql`
    select trace_id from eve.telegram_updates union select trace_id from public.posts
    union select trace_id from public.post_enrichment union select body ->> 'trace_id' from eve.jobs`;
  expect([...traces]).toEqual([{ trace_id: post!.trace_id }]);
  const kinds = await db.sql`select kind, count(*)::int as n from eve.jobs group by kind order by kind`;
  expect([...kinds]).toEqual([{ kind: "crawl", n: 1 }, { kind: "telegram", n: 2 }, { kind: "vision", n: 2 }]);
  const [crawl] = await db.sql`select body from eve.jobs where kind = 'crawl'`;
  expect(crawl!.body).toEqual({
    tenant_id: "default",
    post_id: post!.id,
    trace_id: post!.trace_id,
  });
  // What it said is with the message now.
  expect((await updates()).map(({ state, is_empty }) => [state, is_empty])).toEqual([["done", true], [
    "done",
    true,
  ]]);
});

test("an album's parts that come late and in the wrong order are one post, in the album's order", async () => {
  const pictures = [1, 2, 3, 4].map((number) => picture(number));
  let late: EmulatedMessage | undefined;
  const parts = telegram.emulator.send({
    text: "Four",
    photos: pictures,
    chat: inGroup,
    order: (all) => {
      late = all[1];
      return [all[3]!, all[0]!, all[2]!];
    },
  });
  await telegram.work();
  const [before] = await posts();
  telegram.emulator.push({ message: late });
  await telegram.work();
  const [post, ...more] = await posts();
  expect(more).toEqual([]);
  expect(before!.media).toHaveLength(3);
  expect(post).toMatchObject({
    id: before!.id,
    text: "Four",
    source: "telegram:-100777",
    external_id: `album:${parts[0]!.media_group_id}`,
    media: await hashes(pictures),
  });
});

test("an update that comes again, and one whose answer was lost, count once", async () => {
  telegram.emulator.faults.push({ on: "deliver", how: "answer_lost", times: 2 });
  telegram.emulator.send({ text: "Once" });
  await telegram.work();
  const [row] = await updates();
  const body = JSON.stringify({ update_id: Number(row!.update_id), channel_post: { text: "other" } });
  expect((await telegram.deliver(body)).status).toBe(200);
  await telegram.work();
  expect((await posts()).map(({ text }) => text)).toEqual(["Once"]);
  expect(telegram.emulator.journal.filter(({ what }) => what === "deliver")).toHaveLength(3);
  const [counted] = await db.sql`
    select sum(value)::int as n from eve.metric_counters
    where metric = 'eve_telegram_updates_total' and labels ->> 'result' = 'known'`;
  expect(counted!.n).toBe(3);
});

describe("edits", () => {
  test("words and pictures follow, and an older version that comes later changes nothing", async () => {
    const [one, two] = [picture(1), picture(2)];
    const { send, edit } = telegram.emulator;
    const [message] = send({ text: "Before https://example.com/a", photos: [one] });
    await telegram.work();
    const [before] = await posts();
    edit(USUAL_CHAT.id, message!.message_id, { text: "After https://example.com/b", photos: [two] });
    await telegram.work();
    const [after, ...more] = await posts();
    expect(more).toEqual([]);
    expect(after).toMatchObject({
      id: before!.id,
      text: "After https://example.com/b",
      media: await hashes([two]),
      metadata: { links: ["https://example.com/b"] },
    });
    const pictures = await db.sql`select file_sha256 from public.post_enrichment where post_id = ${
      after!.id
    }`;
    expect(pictures.map(({ file_sha256 }) => file_sha256)).toEqual(await hashes([two]));
    const references = await db.sql`select file_sha256 from eve.media_references where ref_kind = 'post'`;
    expect(references.map(({ file_sha256 }) => file_sha256)).toEqual(await hashes([two]));

    // The first version once more, as another update: it is older, and changes nothing.
    telegram.emulator.push({ channel_post: message! });
    await telegram.work();
    expect((await posts())[0]).toMatchObject({
      text: "After https://example.com/b",
      media: await hashes([two]),
    });
    expect((await updates()).at(-1)).toMatchObject({ state: "done", reason: "superseded" });
  });

  test("a picture that is there already is not fetched again", async () => {
    const [message] = telegram.emulator.send({ text: "Before", photos: [picture(1)] });
    await telegram.work();
    telegram.emulator.edit(USUAL_CHAT.id, message!.message_id, { text: "After" });
    await telegram.work();
    expect((await posts())[0]).toMatchObject({ text: "After", media: await hashes([picture(1)]) });
    expect(telegram.emulator.journal.filter(({ what }) => what === "getFile")).toHaveLength(1);
  });
});

test("what is too large, not wanted or not what it is called is not kept, and the post says so", async () => {
  const { send } = telegram.emulator;
  const pdf = new TextEncoder().encode("%PDF-1.7\n%âãÏÓ\n1 0 obj<<>>endobj\n");
  send({
    text: "large",
    documents: [{ name: "l.png", mimeType: "image/png", bytes: picture(1), sizeBytes: 20_000_001 }],
  });
  // Larger than it said, and a photo whose next size is not.
  send({
    text: "larger",
    documents: [{ name: "m.png", mimeType: "image/png", bytes: picture(2, 20_000_001), sizeBytes: 5 }],
  });
  send({ text: "photo", photos: [picture(5, 20_000_001)] });
  send({ text: "film", documents: [{ name: "f.mkv", mimeType: "video/x-matroska", bytes: picture(3) }] });
  send({ text: "plan", documents: [{ name: "plan.pdf", mimeType: "application/pdf", bytes: pdf }] });
  send({ text: "liar", documents: [{ name: "x.png", mimeType: "image/png", bytes: pdf.with(0, 0x51) }] });
  const { file_id, file_unique_id } = telegram.emulator.addFile(picture(4), "thumbnails/file_4.jpg");
  telegram.emulator.push({
    channel_post: {
      message_id: 90,
      date: 1_790_000_000,
      chat: USUAL_CHAT,
      caption: "video",
      video: {
        file_id: "none",
        file_unique_id: "none",
        mime_type: "video/mp4",
        file_size: 900_000_000,
        duration: 7,
        thumbnail: { file_id, file_unique_id, width: 320, height: 240 },
      },
    },
  });
  telegram.emulator.push({
    channel_post: {
      message_id: 91,
      date: 1_790_000_001,
      chat: USUAL_CHAT,
      voice: { file_id: "v", duration: 3 },
    },
  });
  await telegram.work();
  const said = Object.fromEntries(
    (await posts()).map(({ text, media, metadata: { attachments: [one] } }) => [
      text,
      [one.kind, one.status, media.length, one.reason],
    ]),
  );
  expect(said).toEqual({
    large: ["document", "too_large", 0, "Telegram gives a bot files of 20 MB at most."],
    photo: ["photo", "stored", 1, undefined],
    larger: ["document", "too_large", 0, "Telegram gives a bot files of 20 MB at most."],
    film: ["document", "not_wanted", 0, expect.any(String)],
    plan: ["document", "stored", 1, undefined],
    liar: ["document", "refused", 0, expect.stringContaining("declared as image/png")],
    video: ["video", "stored", 1, "Of a video its thumbnail alone is kept."],
    "": ["voice", "not_wanted", 0, expect.any(String)],
  });
});

test("chats that are not allowed, and other kinds of updates, are noted and not kept", async () => {
  await telegram.connect({ chats: [String(USUAL_CHAT.id), "@Other_Events"] });
  telegram.emulator.send({ text: "taken" });
  telegram.emulator.send({ text: "by name", chat: { id: -1005, type: "channel", username: "other_events" } });
  telegram.emulator.send({ text: "secret words", chat: { id: 5, type: "private", username: "stranger" } });
  await telegram.deliver(JSON.stringify({ update_id: 7, poll_answer: { secret: "words" } }));
  telegram.emulator.push({
    channel_post: { message_id: 95, date: 1, chat: USUAL_CHAT, new_chat_title: "T" },
  });
  await telegram.work();
  expect((await posts()).map(({ text }) => text).sort()).toEqual(["by name", "taken"]);
  expect((await updates()).map(({ state, reason, is_empty }) => [state, reason, is_empty])).toEqual([
    ["ignored", "unwanted_kind", true],
    ["done", null, true],
    ["done", null, true],
    ["ignored", "chat_not_allowed", true],
    ["ignored", "nothing_to_keep", true],
  ]);
  const status = await (await telegram.call("GET", "/status")).json();
  expect(status.ignored).toContainEqual(
    expect.objectContaining({ reason: "chat_not_allowed", chat: "5", chat_name: "stranger", updates: 1 }),
  );
  expect(JSON.stringify(status)).not.toContain("secret words");
});

describe("deletions", () => {
  const business = { id: 77, type: "private" } as const;
  const message = (message_id: number, text: string) => ({
    business_message: {
      message_id,
      date: 1_790_000_000 + message_id,
      chat: business,
      text,
      business_connection_id: "b",
    },
  });

  test("what Telegram says is deleted goes, whichever comes first", async () => {
    const { push } = telegram.emulator;
    push(message(1, "one"));
    push(message(2, "two"));
    await telegram.work();
    push({ deleted_business_messages: { business_connection_id: "b", chat: business, message_ids: [2, 3] } });
    await telegram.work();
    push(message(3, "three"));
    push(message(4, "four"));
    await telegram.work();
    expect((await posts()).map(({ text, source }) => [text, source])).toEqual([
      ["one", "telegram:business:77"],
      ["four", "telegram:business:77"],
    ]);
  });

  test("a post that was deleted by hand stays deleted when its message is edited, and leaves no words behind", async () => {
    const [message] = telegram.emulator.send({ text: "unwelcome words", photos: [picture(1)] });
    await telegram.work();
    const [post] = await posts();
    const path = `/v1/intake/posts/${post!.id}`;
    expect((await telegram.api.call("DELETE", path)).status).toBe(200);
    expect((await telegram.api.call("DELETE", path)).status).toBe(404);
    telegram.emulator.edit(USUAL_CHAT.id, message!.message_id, { text: "unwelcome words again" });
    await telegram.work();
    expect(await posts()).toEqual([]);
    expect((await updates()).at(-1)).toMatchObject({ state: "done", reason: "deleted" });
    const [left] = await db.sql`
      select (select count(*) from eve.telegram_messages m where m::text like '%unwelcome%')::int
        + (select count(*) from eve.telegram_updates u where u::text like '%unwelcome%')::int as rows,
        (select count(*) from public.post_enrichment)::int as pictures,
        (select count(*) from eve.media_references where ref_kind = 'post')::int as references`;
    expect(left).toEqual({ rows: 0, pictures: 0, references: 0 });
  });
});

describe("a file that cannot be had", () => {
  test.each(["rate_limited", "broken", "half_answer"] as const)(
    "%s: the post is there at once, and the file later",
    async (how) => {
      for (const on of ["getFile", "download"] as const) telegram.emulator.faults.push({ on, how, times: 2 });
      telegram.emulator.send({ text: "words", photos: [picture(1)] });
      await telegram.work();
      expect((await posts())[0]).toMatchObject({ text: "words", media: await hashes([picture(1)]) });
      expect(telegram.logged.filter((line) => line.includes("telegram_file_waits"))).toHaveLength(4);
    },
  );

  test("for good: the update has failed and says why; once it can be had, it is replayed", async () => {
    telegram.emulator.faults.push({ on: "getFile", how: "broken", times: 1_000 });
    telegram.emulator.send({ text: "words", photos: [picture(1)] });
    await telegram.work();
    const [post] = await posts();
    expect(post).toMatchObject({
      text: "words",
      media: [],
      metadata: { attachments: [{ status: "waiting", reason: expect.stringContaining("Telegram") }] },
    });
    expect(await (await telegram.call("GET", "/status")).json()).toMatchObject({
      waiting: 1,
      failed: 1,
      failures: [{ code: "telegram_unavailable", chat: String(USUAL_CHAT.id) }],
    });
    telegram.emulator.faults.length = 0;
    const replayed = await telegram.call("POST", "/replay", {
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect(await replayed.json()).toEqual({ replayed: 1, left: 0 });
    await telegram.work();
    expect((await posts())[0]).toMatchObject({ id: post!.id, media: await hashes([picture(1)]) });
    expect(await (await telegram.call("GET", "/status")).json()).toMatchObject({ waiting: 0, failed: 0 });
  });

  test("for want of room: the tenant's quota counts, nothing is stored, and the post says so", async () => {
    await db.sql`update eve.media_limits set limit_bytes = 100 where name = 'tenant'`;
    try {
      telegram.emulator.send({ text: "words", photos: [picture(99)] });
      await telegram.work();
      expect((await posts())[0]).toMatchObject({ text: "words", media: [] });
      expect(await (await telegram.call("GET", "/status")).json()).toMatchObject({
        failures: [{ code: "storage_quota_exceeded" }],
      });
    } finally {
      await db.sql`update eve.media_limits set limit_bytes = 100000000000 where name = 'tenant'`;
    }
  });
});

describe("who may send updates", () => {
  const one = JSON.stringify({
    update_id: 1,
    channel_post: { message_id: 1, date: 1, chat: USUAL_CHAT, text: "x" },
  });

  test("without the secret, or with one that is nearly right, nothing is read or written down", async () => {
    const secret = await webhookSecret(BOT_TOKEN);
    const wrong = [
      null,
      "",
      secret.slice(0, -1),
      `${secret}0`,
      secret.replace(/.$/, (last) => last === "0" ? "1" : "0"),
      BOT_TOKEN,
    ];
    for (const each of wrong) {
      const response = await telegram.deliver("{no json", each);
      expect([response.status, (await response.json()).error.code], String(each)).toEqual([
        401,
        each === null ? "credential_missing" : "credential_invalid",
      ]);
    }
    expect(await updates()).toEqual([]);
    expect((await telegram.deliver(one, secret)).status).toBe(200);
    expect(await updates()).toHaveLength(1);
  });

  test("a bot that is not connected takes nothing in, and Telegram keeps it", async () => {
    const disconnected = await telegram.call("POST", "/disconnect", {
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect(await disconnected.json()).toMatchObject({ bot: { is_connected: false }, webhook: { url: "" } });
    expect((await telegram.deliver(one)).status).toBe(503);
    telegram.emulator.send({ text: "kept" });
    expect(await updates()).toEqual([]);
    await telegram.connect({});
    await telegram.work();
    expect((await posts()).map(({ text }) => text)).toEqual(["kept"]);
  });

  test.each(["/connect", "/disconnect", "/replay", "/status", "/other", "/"])(
    "%s is the owner's alone",
    async (path) => {
      for (const as of [null, "sb_secret_another", BOT_TOKEN]) {
        const method = path === "/status" || path === "/" ? "GET" : "POST";
        const { status } = await telegram.call(method, path, {
          as,
          ...(method === "POST" && { body: "{}" }),
        });
        expect(status).toBe(401);
      }
    },
  );
});

test("the bot's token is in no table, no line of the log and no answer, whatever breaks", async () => {
  const { faults, send } = telegram.emulator;
  const answers: string[] = [];
  for (const on of ["getMe", "setWebhook", "getFile", "download"] as const) {
    for (const how of ["rate_limited", "broken", "half_answer"] as const) faults.push({ on, how });
  }
  for (let n = 0; n < 8; n++) {
    const response = await telegram.call("POST", "/connect", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ chats: "all" }),
    });
    answers.push(await response.text());
  }
  // A word of Telegram's that repeats the address.
  telegram.emulator.echo = `Bad Request: https://api.telegram.org/bot${BOT_TOKEN}/setWebhook`;
  answers.push(
    await (await telegram.call("POST", "/connect", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ chats: "all" }),
    })).text(),
  );
  telegram.emulator.echo = null;
  await telegram.connect();
  send({ text: "words", photos: [picture(51), picture(52)] });
  await telegram.work();
  expect((await posts())[0]!.media).toHaveLength(2);
  expect(faults).toEqual([]);
  answers.push(await (await telegram.call("GET", "/status")).text());

  const tables = await db.sql`
    select format('%I.%I', schemaname, tablename) as name from pg_catalog.pg_tables where schemaname in ('eve', 'public')`;
  const rows =
    (await Promise.all(tables.map(({ name }) => db.sql.unsafe(`select t::text as row from ${name} t`))))
      .flat();
  const said = [...rows.map(({ row }) => row), ...telegram.logged, ...answers].join("\n");
  expect(said).toContain("telegram_unavailable");
  const [, secret] = BOT_TOKEN.split(":");
  expect(said).not.toContain(secret);
  expect(said).not.toContain(await webhookSecret(BOT_TOKEN));
});

test("updates of any shape are answered, none is an error of ours, and no job is left", async () => {
  const id = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.maxSafeNat());
  const any = fc.anything({ withNullPrototype: false, maxDepth: 3 });
  const words = fc.oneof(fc.string({ unit: "binary", maxLength: 200 }), fc.constant("\u0000\ud800 x"), any);
  const entity = fc.record({
    type: fc.constantFrom("url", "text_link", "bold"),
    offset: fc.oneof(fc.nat(50), any),
    length: fc.nat(50),
    url: words,
  }, { requiredKeys: ["type"] });
  const chat = fc.oneof(
    any,
    fc.record({
      id: fc.oneof(fc.maxSafeInteger(), fc.constant(7)),
      type: fc.constantFrom("channel", "private"),
      title: words,
      username: words,
    }, { requiredKeys: ["id"] }),
  );
  const file = fc.record({
    file_id: fc.string(),
    file_unique_id: fc.string({ unit: "binary" }),
    file_size: fc.oneof(fc.maxSafeInteger(), any),
    mime_type: fc.constantFrom("image/png", "x"),
    width: any,
  }, { requiredKeys: [] });
  const message = fc.record({
    message_id: fc.oneof(fc.nat(20), fc.maxSafeInteger()),
    date: fc.oneof(fc.maxSafeInteger(), any),
    edit_date: fc.oneof(fc.nat(), any),
    chat,
    text: words,
    caption: words,
    entities: fc.oneof(fc.array(entity), any),
    media_group_id: words,
    photo: fc.oneof(fc.array(file), any),
    document: fc.oneof(file, any),
    video: fc.oneof(fc.record({ thumbnail: file }), any),
    forward_origin: any,
    author_signature: words,
    message_ids: fc.array(fc.oneof(fc.nat(20), any)),
  }, { requiredKeys: [] });
  const update = fc.record({
    update_id: fc.oneof({ arbitrary: id, weight: 9 }, any),
    message: fc.oneof({ arbitrary: message, weight: 5 }, any),
    channel_post: message,
    edited_channel_post: message,
    business_message: message,
    deleted_business_messages: message,
    poll: any,
  }, { requiredKeys: ["update_id"] });
  await telegram.connect({ chats: "all", wanted: [] });
  await fc.assert(
    fc.asyncProperty(fc.array(update, { minLength: 8, maxLength: 8 }), async (some) => {
      await Promise.all(some.map(async (each) => {
        const body = JSON.stringify(each, (_, value) => typeof value === "bigint" ? String(value) : value);
        const response = await telegram.deliver(body);
        expect([200, 400], `${response.status} ${body}`).toContain(response.status);
        await response.body?.cancel();
      }));
      await telegram.work();
      const left = await db.sql`
        select u.body, u.reason, j.error_code, j.error_detail
        from eve.telegram_updates u left join eve.jobs j on j.id = u.job_id
        where u.state = 'waiting'`;
      expect([...left]).toEqual([]);
    }),
    { numRuns: 15, seed: 7 },
  );
});

/** Updates of the following test; by name more: EVE_TELEGRAM_UPDATES=5000 npm test -- tests/db/telegram.test.ts */
const MANY = Number(Deno.env.get("EVE_TELEGRAM_UPDATES") ?? 300);

test(
  `${MANY} updates with doubles, edits and split albums, while requests, answers and the database's words get lost: every post once, every album whole, every byte right`,
  async () => {
    await telegram.close();
    const random = seededRandom(19);
    const loses = () => random() < 0.1;
    let isRough = false;
    const lossy = async <Answer>(ask: () => Promise<Answer>): Promise<Answer> => {
      if (isRough && loses()) throw new GatewayError("database_unavailable", { detail: "lost before" });
      const answer = await ask();
      if (isRough && loses()) throw new GatewayError("database_unavailable", { detail: "lost after" });
      return answer;
    };
    telegram = telegramOver(db, {
      async through(send) {
        if (isRough && loses()) throw new Error("the request is lost");
        const response = await send();
        if (isRough && loses()) throw new Error("the answer is lost");
        return response;
      },
      database: lossy,
    });
    await telegram.connect();
    isRough = true;
    const expected = await tellStory({
      emulator: telegram.emulator,
      random,
      many: MANY,
      pause: () => telegram.work(),
    });
    await telegram.work();
    isRough = false;
    telegram.emulator.faults.length = 0;
    // Nobody lends a hand until here; a job whose words got lost twelve times would be replayed.
    await telegram.call("POST", "/replay", { headers: { "content-type": "application/json" }, body: "{}" });
    await telegram.work();

    const found = await posts();
    await expectStory(found, expected);
    // The bytes in the store are those that were sent.
    for (const { media } of found) {
      for (const sha256 of media) {
        const stored = await openObject(telegram.api.media, { kind: "project" }, "default", sha256);
        expect(await sha256Of(new Uint8Array(await new Response(stored).arrayBuffer()))).toBe(sha256);
      }
    }
    const [left] = await db.sql`
    select (select count(*) from eve.telegram_updates where state = 'waiting')::int as waiting,
      (select count(*) from public.post_enrichment e where not exists (
        select from public.post_media_map m where m.post_id = e.post_id and m.file_sha256 = e.file_sha256
      ))::int as orphans`;
    expect(left).toEqual({ waiting: 0, orphans: 0 });
  },
  600_000,
);
