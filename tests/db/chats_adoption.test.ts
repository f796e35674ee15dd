/** The migrations over chats and what belongs to them that somebody made by hand: nothing gets lost, and what is lacking is added. */
import { describe, expect, test } from "vitest";
import { applyMigrations } from "../../local/database.ts";
import type { TestDatabase } from "../harness/database.ts";
import { tablesByHand } from "../harness/tables_by_hand.ts";
import { chat as chatShape, message as messageShape } from "../../shared/database/chats.ts";
import { PROJECT } from "../harness/media.ts";

const { made, adopted } = tablesByHand("20261125000100");

const uuid = (letter: string, n: number) =>
  `${letter.repeat(8)}-0000-4000-8000-${String(n).padStart(12, "0")}`;
const [OPEN, ARCHIVED, EMPTY] = [1, 2, 3].map((n) => uuid("c", n)) as [string, string, string];
const message = (n: number) => uuid("e", n);

/** As a guide's Alembic migration makes them: varchar, json defaults, checks and a column of its own. */
const TABLES = `
  create table public.chats (
    id uuid primary key default gen_random_uuid(),
    title varchar(255) not null,
    user_id varchar(100),
    document_path varchar(500),
    description text,
    is_archived boolean default false,
    metadata jsonb,
    created_at timestamp not null default now(),
    updated_at timestamp default now()
  );
  create index chats_user_id on public.chats (user_id);
  create table public.messages (
    id uuid primary key default gen_random_uuid(),
    chat_id uuid not null references public.chats (id) on delete cascade,
    role varchar(20) not null,
    content text not null,
    message_type varchar(50) default 'text',
    tokens integer,
    created_at timestamptz default now()
  );
  create table public.message_images (
    id uuid primary key default gen_random_uuid(),
    chat_id uuid references public.chats (id) on delete cascade,
    message_id uuid not null references public.messages (id) on delete cascade,
    image_name varchar(255),
    s3_path varchar(500),
    s3_url text,
    image_type varchar(50),
    description text,
    width smallint,
    height integer,
    file_size integer,
    uploaded_at timestamptz default '2026-01-03'
  );
  create table public.search_results (
    id uuid primary key default gen_random_uuid(),
    chat_id uuid not null references public.chats (id) on delete cascade,
    message_id uuid,
    block_id varchar(100),
    page_number integer,
    block_text text,
    coords_norm jsonb,
    coords_px jsonb,
    created_at timestamptz default '2026-01-04'
  );
  insert into public.chats (id, title, user_id, document_path, is_archived, metadata, created_at, updated_at) values
    ('${OPEN}', 'Вентиляция', 'ann', 'docs/plan.pdf', false, '{"pages": 3}', '2026-01-01', '2026-01-02'),
    ('${ARCHIVED}', 'Old', 'ann', null, true, null, '2025-01-01', '2025-01-05'),
    ('${EMPTY}', 'Empty', null, null, null, null, '2025-02-01', null);
  insert into public.messages (id, chat_id, role, content, message_type, tokens, created_at) values
    ('${message(3)}', '${OPEN}', 'user', 'И дверь?', null, null, '2026-01-02 12:00+00'),
    ('${message(1)}', '${OPEN}', 'user', 'Где стена?', 'text', 7, '2026-01-01 12:00+00'),
    -- Two at one instant: by their ids, which is the order in which a list shows them.
    ('${message(2)}', '${OPEN}', 'assistant', 'На листе 4.', 'text', 9, '2026-01-01 12:00+00'),
    ('${message(9)}', '${ARCHIVED}', 'user', 'Hello', 'text', 1, '2025-01-01 12:00+00');
  insert into public.message_images (id, chat_id, message_id, image_name, s3_path, s3_url, image_type, width, height, file_size) values
    ('${uuid("a", 1)}', '${OPEN}', '${
  message(1)
}', 'v.png', 'chats/1/v.png', 'https://s3.example/v.png', 'viewport', 2048, 1024, 1024000);
  insert into public.search_results (id, chat_id, message_id, block_id, page_number, block_text, coords_norm, coords_px) values
    ('${uuid("b", 1)}', '${OPEN}', '${message(1)}', 'block_1', 5, 'Система', '[0.1, 0.2]', '[100, 200]'),
    ('${uuid("b", 2)}', '${OPEN}', null, null, null, null, null, null);
`;

