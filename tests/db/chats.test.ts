/** Chats by actor: through the functions, and with the role that a signed-in user's own client takes on. State is looked at after each refusal. */
import fc from "fast-check";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { asRole } from "../harness/as_role.ts";
import { empty } from "../harness/rows.ts";
import { type Answer, mediaCalls, PROJECT, shaOf } from "../harness/media.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";

let db: TestDatabase;
let sql: TestDatabase["sql"];
const ANN = "a0000000-0000-4000-8000-000000000001";
const BOB = "b0000000-0000-4000-8000-000000000002";
const user = (user_id: string) => ({ kind: "user", user_id });
const ids: Record<string, string> = {};
const consumer = (name: string) => ({ kind: "consumer", consumer_id: ids[name] });

beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
  for (const [name, scopes] of [["app", ["chats"]], ["rival", ["chats"]], ["bot", ["llm"]]] as const) {
    const secret = await mintConsumerSecret("service");
    await sql`select public.eve_consumer_add(${name}, 'service', key_id => ${secret.keyId}, proof => ${secret.proof})`;
    await sql`select public.eve_consumer_access(${name}, ${[...scopes]}::text[])`;
    ids[name] = (await sql`select id from eve.consumers where name = ${name}`)[0]!.id;
  }
});
afterAll(() => db?.drop());
beforeEach(() => empty(sql, "public.chats", "eve.media_references", "public.media_objects"));

type Actor = Record<string, unknown>;
const json = (value: unknown) => sql.json(value as postgres.JSONValue);
const ask = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Answer> => (await query)[0]!.answer;

function as(actor: Actor) {
  const who = json(actor);
  return {
    create: (chat: unknown = {}) => ask(sql`select public.eve_chat_create(${who}, ${json(chat)}) as answer`),
    find: (id: string) => ask(sql`select public.eve_chat(${who}, ${id}) as answer`),
    list: (
      options: { user_id?: string; archived?: boolean | null; after?: unknown; at_most?: number } = {},
    ) =>
      ask(sql`
        select public.eve_chats(${who}, ${options.user_id ?? null}, ${
        options.archived === undefined ? false : options.archived
      }, after => ${options.after === undefined ? null : json(options.after)}, at_most => ${
        options.at_most ?? 50
      }) as answer`),
    change: (id: string, changes: unknown) =>
      ask(sql`select public.eve_chat_change(${who}, ${id}, ${json(changes)}) as answer`),
    erase: (id: string) => ask(sql`select public.eve_chat_erase(${who}, ${id}) as answer`),
    add: (id: string, message: unknown) =>
      ask(sql`select public.eve_message_add(${who}, ${id}, ${json(message)}) as answer`),
    messages: (
      id: string,
      options: { after?: unknown; backwards?: boolean; at_most?: number } = {},
    ) =>
      ask(sql`
        select public.eve_messages(
          ${who}, ${id}, ${options.after === undefined ? null : json(options.after)}, ${
        options.backwards ?? false
      }, ${options.at_most ?? 100}
        ) as answer`),
    path: (id: string, leaf: string | null = null, at_most = 100) =>
      ask(sql`select public.eve_message_path(${who}, ${id}, ${leaf}, ${at_most}) as answer`),
    feedback: (id: string, text: string) =>
      ask(sql`select public.eve_message_feedback(${who}, ${id}, ${text}) as answer`),
    image: (id: string, image: unknown) =>
      ask(
        sql`select public.eve_message_image_add(${who}, ${id}, ${
          json(image)
        }, 'https://x.example/media/') as answer`,
      ),
    results: (id: string, results: unknown[]) =>
      ask(sql`select public.eve_search_results_add(${who}, ${id}, ${json(results)}) as answer`),
    search: (query: string) => ask(sql`select public.eve_chat_search(${who}, ${query}) as answer`),
    share: (id: string, hash: string) =>
      ask(
        sql`select public.eve_chat_share(${who}, ${id}, ${hash}, '{"title": null, "messages": []}') as answer`,
      ),
    begin: (id: string, question: unknown, payer: string | null = "bot") =>
      ask(
        sql`select public.eve_chat_answer_begin(${who}, ${id}, ${json(question)}, 'r1', ${payer}) as answer`,
      ),
  };
}
const texts = (answer: Answer) => answer.messages.map((each: Answer) => each.content);

/** As a signed-in user's own client, or an anonymous one. */
const signedIn = <Value>(
  role: string,
  sub: string | null,
  run: (sql: postgres.TransactionSql) => Promise<Value>,
) => asRole(db.url, role, sub, run);

