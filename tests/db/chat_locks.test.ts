/**
 * The order of locks in chats (supabase/migrations/20261125000150_chat_usage.sql says it): the chat's row, then what is in it, then files, then
 * the owner's count. Erasing goes that way and cannot do otherwise, so nobody else may hold what is in a chat and wait for the chat.
 */
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { type Answer, mediaCalls, shaOf } from "../harness/media.ts";
import { empty } from "../harness/rows.ts";

const ANN = "a0000000-0000-4000-8000-000000000001";
const ACTOR = { kind: "user", user_id: ANN };
/** Two files, by hash, in the order in which they are locked. */
const FILES = [shaOf(1), shaOf(2)];

let db: TestDatabase;
let sql: TestDatabase["sql"];
const opened: postgres.Sql[] = [];
beforeAll(async () => {
  db = await cloneDatabase();
  sql = db.sql;
});
afterAll(() => db?.drop());
beforeEach(async () => {
  await empty(sql, "public.chats", "eve.media_references", "public.media_objects");
  for (const sha of FILES) {
    await mediaCalls(sql).reserve(sha, 1000);
    await mediaCalls(sql).stored(sha, 1000);
  }
  // Her files are the tenant's.
  await sql`
    insert into eve.tenant_members (tenant_id, user_id) values ('default', ${ANN}) on conflict do nothing`;
});
afterEach(() => Promise.all(opened.splice(0).map((connection) => connection.end())));

/** A connection of its own, as the service role's functions are called, or as Ann's own client. */
async function connection(own = false): Promise<postgres.Sql> {
  const url = new URL(db.url);
  if (own) url.username = "authenticator";
  // Where somebody would wait for ever: no outcome that is right takes this long.
  const one = postgres(url.href, { max: 1, onnotice: () => {}, connection: { lock_timeout: 20_000 } });
  opened.push(one);
  if (own) {
    await one`set role authenticated`;
    await one`select set_config('request.jwt.claims', ${
      JSON.stringify({ sub: ANN, role: "authenticated" })
    }, false)`;
  }
  return one;
}

const json = (value: unknown) => sql.json(value as postgres.JSONValue);
const actor = () => json(ACTOR);
const only = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Answer> =>
  (await query)[0]!.answer;
const calls = (by: postgres.Sql) => ({
  create: () => only(by`select public.eve_chat_create(${actor()}) as answer`),
  erase: (chat: string) => only(by`select public.eve_chat_erase(${actor()}, ${chat}) as answer`),
  change: (chat: string) =>
    only(by`select public.eve_chat_change(${actor()}, ${chat}, '{"title": "x"}') as answer`),
  add: (chat: string) =>
    only(by`select public.eve_message_add(${actor()}, ${chat}, '{"content": "x"}') as answer`),
  begin: (chat: string) =>
    only(
      by`select public.eve_chat_answer_begin('{"kind": "project"}', ${chat}, '{"content": "q"}', 'r') as answer`,
    ),
  end: (message: string) =>
    only(by`select public.eve_chat_answer_end(${message}, 'complete', 'an answer') as answer`),
  feedback: (message: string) =>
    only(by`select public.eve_message_feedback(${actor()}, ${message}, 'good') as answer`),
  image: (message: string, sha: string) =>
    only(
      by`select public.eve_message_image_add(${actor()}, ${message}, ${
        json({ sha256: sha })
      }, 'https://x.example/') as answer`,
    ),
  results: (chat: string, message: string) =>
    only(
      by`select public.eve_search_results_add(${actor()}, ${chat}, ${
        json([{ block_text: "x", message_id: message }])
      }) as answer`,
    ),
  share: (chat: string, hash = crypto.randomUUID().replaceAll("-", "").repeat(2)) =>
    only(by`select public.eve_chat_share(${actor()}, ${chat}, ${hash}, '{}', 0) as answer`),
  unshare: (chat: string, share: string) =>
    only(by`select public.eve_chat_unshare(${actor()}, ${chat}, ${share}) as answer`),
  retain: () =>
    by`select * from eve.retention_of_chats('public.chats', 'public.chats', now() - interval '1 hour', 100, null)`,
});