/** All of some tables, as text: what a second run must leave alone. */
async function everything(sql: TestDatabase["sql"]): Promise<unknown> {
  const tables = await Promise.all(
    ["chats", "messages", "message_images", "search_results"].map((table) =>
      sql.unsafe(`select to_jsonb(t) as row from public.${table} t order by id`)
    ),
  );
  const columns = await sql`
    select table_name, column_name, data_type, is_nullable, column_default
    from information_schema.columns
    where table_schema = 'public' and table_name in ('chats', 'messages', 'message_images', 'search_results', 'chat_shares')
    order by 1, 2`;
  return [...tables, [...columns]];
}

describe("hand-made chats", () => {
  test("keep their rows, columns and values", async () => {
    const { sql } = await adopted(TABLES);
    expect(
      await sql`
        select id, title, user_id, document_path, is_archived, metadata, created_at, updated_at
        from public.chats order by id`,
    ).toMatchObject([
      {
        id: OPEN,
        title: "Вентиляция",
        user_id: "ann",
        document_path: "docs/plan.pdf",
        is_archived: false,
        metadata: { pages: 3 },
        // An instant without a zone is one of UTC.
        created_at: new Date("2026-01-01T00:00Z"),
        updated_at: new Date("2026-01-02T00:00Z"),
      },
      { id: ARCHIVED, title: "Old", is_archived: true, updated_at: new Date("2025-01-05T00:00Z") },
      // What was left empty and must not be.
      {
        id: EMPTY,
        title: "Empty",
        user_id: null,
        is_archived: null,
        metadata: {},
        updated_at: new Date("2025-02-01T00:00Z"),
      },
    ]);
    expect(
      await sql`select id, chat_id, role, content, tokens, created_at from public.messages order by id`,
    ).toEqual([
      {
        id: message(1),
        chat_id: OPEN,
        role: "user",
        content: "Где стена?",
        tokens: 7,
        created_at: new Date("2026-01-01T12:00Z"),
      },
      {
        id: message(2),
        chat_id: OPEN,
        role: "assistant",
        content: "На листе 4.",
        tokens: 9,
        created_at: new Date("2026-01-01T12:00Z"),
      },
      {
        id: message(3),
        chat_id: OPEN,
        role: "user",
        content: "И дверь?",
        tokens: null,
        created_at: new Date("2026-01-02T12:00Z"),
      },
      {
        id: message(9),
        chat_id: ARCHIVED,
        role: "user",
        content: "Hello",
        tokens: 1,
        created_at: new Date("2025-01-01T12:00Z"),
      },
    ]);
    expect(
      await sql`
        select chat_id, message_id, image_name, s3_path, s3_url, image_type, width, height, file_size::int, uploaded_at
        from public.message_images`,
    ).toEqual([{
      chat_id: OPEN,
      message_id: message(1),
      image_name: "v.png",
      s3_path: "chats/1/v.png",
      s3_url: "https://s3.example/v.png",
      image_type: "viewport",
      width: 2048,
      height: 1024,
      file_size: 1024000,
      uploaded_at: new Date("2026-01-03"),
    }]);
    expect(
      await sql`
        select chat_id, message_id, block_id, page_number, block_text, coords_norm, coords_px from public.search_results order by id`,
    ).toEqual([
      {
        chat_id: OPEN,
        message_id: message(1),
        block_id: "block_1",
        page_number: 5,
        block_text: "Система",
        coords_norm: [0.1, 0.2],
        coords_px: [100, 200],
      },
      {
        chat_id: OPEN,
        message_id: null,
        block_id: null,
        page_number: null,
        block_text: null,
        coords_norm: null,
        coords_px: null,
      },
    ]);
    expect(await sql`select message from eve.adoption_warnings where message like '%chats%'`).toEqual([]);
  });

  test("are archived that were, and their messages are one path", async () => {
    const { sql } = await adopted(TABLES);
    expect(await sql`select id, archived_at, leaf_id from public.chats order by id`).toEqual([
      { id: OPEN, archived_at: null, leaf_id: message(3) },
      { id: ARCHIVED, archived_at: new Date("2025-01-05"), leaf_id: message(9) },
      { id: EMPTY, archived_at: null, leaf_id: null },
    ]);
    expect(await sql`select id, parent_id, state from public.messages order by id`).toEqual([
      { id: message(1), parent_id: null, state: "complete" },
      { id: message(2), parent_id: message(1), state: "complete" },
      { id: message(3), parent_id: message(2), state: "complete" },
      { id: message(9), parent_id: null, state: "complete" },
    ]);
  });

  test("are read, written and searched through the functions", async () => {
    const { sql } = await adopted(TABLES);
    const call = async (text: string, values: string[] = []) =>
      (await sql.unsafe(`select ${text} as answer`, [JSON.stringify(PROJECT), ...values]))[0]!.answer;
    expect((await call("public.eve_chats($1::text::jsonb, user_id => 'ann')")).chats).toMatchObject([{
      id: OPEN,
      metadata: { pages: 3 },
    }]);
    // As the API says that they are, an instant with its zone, by which the next page is asked for.
    expect((await call("public.eve_chats($1::text::jsonb, at_most => 1)")).next.created_at).toMatch(
      /\+00:00$/,
    );
    expect((await call("public.eve_chat($1::text::jsonb, $2)", [EMPTY])).chat).toMatchObject({
      metadata: {},
      updated_at: expect.any(String),
    });
    expect((await call("public.eve_message_path($1::text::jsonb, $2)", [OPEN])).messages).toMatchObject([
      { id: message(1) },
      { id: message(2) },
      { id: message(3), message_type: "text" },
    ]);
    const added = await call(`public.eve_message_add($1::text::jsonb, $2, '{"content": "Окно?"}')`, [OPEN]);
    expect(added).toMatchObject({ status: "added", message: { parent_id: message(3) } });
    for (const chat of [ARCHIVED, EMPTY]) {
      expect(await call(`public.eve_message_add($1::text::jsonb, $2, '{"content": "Still here"}')`, [chat]))
        .toMatchObject({ status: "added" });
    }
    expect((await call("public.eve_message_images($1::text::jsonb, $2)", [message(1)])).images).toMatchObject(
      [
        { id: uuid("a", 1), file_size: 1024000 },
      ],
    );
    expect((await call("public.eve_search_results($1::text::jsonb, $2)", [OPEN])).results).toHaveLength(2);
    expect((await call("public.eve_chat_search($1::text::jsonb, 'двери')")).found).toMatchObject([
      { message: { id: message(3) } },
    ]);
    // A program that writes as before goes on.
    await sql`insert into public.chats (id, title, user_id, metadata) values (${
      uuid("c", 4)
    }, 'New', 'bob', null)`;
    await sql`insert into public.messages (chat_id, role, content) values (${uuid("c", 4)}, 'user', null)`;
    const created = chatShape.parse(
      (await call("public.eve_chat($1::text::jsonb, $2)", [uuid("c", 4)])).chat,
    );
    expect(created).toMatchObject({ title: "New", metadata: {} });
    for (const chat of [OPEN, uuid("c", 4)]) {
      const page = await call("public.eve_messages($1::text::jsonb, $2)", [chat]);
      expect(page.messages.map((one: unknown) => messageShape.parse(one).content)).toHaveLength(
        chat === OPEN ? 4 : 1,
      );
    }
    await sql`insert into public.messages (chat_id, role, content) values (${OPEN}, 'user', 'As before')`;
    const [last] = await sql`select parent_id from public.messages where content = 'As before'`;
    expect(last!.parent_id).toBe(added.message.id);
    // What was there before is counted, a picture and two search results with it.
    const [counted] =
      await sql`select messages_count::int, stored_bytes::int from public.chats where id = ${OPEN}`;
    expect(counted!.messages_count).toBe(
      (await sql`select count(*)::int as n from public.messages where chat_id = ${OPEN}`)[0]!.n,
    );
    await sql`delete from public.message_images`;
    await sql`delete from public.search_results`;
    expect(
      (await sql`select stored_bytes::int - sum(200 + octet_length(m.content))::int as beside
        from public.chats c join public.messages m on m.chat_id = c.id where c.id = ${OPEN} group by c.id`)[
        0
      ],
    ).toEqual({ beside: 0 });
  });

  test("are closed to anyone who has the publishable key, whatever their policies let others do", async () => {
    const { sql } = await adopted(`
      ${TABLES}
      grant all on all tables in schema public to anon, authenticated;
      alter table public.chats enable row level security;
      create policy "Allow all" on public.chats for all using (true);
      create policy read_all on public.messages for select to authenticated using (true);
      create policy not_the_old on public.chats as restrictive for select using (title <> 'Secret');
    `);
    expect(
      await sql`
        select tablename, policyname from pg_policies
        where policyname in ('Allow all', 'read_all', 'not_the_old')`,
    ).toEqual([{ tablename: "chats", policyname: "not_the_old" }]);
    const warnings = await sql`select message from eve.adoption_warnings order by message`;
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/policy "Allow all" of chats \(for all to public using \(true\)/),
      expect.stringMatching(/policy "read_all" of messages \(for select to authenticated using \(true\)/),
    ]);
    for (const table of ["chats", "messages", "message_images", "search_results"]) {
      await expect(sql.begin(async (tx) => {
        await tx`set local role anon`;
        await tx.unsafe(`select * from public.${table}`);
      })).rejects.toThrow(/permission denied/);
      const seen = await sql.begin(async (tx) => {
        await tx`set local role authenticated`;
        return await tx.unsafe(`select id from public.${table}`);
      });
      expect(seen).toEqual([]);
    }
  });

  test("are the same after a second run, also with what was written in between", async () => {
    const { sql, url } = await adopted(TABLES);
    await sql`update public.chats set is_archived = false, archived_at = null where id = ${ARCHIVED}`;
    await sql`update public.chats set is_archived = true where id = ${OPEN}`;
    await sql.unsafe(
      `select public.eve_message_add($1::text::jsonb, $2, $3::text::jsonb)`,
      [JSON.stringify(PROJECT), OPEN, JSON.stringify({ content: "A branch", parent_id: null })],
    );
    const before = await everything(sql);
    await sql`delete from supabase_migrations.schema_migrations where version >= '20261125'`;
    await applyMigrations(url);
    expect(await everything(sql)).toEqual(before);
  });

  test("without keys, with rows that break a rule: nothing is lost, and the owner is told", async () => {
    const { sql } = await adopted(`
      create table public.chats (id uuid, title text);
      insert into public.chats values ('${OPEN}', repeat('long ', 500)), (null, 'no id');
      create table public.messages (id uuid primary key, chat_id uuid, role text, content text);
      insert into public.messages values
        ('${message(1)}', '${OPEN}', 'bot', null), ('${
      message(2)
    }', '${EMPTY}', 'user', 'of a chat that is gone');
    `);
    expect(await sql`select count(*)::int as n, count(id)::int as named from public.chats`).toEqual([
      { n: 2, named: 2 },
    ]);
    expect(await sql`select id, role, content from public.messages order by id`).toEqual([
      { id: message(1), role: "bot", content: "" },
      { id: message(2), role: "user", content: "of a chat that is gone" },
    ]);
    // And is read as it is.
    const answer = async (call: string) => (await sql.unsafe(`select ${call} as answer`))[0]!.answer;
    const { messages } = await answer(`public.eve_messages('${JSON.stringify(PROJECT)}', '${OPEN}')`);
    expect(messages.map((each: unknown) => messageShape.parse(each).role)).toEqual(["bot"]);
    const warnings = (await sql`select message from eve.adoption_warnings`).map(({ message }) => message)
      .join(
        "\n",
      );
    expect(warnings).toMatch(
      /rows of chats break the rule ".*" \(the title of a chat has at most 2000 bytes\)/,
    );
    expect(warnings).toMatch(
      /rows of messages break the rule ".*" \(the role of a message is user, assistant, system or tool\)/,
    );
    expect(warnings).toMatch(/rows of messages break the rule "foreign key \(chat_id\)/);
  });

  test.each([
    [
      "numbers as ids",
      "create table public.chats (id bigint primary key, title text); insert into public.chats values (1, 'a')",
      /column id of public\.chats has type bigint/,
      "chats",
    ],
    [
      "numbers as ids of messages alone",
      `${TABLES} alter table public.message_images drop constraint message_images_message_id_fkey;
       alter table public.messages drop column id; alter table public.messages add column id serial primary key`,
      /column id of public\.messages has type integer/,
      "messages",
    ],
    [
      "text as JSON",
      "create table public.chats (id uuid primary key, metadata text)",
      /column metadata of public\.chats has type text/,
      "chats",
    ],
    [
      "a view of that name",
      "create view public.messages as select gen_random_uuid() as id",
      /public\.messages is not an ordinary table/,
      "messages",
    ],
  ])(
    "%s stop the migration with what to do, before anything has changed",
    async (_, byHand, message, table) => {
      const db = await made(byHand);
      const columns = async () =>
        (await db.sql.unsafe(
          `select column_name, data_type from information_schema.columns where table_schema = 'public' and table_name = '${table}' order by 1`,
        )).map((row) => ({ ...row }));
      const stood = await columns();
      await expect(applyMigrations(db.url)).rejects.toThrow(message);
      expect(await columns()).toEqual(stood);
      expect(await db.sql`select to_regclass('public.chat_shares') as made`).toEqual([{ made: null }]);
    },
  );
});