describe("who has which chats", () => {
  const makers = {
    "the project": PROJECT as Actor,
    "consumer app": () => consumer("app"),
    "user Ann": user(ANN),
  };
  const others: Record<string, () => Actor> = {
    "consumer app": () => consumer("app"),
    "consumer rival": () => consumer("rival"),
    "consumer without the scope": () => consumer("bot"),
    "user Ann": () => user(ANN),
    "user Bob": () => user(BOB),
  };

  test.each(Object.entries(makers))(
    "a chat of %s is theirs and the project's, and does not exist for others",
    async (maker, made) => {
      const owner = as(typeof made === "function" ? made() : made);
      const { chat } = await owner.create({ title: "mine" });
      const { message } = await owner.add(chat.id, { content: "a word" });
      expect(await owner.find(chat.id)).toMatchObject({ status: "found", chat: { title: "mine" } });
      expect(await as(PROJECT).find(chat.id)).toMatchObject({ status: "found" });
      for (const [name, actor] of Object.entries(others)) {
        if (name === maker) continue;
        const other = as(actor());
        const code = name === "consumer without the scope" ? "credential_insufficient" : "chat_not_found";
        const refusals = [
          await other.find(chat.id),
          await other.change(chat.id, { title: "theirs", deleted: true }),
          await other.erase(chat.id),
          await other.add(chat.id, { content: "in between" }),
          await other.messages(chat.id),
          await other.path(chat.id),
          await other.results(chat.id, [{ block_id: "b" }]),
          await other.share(chat.id, "a".repeat(64)),
          await other.begin(chat.id, { content: "?" }),
        ];
        for (const refusal of refusals) {
          expect([name, refusal]).toEqual([
            name,
            expect.objectContaining({ code }),
          ]);
        }
        const ofMessage = name === "consumer without the scope" ? code : "message_not_found";
        expect(await other.feedback(message.id, "bad")).toMatchObject({ code: ofMessage });
        expect(await other.image(message.id, { image_name: "x" })).toMatchObject({ code: ofMessage });
        if (code === "chat_not_found") {
          expect((await other.list()).chats).toEqual([]);
          expect((await other.search("word")).found).toEqual([]);
          expect(await other.create({ id: chat.id })).toMatchObject({ code: "id_taken" });
        }
      }
      expect(await sql`select title, deleted_at from public.chats`).toEqual([{
        title: "mine",
        deleted_at: null,
      }]);
      expect(await sql`select content, feedback from public.messages`).toEqual([{
        content: "a word",
        feedback: null,
      }]);
      for (const table of ["message_images", "search_results", "chat_shares"]) {
        expect(await sql`select from ${sql(`public.${table}`)}`).toHaveLength(0);
      }
    },
  );

  test("an administrator has their own chats, and reads nobody else's", async () => {
    const superuser = postgres(db.superuserUrl, { max: 1, onnotice: () => {} });
    await superuser.unsafe(`
      create table auth.users (id uuid primary key, raw_app_meta_data jsonb, banned_until timestamptz, deleted_at timestamptz);
      insert into auth.users values ('${BOB}', '{"role": "admin"}');
      grant select on auth.users to postgres;
    `).simple();
    await superuser.end();
    expect(await sql`select eve.is_administrator(${BOB}) as so`).toEqual([{ so: true }]);
    const { chat } = await as(user(ANN)).create({ title: "private" });
    expect(await as(user(BOB)).find(chat.id)).toMatchObject({ code: "chat_not_found" });
  });
});