/** A chat with one of each thing in it. */
async function filled() {
  const { create, begin, image, results, share } = calls(sql);
  const { chat } = await create();
  const asked = await begin(chat.id);
  await image(asked.question.id, FILES[0]!);
  const shared = await share(chat.id);
  const found = await results(chat.id, asked.question.id);
  return {
    chat: chat.id as string,
    question: asked.question.id as string,
    answer: asked.answer.id as string,
    share: shared.share.id as string,
    result: found.results[0].id as string,
  };
}
type Filled = Awaited<ReturnType<typeof filled>>;

/** Until somebody stands before a lock. */
const untilOneWaits = () =>
  expect.poll(
    () =>
      sql`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`.then((
        rows,
      ) => rows.length),
    { interval: 5 },
  ).toBe(1);

describe("changes of what is in a chat that is being erased", () => {
  const changes: Record<string, [change: (it: Filled) => Promise<unknown>, outcome: unknown]> = {
    "adds a message": [async (it) => (await calls(await connection()).add(it.chat)).code, "chat_not_found"],
    "renames it": [async (it) => (await calls(await connection()).change(it.chat)).code, "chat_not_found"],
    "asks in it": [async (it) => (await calls(await connection()).begin(it.chat)).code, "chat_not_found"],
    "erases it too": [async (it) => (await calls(await connection()).erase(it.chat)).code, "chat_not_found"],
    "ends an answer": [async (it) => (await calls(await connection()).end(it.answer)).status, "gone"],
    "adds a picture": [
      async (it) => (await calls(await connection()).image(it.question, FILES[0]!)).code,
      "message_not_found",
    ],
    "adds a search result": [
      async (it) => (await calls(await connection()).results(it.chat, it.question)).code,
      "chat_not_found",
    ],
    "makes a link": [async (it) => (await calls(await connection()).share(it.chat)).code, "chat_not_found"],
    "takes a link back": [
      async (it) => (await calls(await connection()).unshare(it.chat, it.share)).code,
      "share_not_found",
    ],
    "deletes a link by themselves": [
      async (it) =>
        (await (await connection(true))`delete from public.chat_shares where id = ${it.share}`).count,
      0,
    ],
    "deletes a search result by themselves": [
      async (it) =>
        (await (await connection(true))`delete from public.search_results where id = ${it.result}`).count,
      0,
    ],
    "adds a picture by themselves": [
      async (it) =>
        (await (await connection(
          true,
        ))`insert into public.message_images (message_id) values (${it.question})`
          .catch(({ code }) => ({ count: code }))).count,
      // Of a chat that is not there: row-level security says no.
      "42501",
    ],
    "deletes it by themselves": [
      async (it) => (await (await connection(true))`delete from public.chats where id = ${it.chat}`).count,
      0,
    ],
  };
  test.each(Object.entries(changes))(
    "%s: waits with nothing of it in hand",
    async (_name, [change, outcome]) => {
      const it = await filled();
      const eraser = await connection();
      let changed: Promise<unknown>;
      await eraser.begin(async (erasing) => {
        await erasing`select from public.chats where id = ${it.chat} for update`;
        changed = change(it);
        await untilOneWaits();
        // Each of these fails at once if the other holds it.
        await erasing`select from public.messages where chat_id = ${it.chat} for update nowait`;
        await erasing`select from public.message_images where message_id = ${it.question} for update nowait`;
        await erasing`select from public.search_results where chat_id = ${it.chat} for update nowait`;
        await erasing`select from public.chat_shares where chat_id = ${it.chat} for update nowait`;
        await erasing`select from public.media_objects for update nowait`;
        await erasing`select from eve.chat_owners for update nowait`;
        expect(await calls(erasing as never).erase(it.chat)).toMatchObject({ status: "erased", messages: 2 });
      });
      expect(await changed!).toEqual(outcome);
    },
  );

  test("and retention takes what it can have, and comes again for the rest", async () => {
    const [busy, free] = [await filled(), await filled()];
    await sql`update public.messages set created_at = now() - interval '2 hours' where state = 'pending'`;
    const writer = await connection();
    await writer.begin(async (writing) => {
      await writing`select from public.chats where id = ${busy.chat} for no key update`;
      await calls(await connection()).retain();
    });
    const left = async () => ({
      pending: (await sql`select chat_id from public.messages where state = 'pending'`).map((row) =>
        row.chat_id
      ),
      links: (await sql`select chat_id from public.chat_shares`).map((row) => row.chat_id),
    });
    expect(await left()).toEqual({ pending: [busy.chat], links: [busy.chat] });
    expect(free.chat).not.toBe(busy.chat);
    await calls(sql).retain();
    expect(await left()).toEqual({ pending: [], links: [] });
  });
});