describe("with the role of a signed-in user", () => {
  test("a user makes a chat, adds messages in their order, searches, renames and deletes it", async () => {
    await signedIn("authenticated", ANN, async (own) => {
      const [chat] = await own`insert into public.chats (title) values ('direct') returning id, owner`;
      expect(chat).toMatchObject({ owner: ANN });
      for (const content of ["Где лежит чертёж?", "On page 4."]) {
        await own`insert into public.messages (chat_id, content) values (${chat!.id}, ${content})`;
      }
      expect(
        await own`select content, parent_id is null as begins from public.messages order by created_at`,
      ).toEqual([
        { content: "Где лежит чертёж?", begins: true },
        { content: "On page 4.", begins: false },
      ]);
      expect(
        await own`select content from public.messages where search @@ websearch_to_tsquery('russian', 'чертежи')`,
      ).toHaveLength(1);
      await own`update public.chats set title = 'renamed' where id = ${chat!.id}`;
      await own`update public.messages set feedback = 'good'`;
      await own`insert into public.search_results (chat_id, block_id) values (${chat!.id}, 'b1')`;
      await own`
        insert into public.message_images (message_id, image_name, s3_url)
        select id, 'view.png', 'https://x.example/view.png' from public.messages where parent_id is null`;
      expect(await own`select image_name from public.message_images`).toEqual([{ image_name: "view.png" }]);
      await own`delete from public.chats where id = ${chat!.id}`;
    });
    expect(await sql`select from public.messages`).toHaveLength(0);
  });

  test("a user sees nothing of others and of apps, and changes nothing", async () => {
    const { chat } = await as(user(ANN)).create({ title: "Ann's" });
    const { message } = await as(user(ANN)).add(chat.id, { content: "secret" });
    await as(consumer("app")).create({ title: "an app's", user_id: BOB });
    await as(user(ANN)).image(message.id, { image_name: "p" });
    await as(user(ANN)).results(chat.id, [{ block_id: "b" }]);
    await as(user(ANN)).share(chat.id, "b".repeat(64));
    await signedIn("authenticated", BOB, async (own) => {
      for (const table of ["chats", "messages", "message_images", "search_results"]) {
        expect(await own`select id from ${own(`public.${table}`)}`).toHaveLength(0);
      }
      expect(await own`select id from public.chat_shares`).toHaveLength(0);
      expect(await own`update public.chats set title = 'Bob''s' returning id`).toHaveLength(0);
      expect(await own`update public.messages set feedback = 'x' returning id`).toHaveLength(0);
      expect(await own`delete from public.chats returning id`).toHaveLength(0);
      expect(await own`delete from public.search_results returning id`).toHaveLength(0);
      expect(await own`delete from public.chat_shares returning id`).toHaveLength(0);
    });
    expect(await sql`select title from public.chats order by created_at`).toEqual([{ title: "Ann's" }, {
      title: "an app's",
    }]);
    expect(await sql`select from public.chat_shares`).toHaveLength(1);
  });

  test.each([
    [ANN, "insert into public.messages (chat_id, content) values ('$chat', 'mine now')"],
    [ANN, "insert into public.search_results (chat_id, block_id) values ('$chat', 'b')"],
    [ANN, "insert into public.chats (title, owner) values ('x', '" + BOB + "')"],
    [ANN, "insert into public.chats (title, consumer_id) values ('x', null)"],
    [BOB, "update public.chats set owner = '" + ANN + "'"],
    [BOB, "update public.messages set content = 'rewritten'"],
    [BOB, "update public.messages set state = 'complete'"],
    [BOB, "delete from public.messages"],
    [BOB, "insert into public.message_images (message_id) values (gen_random_uuid())"],
    [ANN, "insert into public.message_images (message_id) values ('$message')"],
    [
      BOB,
      "insert into public.message_images (message_id, tenant_id, file_sha256) values ('$message', 'default', repeat('a', 64))",
    ],
    [
      BOB,
      "insert into public.chat_shares (chat_id, token_hash, snapshot) values ('$chat', repeat('a', 64), '{}')",
    ],
    [BOB, "select token_hash from public.chat_shares"],
    [BOB, `select public.eve_chats('{"kind": "project"}')`],
    [BOB, "select eve.chat_actor('{}')"],
  ])("%s may not: %s", async (sub, statement) => {
    const { chat } = await as(user(BOB)).create({ title: "Bob's" });
    const { message } = await as(user(BOB)).add(chat.id, { content: "as it was" });
    const state = () =>
      sql`select c.title, c.owner, c.updated_at, m.content from public.chats c join public.messages m on m.chat_id = c.id`;
    const before = await state();
    const of = statement.replace("$chat", chat.id).replace("$message", message.id);
    await expect(signedIn("authenticated", sub, (own) => own.unsafe(of))).rejects.toMatchObject({
      code: "42501",
    });
    expect(await state()).toEqual(before);
    expect(await sql`select from public.message_images`).toHaveLength(0);
  });

  test("who is not signed in may do nothing", async () => {
    for (const table of ["chats", "messages", "message_images", "search_results", "chat_shares"]) {
      await expect(signedIn("anon", null, (own) => own`select from ${own(`public.${table}`)}`)).rejects
        .toMatchObject({ code: "42501" });
    }
  });

  test("a deleted chat takes no more messages", async () => {
    const { chat } = await as(user(ANN)).create();
    const { message } = await as(user(ANN)).add(chat.id, { content: "before" });
    await as(user(ANN)).change(chat.id, { deleted: true });
    await expect(
      signedIn("authenticated", ANN, (own) => own`insert into public.messages (chat_id) values (${chat.id})`),
    ).rejects.toMatchObject({ code: "42501" });
    expect(await as(user(ANN)).add(chat.id, { content: "x" })).toMatchObject({ code: "chat_not_found" });
    await expect(
      signedIn(
        "authenticated",
        ANN,
        (own) => own`insert into public.message_images (message_id) values (${message.id})`,
      ),
    ).rejects.toMatchObject({ code: "42501" });
  });
});

describe("a chat", () => {
  test("is made once by its id, archived, deleted, restored and listed by what it is", async () => {
    const me = as(consumer("app"));
    const id = crypto.randomUUID();
    expect(await me.create({ id, title: "one", user_id: "u1" })).toMatchObject({ status: "created" });
    expect(await me.create({ id, title: "two" })).toMatchObject({
      status: "present",
      chat: { title: "one" },
    });
    await me.create({ title: "other", user_id: "u2" });
    expect((await me.list({ user_id: "u1" })).chats).toMatchObject([{ id }]);
    expect((await me.change(id, { archived: true, description: "d" })).chat).toMatchObject({
      description: "d",
    });
    expect((await me.list()).chats).toMatchObject([{ title: "other" }]);
    expect((await me.list({ archived: true })).chats).toMatchObject([{ title: "one" }]);
    expect((await me.list({ archived: null })).chats).toHaveLength(2);
    await me.change(id, { archived: false, deleted: true });
    expect((await me.list({ archived: null })).chats).toHaveLength(1);
    expect((await me.change(id, { deleted: false })).chat).toMatchObject({
      archived_at: null,
      deleted_at: null,
    });
    expect((await me.list()).chats).toHaveLength(2);
  });

  test("pages follow one another without a gap, newest first", async () => {
    const me = as(consumer("app"));
    // Some at the same instant: the id decides.
    await sql`
      insert into public.chats (consumer_id, title, created_at)
      select ${ids
      .app!}, n::text, timestamptz '2026-01-01' + (n / 3) * interval '1 second' from generate_series(1, 25) n`;
    const seen: string[] = [];
    let page: Answer;
    do {
      page = await me.list({ after: page?.next, at_most: 7 });
      seen.push(...page.chats.map(({ id }: Answer) => id));
    } while (page.next !== null);
    const all = await sql`select id from public.chats order by created_at desc, id desc`;
    expect(seen).toEqual(all.map(({ id }) => id));
  });
});

describe("messages", () => {
  test("stand in the order in which they came; an edit is a branch, and each branch a conversation", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create();
    const one = (await me.add(chat.id, { content: "1" })).message;
    const two = (await me.add(chat.id, { content: "2", role: "assistant" })).message;
    const three = (await me.add(chat.id, { content: "3" })).message;
    expect(two.parent_id).toBe(one.id);
    const edited = (await me.add(chat.id, { content: "3, better", edits: three.id })).message;
    expect(edited.parent_id).toBe(two.id);
    await me.add(chat.id, { content: "4", role: "assistant" });
    expect(texts(await me.path(chat.id))).toEqual(["1", "2", "3, better", "4"]);
    expect(texts(await me.path(chat.id, three.id))).toEqual(["1", "2", "3"]);
    // The first one has no parent; its edit neither.
    const begins = (await me.add(chat.id, { content: "1, better", edits: one.id })).message;
    expect(begins.parent_id).toBeNull();
    expect(texts(await me.path(chat.id))).toEqual(["1, better"]);
    expect(texts(await me.messages(chat.id))).toEqual(["1", "2", "3", "3, better", "4", "1, better"]);
    expect(texts(await me.messages(chat.id, { backwards: true, at_most: 2 }))).toEqual(["1, better", "4"]);
    const page = await me.path(chat.id, three.id, 2);
    expect([texts(page), page.before]).toEqual([["2", "3"], one.id]);
  });

  test("with the same client_id are one; a parent of another chat is refused", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create();
    const { chat: other } = await me.create();
    const first = await me.add(chat.id, { content: "once", client_id: "c1" });
    expect(await me.add(chat.id, { content: "twice", client_id: "c1" })).toEqual({
      status: "present",
      message: first.message,
    });
    expect(await me.add(other.id, { content: "x", parent_id: first.message.id })).toMatchObject({
      code: "message_not_found",
    });
    expect(await me.add(other.id, { content: "x", id: first.message.id })).toMatchObject({
      code: "id_taken",
    });
    // The same id again is the same message, and the conversation ends where it did.
    const last = (await me.add(chat.id, { content: "last" })).message;
    expect(await me.add(chat.id, { content: "again", id: first.message.id })).toMatchObject({
      status: "present",
      message: { content: "once" },
    });
    expect(texts(await me.path(chat.id))).toEqual(["once", "last"]);
    await sql`delete from public.messages where id = ${last.id}`;
    // A client of its own cannot either.
    await expect(
      sql`insert into public.messages (chat_id, parent_id) values (${other.id}, ${first.message.id})`,
    ).rejects.toMatchObject({ code: "EV400" });
    expect(await sql`select content from public.messages`).toEqual([{ content: "once" }]);
  });

  test("that many write at once are there once each, one behind the other", async () => {
    const { chat } = await as(user(ANN)).create();
    const writers = Array.from({ length: 8 }, () => postgres(db.url, { max: 1, onnotice: () => {} }));
    try {
      await Promise.all(writers.map(async (writer, number) => {
        for (let at = 0; at < 12; at++) {
          // Each is sent twice, as after a lost answer.
          for (const _ of [1, 2]) {
            await writer`
              select public.eve_message_add(${json(user(ANN))}, ${chat.id}, ${
              json({ content: `${number}.${at}`, client_id: `${number}.${at}` })
            })`;
          }
        }
      }));
    } finally {
      await Promise.all(writers.map((writer) => writer.end()));
    }
    const { messages } = await as(user(ANN)).messages(chat.id);
    expect(messages).toHaveLength(96);
    messages.forEach((each: Answer, at: number) =>
      expect(each.parent_id).toBe(at === 0 ? null : messages[at - 1].id)
    );
    for (let number = 0; number < 8; number++) {
      const own = messages.map(({ content }: Answer) => content).filter((content: string) =>
        content.startsWith(`${number}.`)
      );
      expect(own).toEqual(Array.from({ length: 12 }, (_, at) => `${number}.${at}`));
    }
  });

  test("any tree of edits: each path leads from its leaf to a beginning, and pages hold all of it", async () => {
    const me = as(user(ANN));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ edit: fc.boolean(), at: fc.nat({ max: 50 }) }), { minLength: 1, maxLength: 25 }),
        fc.integer({ min: 1, max: 9 }),
        async (steps, size) => {
          const { chat } = await me.create();
          const parents = new Map<string, string | null>();
          let leaf: string | null = null;
          for (const { edit, at } of steps) {
            const known = [...parents.keys()];
            const target = known[at % Math.max(known.length, 1)];
            const body = target === undefined ? {} : edit ? { edits: target } : { parent_id: target };
            const { message } = await me.add(chat.id, { content: "x", ...body });
            expect(message.parent_id).toBe(
              target === undefined ? leaf : edit ? parents.get(target) : target,
            );
            parents.set(message.id, message.parent_id);
            leaf = message.id;
          }
          const path: string[] = [];
          for (let id = leaf; id !== null; id = parents.get(id) ?? null) path.unshift(id);
          const walked: string[] = [];
          for (let at: string | null = null, first = true; first || at !== null; first = false) {
            const page: Answer = await me.path(chat.id, at, size);
            walked.unshift(...page.messages.map(({ id }: Answer) => id));
            at = page.before;
          }
          expect(walked).toEqual(path);
          const paged: string[] = [];
          let page: Answer;
          do {
            page = await me.messages(chat.id, { after: page?.next, at_most: size });
            paged.push(...page.messages.map(({ id }: Answer) => id));
          } while (page.next !== null);
          expect(paged).toEqual([...parents.keys()]);
        },
      ),
      { numRuns: 15, seed: 17 },
    );
  });

  test("are found by stems of both languages, in one's own chats, the best of a thousand candidates", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create({ title: "plans" });
    await me.add(chat.id, { content: "НЕСУЩИЕ Стены показаны на чертеже" });
    await me.add(chat.id, { content: "The load-bearing walls are on the drawings" });
    await me.add(chat.id, { content: "nothing of the sort" });
    await as(user(BOB)).create().then(({ chat }: Answer) => as(user(BOB)).add(chat.id, { content: "стена" }));
    for (const query of ["стена", "Несущая", "СТЕНЫ"]) {
      expect((await me.search(query)).found, query).toMatchObject([{
        chat_title: "plans",
        message: { content: "НЕСУЩИЕ Стены показаны на чертеже" },
      }]);
    }
    expect((await me.search("drawing wall")).found).toHaveLength(1);
    expect((await me.search("wall -drawing")).found).toHaveLength(0);
    await sql`
      insert into public.messages (chat_id, content) select ${chat.id}, 'sorting ' || n from generate_series(1, 1200) n`;
    expect(await me.search("sort")).toMatchObject({ candidates: 1000, found: { length: 20 } });
  });
});