test("chats with the same files lock them in one order, however the chats go and their pictures came", async () => {
  const goes: ((chat: string) => Promise<unknown>)[] = [
    async (chat) => calls(await connection()).erase(chat),
    async (chat) => (await connection(true))`delete from public.chats where id = ${chat}`,
    async (chat) => {
      await sql`update public.chats set deleted_at = now() - interval '1 day' where id = ${chat}`;
      return calls(await connection()).retain();
    },
  ];
  for (const go of goes) {
    const { chat } = await calls(sql).create();
    const { message } = await calls(sql).add(chat.id);
    for (const sha of FILES.toReversed()) await calls(sql).image(message.id, sha);
    const other = await connection();
    let gone: Promise<unknown>;
    await other.begin(async (holding) => {
      await holding`select from public.media_objects where file_sha256 = ${FILES[0]!} for update`;
      gone = go(chat.id);
      await untilOneWaits();
      await holding`select from public.media_objects where file_sha256 = ${FILES[1]!} for update nowait`;
    });
    await gone!;
    expect(await sql`select from public.chats`).toHaveLength(0);
    expect((await sql`select refs_count from public.media_objects`).map((row) => row.refs_count)).toEqual([
      0,
      0,
    ]);
  }
});

test("many who write to, share and erase the same few chats end without an error, and everything is counted", async () => {
  const WORKERS = 8;
  const chats = await Promise.all([1, 2, 3].map(filled));
  const errors: string[] = [];
  await Promise.all(Array.from({ length: WORKERS }, async (_, worker) => {
    const own = worker % 4 === 3;
    const by = await connection(own);
    const { erase, add, begin, end, image, results, share, unshare, feedback, retain } = calls(by);
    for (let step = 0; step < 24; step++) {
      const at = (worker * 7919 + step * 104729) % 97;
      const place = at % chats.length;
      const it = chats[place]!;
      try {
        if (own) {
          if (at % 5 === 0) await by`delete from public.chats where id = ${it.chat}`;
          else if (at % 2 === 0) await by`delete from public.search_results where id = ${it.result}`;
          else await by`delete from public.chat_shares where id = ${it.share}`;
          continue;
        }
        switch (at % 10) {
          case 0:
            await erase(it.chat);
            chats[place] = await filled();
            break;
          case 1:
          case 2:
            await image(it.question, FILES[at % 2]!);
            break;
          case 3: {
            const asked = await begin(it.chat);
            if (asked.status === "begun") await end(asked.answer.id);
            break;
          }
          case 4:
            await results(it.chat, it.question);
            break;
          case 5: {
            const shared = await share(it.chat);
            if (shared.status === "shared") await unshare(it.chat, shared.share.id);
            break;
          }
          case 6:
            await retain();
            break;
          case 7:
            await end(it.answer);
            break;
          case 8:
            await feedback(it.answer);
            break;
          default:
            await add(it.chat);
        }
      } catch (thrown) {
        errors.push(`${at % 10} ${(thrown as Error).message}`);
      }
    }
  }));
  expect(errors).toEqual([]);
  for (const { id } of await sql`select id from public.chats`) await calls(sql).erase(id);
  expect(await sql`select from eve.chat_owners`).toHaveLength(0);
  expect((await sql`select refs_count from public.media_objects`).map((row) => row.refs_count)).toEqual([
    0,
    0,
  ]);
});