describe("what a signed-in user may keep", () => {
  const USUAL = { max: 10_000, max_messages: 200_000, max_bytes: 268_435_456 };
  const limit = async (limits: Partial<typeof USUAL>) => {
    for (const [name, value] of Object.entries({ ...USUAL, ...limits })) {
      await sql`update eve.settings set value = ${value} where name = ${`chats_user_${name}`}`;
    }
  };
  afterEach(() => limit({}));

  /** What is counted for the one who has chats, and what there is. */
  async function counts() {
    const kept = await sql`select chats::int, messages::int, bytes::int from eve.chat_owners`;
    const [there] = await sql`
      with sizes as (
        select m.chat_id, 1 as n, 200 + octet_length(m.content) + coalesce(octet_length(m.parts::text), 0) as size from public.messages m
        union all
        select m.chat_id, 0, octet_length(to_jsonb(i)::text) from public.message_images i join public.messages m on m.id = i.message_id
        union all
        select r.chat_id, 0, octet_length(to_jsonb(r)::text) from public.search_results r
        union all
        select s.chat_id, 0, octet_length(to_jsonb(s)::text) from public.chat_shares s
      ), chats as (
        select c.owner, c.messages_count, c.stored_bytes, coalesce(sum(s.n), 0) as n, coalesce(sum(s.size), 0) as size
        from public.chats c left join sizes s on s.chat_id = c.id
        group by c.id
      )
      select bool_and(messages_count = n and stored_bytes = size) as chats_are_right, count(owner)::int as chats,
        sum(ceil(n / 16.0) * 16) filter (where owner is not null)::int as messages,
        sum(ceil(size / 16384.0) * 16384) filter (where owner is not null)::int as bytes
      from chats`;
    const { chats_are_right, ...sums } = there!;
    return { kept: [...kept], there: sums, chats_are_right };
  }

  test("is counted whatever comes and goes, by whatever way", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create();
    const { chat: apps } = await as(consumer("app")).create();
    const long = "слово ".repeat(2_000);
    for (let n = 0; n < 20; n++) await me.add(chat.id, { content: n % 5 === 0 ? long : "short" });
    await as(consumer("app")).add(apps.id, { content: long });
    const asked = await me.begin(chat.id, { content: "q" });
    await sql`select public.eve_chat_answer_end(${asked.answer.id}, 'complete', ${long}, '[{"text": "x"}]')`;
    await me.image(asked.question.id, { image_name: "view", description: long.slice(0, 3_000) });
    await me.results(chat.id, Array.from({ length: 30 }, (_, n) => ({ block_id: `${n}`, block_text: long })));
    await me.share(chat.id, "c".repeat(64));
    const full = await counts();
    expect(full).toEqual({ kept: [full.there], there: full.there, chats_are_right: true });
    await sql`delete from public.search_results where block_id < '2'`;
    await sql`delete from public.chat_shares`;
    await sql`delete from public.messages where content = 'short'`;
    // Given to somebody.
    await sql`update public.chats set owner = ${ANN}, consumer_id = null where id = ${apps.id}`;
    const less = await counts();
    expect(less).toEqual({ kept: [less.there], there: less.there, chats_are_right: true });
    expect(less.there.bytes).toBeLessThan(full.there.bytes);
    await me.erase(chat.id);
    await me.erase(apps.id);
    expect((await counts()).kept).toEqual([]);
  });

  test("ends at each limit, also for many at once, in words and with nothing half done", async () => {
    const me = as(user(ANN));
    await limit({ max: 4, max_messages: 96 });
    const chats: string[] = [];
    for (let n = 0; n < 4; n++) chats.push((await me.create()).chat.id);
    await expect(me.create()).rejects.toMatchObject({
      code: "EV507",
      message: "your chats hold as much as they may, which is 4 chats",
    });
    const writers = chats.map(() => postgres(db.url, { max: 1, onnotice: () => {} }));
    try {
      const write = (writer: postgres.Sql, at: number) =>
        writer`select public.eve_message_add(${json(user(ANN))}, ${chats[at]!}, '{"content": "x"}')`;
      // One in each, so that however the race goes each chat has bytes and takes its step of them.
      await Promise.all(writers.map(write));
      // Each alone would have room for all of them.
      const written = await Promise.all(writers.map(async (writer, at) => {
        for (let n = 1;; n++) {
          try {
            await write(writer, at);
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: "EV507" });
            return n;
          }
        }
      }));
      expect(written.reduce((sum, n) => sum + n)).toBe(96);
    } finally {
      await Promise.all(writers.map((writer) => writer.end()));
    }
    expect(await counts()).toMatchObject({ kept: [{ chats: 4, messages: 96 }], chats_are_right: true });
    expect(
      await sql`select from public.chats c left join public.messages m on m.id = c.leaf_id where c.leaf_id is not null and m.id is null`,
    )
      .toHaveLength(0);
    await limit({ max_bytes: 100_000 });
    await expect(me.add(chats[0]!, { content: "x".repeat(50_000) })).rejects.toMatchObject({
      code: "EV507",
      message: "your chats hold as much as they may, which is 100000 bytes",
    });
    // What goes makes room, and others have their own.
    await me.erase(chats[1]!);
    await me.erase(chats[2]!);
    expect(await me.add(chats[0]!, { content: "x".repeat(50_000) })).toMatchObject({ status: "added" });
    expect(await as(user(BOB)).create()).toMatchObject({ status: "created" });
  });

  test("is nobody else's to fill or to learn of", async () => {
    await limit({ max_messages: 0 });
    const { chat } = await as(user(ANN)).create();
    const add = (sub: string) =>
      signedIn("authenticated", sub, (own) => own`insert into public.messages (chat_id) values (${chat.id})`);
    await expect(add(BOB)).rejects.toMatchObject({ code: "42501" });
    await expect(add(ANN)).rejects.toMatchObject({ code: "EV507" });
    await expect(signedIn("authenticated", ANN, (own) => own`select from eve.chat_owners`)).rejects
      .toMatchObject({
        code: "42501",
      });
  });
});

describe("answers", () => {
  const end = (id: string, state: string, content: string) =>
    ask(
      sql`select public.eve_chat_answer_end(${id}, ${state}, ${content}, usage => '{"total_tokens": 3}') as answer`,
    );

  test("stand behind their questions whatever comes between, with what was said before", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create();
    const first = await me.begin(chat.id, { content: "q1", client_id: "c1" });
    const second = await me.begin(chat.id, { content: "q2", client_id: "c2" });
    expect(first).toMatchObject({ status: "begun", history: [], consumer_id: ids.bot });
    expect(first.answer).toMatchObject({ parent_id: first.question.id, state: "pending", request_id: "r1" });
    expect(texts({ messages: second.history })).toEqual(["q1", ""]);
    await end(second.answer.id, "complete", "a2");
    await end(first.answer.id, "broken_off", "a");
    // Once complete it stays.
    expect((await end(second.answer.id, "broken_off", "")).message).toMatchObject({
      state: "complete",
      content: "a2",
    });
    expect(texts(await me.path(chat.id))).toEqual(["q1", "a", "q2", "a2"]);
    expect(await end(crypto.randomUUID(), "complete", "x")).toEqual({ status: "gone" });
  });

  test("are given once by client_id: not while one is written, again after one that broke off", async () => {
    const me = as(user(ANN));
    const { chat } = await me.create();
    const question = { content: "q", client_id: "c" };
    const first = await me.begin(chat.id, question);
    expect(await me.begin(chat.id, question)).toMatchObject({ code: "request_running" });
    await end(first.answer.id, "broken_off", "half");
    const second = await me.begin(chat.id, question);
    expect(second).toMatchObject({ status: "begun", question: first.question });
    await end(second.answer.id, "complete", "whole");
    expect(await me.begin(chat.id, question)).toMatchObject({
      status: "present",
      answer: { content: "whole" },
    });
    expect(texts(await me.path(chat.id))).toEqual(["q", "whole"]);
    expect(texts(await me.messages(chat.id))).toEqual(["q", "half", "whole"]);
  });

  test("are charged to the consumer that has the chat, and of users to the one that the owner names", async () => {
    const { chat } = await as(consumer("app")).create();
    expect(await as(consumer("app")).begin(chat.id, {}, "bot")).toMatchObject({ consumer_id: ids.app });
    expect(await as(PROJECT).begin(chat.id, {}, "bot")).toMatchObject({ consumer_id: null });
    const { chat: anns } = await as(user(ANN)).create();
    for (const payer of [null, "nobody"]) {
      expect(await as(user(ANN)).begin(anns.id, {}, payer)).toMatchObject({
        code: "credential_insufficient",
      });
    }
    expect(await sql`select from public.messages where chat_id = ${anns.id}`).toHaveLength(0);
  });
});

describe("files of pictures", () => {
  test("stay as long as a picture is of them, and are handed over with the last", async () => {
    const { reserve, stored } = mediaCalls(sql);
    await reserve(shaOf(1), 1000);
    await stored(shaOf(1), 1000);
    const me = as(PROJECT);
    const { chat } = await me.create();
    const { chat: other } = await me.create();
    const image = async (chatId: string) => {
      const { message } = await me.add(chatId, { content: "look" });
      return (await me.image(message.id, {
        sha256: shaOf(1),
        image_name: "view",
        // Of the upload's answer: over within the hour.
        s3_url: "https://s3.example/signed",
      })).image;
    };
    expect(await image(chat.id)).toMatchObject({
      file_sha256: shaOf(1),
      file_size: 1000,
      s3_url: `https://x.example/media/${shaOf(1)}?tenant_id=default`,
    });
    await image(other.id);
    const refs = async () =>
      (await sql`select refs_count from public.media_objects`).map(({ refs_count }) => refs_count);
    expect(await refs()).toEqual([2]);
    const left = (files: unknown) => ask(sql`select public.eve_chat_files_left(${json(files)}) as answer`);
    const receipt = await me.erase(chat.id);
    expect(receipt).toMatchObject({ status: "erased", messages: 1, images: 1 });
    expect(await refs()).toEqual([1]);
    expect(await left(receipt.files)).toEqual([]);
    // By whatever way the row goes.
    await sql`delete from public.chats where id = ${other.id}`;
    expect(await refs()).toEqual([0]);
    expect(await left(receipt.files)).toMatchObject([{ sha256: shaOf(1) }]);
  });

  test("that are not there are refused by hash, and kept as they are by path", async () => {
    const me = as(consumer("app"));
    const { chat } = await me.create();
    const { message } = await me.add(chat.id, {});
    expect(await me.image(message.id, { sha256: shaOf(9) })).toMatchObject({ code: "object_not_found" });
    expect((await me.image(message.id, { s3_path: "chats/1/a.png" })).image).toMatchObject({
      s3_path: "chats/1/a.png",
      file_sha256: null,
    });
  });
});

test("whether other devices are told by Realtime is known, table by table", async () => {
  const realtime = () => ask(sql`select public.eve_chat_realtime() as answer`);
  const tables = ["chats", "message_images", "messages", "search_results"];
  expect(await realtime()).toEqual({ publication: false, missing: tables });
  await sql`create publication supabase_realtime for table public.chats, public.search_results`;
  try {
    expect(await realtime()).toEqual({ publication: true, missing: ["message_images", "messages"] });
  } finally {
    await sql`drop publication supabase_realtime`;
  }
});

describe("what an administrator sees", () => {
  const SECRET_WORDS = ["тайна", "hidden", "private"];
  const list = (by: unknown = {}) => ask(sql`select public.eve_admin_chats(${json(by)}) as answer`);
  const one = (id: string) => ask(sql`select public.eve_admin_chat(${id}) as answer`);
  const show = (value: number) =>
    sql`update eve.settings set value = ${value} where name = 'chats_text_for_administrators'`;
  afterEach(() => show(0));

  /** A chat with a secret in each text that there is. */
  async function secretive() {
    const me = as(user(ANN));
    const metadata = { note: "private" };
    const { chat } = await me.create({
      title: "hidden title",
      description: "private",
      metadata,
      user_id: "u1",
    });
    const asked = await me.begin(chat.id, {
      content: "тайна",
      parts: [{ text: "private" }],
      message_type: "hidden",
    });
    await sql`
      select public.eve_chat_answer_end(
        ${asked.answer.id}, 'complete', 'hidden answer', usage => '{"input_tokens": 5, "output_tokens": 3, "model": "hidden", "total_tokens": "private"}'
      )`;
    await me.feedback(asked.answer.id, "private");
    await me.image(asked.question.id, {
      image_name: "hidden.png",
      description: "private",
      s3_path: "private/hidden.png",
      s3_url: "https://x.example/hidden",
    });
    await me.results(chat.id, [{ block_text: "hidden" }]);
    return chat.id;
  }

  test("is no text at all unless the owner says so, not by searching either", async () => {
    const id = await secretive();
    const listed = await list({ user_id: "u1" });
    expect(listed).toMatchObject({
      shows_text: false,
      chats: [{ id, messages: 2, owner: ANN, title: null }],
    });
    const chat = await one(id);
    expect(chat).toMatchObject({
      shows_text: false,
      cost: { calls: 1, input_tokens: 5, output_tokens: 3, total_tokens: 0 },
      messages: [{ role: "user", content: null, images: [{ image_name: null }] }, { output_tokens: 3 }],
    });
    for (const word of SECRET_WORDS) expect(JSON.stringify([listed, chat])).not.toContain(word);
    expect(await list({ text: "тайна" })).toMatchObject({ code: "credential_insufficient" });
    expect(await one(crypto.randomUUID())).toMatchObject({ code: "chat_not_found" });
  });

  test("is the conversation and where words are in it, when the owner says so", async () => {
    const id = await secretive();
    await as(consumer("app")).create({ title: "other" });
    await show(1);
    expect(await list({ text: "тайны" })).toMatchObject({
      shows_text: true,
      chats: [{ id, title: "hidden title" }],
    });
    expect((await list({ consumer: "app" })).chats).toMatchObject([{ title: "other", consumer: "app" }]);
    expect((await list({ consumer: "nobody" })).chats).toEqual([]);
    expect((await list({ owner: BOB })).chats).toEqual([]);
    expect((await list()).chats).toHaveLength(2);
    expect((await one(id)).messages).toMatchObject([
      { content: "тайна", images: [{ image_name: "hidden.png" }] },
      { content: "hidden answer", feedback: "private" },
    ]);
  });
});

describe("retention", () => {
  test("takes away what is over, ends abandoned answers, and leaves the rest", async () => {
    const me = as(user(ANN));
    const made = [];
    for (const title of ["kept", "deleted today", "deleted long ago", "expired"]) {
      made.push((await me.create({ title })).chat.id);
    }
    const pending = await me.begin(made[0], { content: "q" });
    const fresh = await me.begin(made[0], { content: "q2" });
    await sql`delete from eve.metric_counters where metric ~ '^eve_chat'`;
    await sql`update public.messages set created_at = created_at - interval '2 hours' where id = ${pending.answer.id}`;
    await sql`update public.chats set deleted_at = now() where title = 'deleted today'`;
    await sql`update public.chats set deleted_at = now() - interval '31 days' where title = 'deleted long ago'`;
    await sql`update public.chats set expires_at = now() - interval '1 second' where title = 'expired'`;
    const [begun] = await sql`select eve.begin_run('retention', 'a test') as run`;
    let step: Answer;
    do step = await ask(sql`select eve.step_run(${begun!.run.run_id}) as answer`); while (!step.done);
    expect(step).toMatchObject({ status: "succeeded" });
    expect((await sql`select title from public.chats order by title`).map(({ title }) => title)).toEqual([
      "deleted today",
      "kept",
    ]);
    expect(await sql`select id from public.messages where state = 'pending'`).toEqual([{
      id: fresh.answer.id,
    }]);
    // And an operator sees it.
    for (const state of ["broken_off", "complete", "complete"]) {
      await sql`select public.eve_chat_answer_end(${fresh.answer.id}, ${state}, 'x')`;
    }
    await me.erase(made[0]);
    const { samples } = await ask(sql`select public.eve_chat_metrics() as answer`);
    const counters =
      await sql`select metric, labels, value::int from eve.metric_counters where metric ~ '^eve_chat'`;
    expect(
      Object.fromEntries(
        [...samples, ...counters.map(({ metric, labels, value }) => [metric, labels, value])].map((
          [metric, labels, value],
        ) => [[metric, ...Object.values(labels)].join(" "), value]),
      ),
    ).toEqual({
      "eve_chat_answers_pending": 0,
      "eve_chat_answers_total abandoned": 1,
      "eve_chat_answers_total broken_off": 1,
      "eve_chat_rows chat_shares": 0,
      "eve_chat_rows chats": 1,
      "eve_chat_rows message_images": 0,
      "eve_chat_rows messages": 0,
      "eve_chat_rows search_results": 0,
      "eve_chats_removed_total erasure": 1,
      "eve_chats_removed_total retention": 2,
    });
  });
});
