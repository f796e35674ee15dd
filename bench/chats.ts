/**
 * `npm run bench:chats -- [--json] [--quick] [--only=reading|append|answer]`: what conversations cost, with 1,000,000 messages in 20,000 chats.
 *
 *   append   messages a second that signed-in users add to their chats, each with its place, its parent and its count, against an
 *            insert of the same row into a bare table under the same row-level security: one with the same columns, the words for the
 *            search among them, the same indexes and the same million rows, and without the trigger, the foreign key and the bounds
 *            that make it a chat's. (Words in two languages and their index are what the row is, and cost more than all else of an
 *            insert: a table without them holds another row, and an empty one has other indexes.) Alternating turns. Goal: 0.5.
 *   page     50 messages of the longest chat, and 50 chats of somebody with 100, at any place, against the same rows read by their index
 *            without asking whose they are. Goal: p99 at most twice the bare read's.
 *   search   words of three sorts (in every message, in one of a hundred, in one) in one's own chats. Goal: p99 at most 20 times
 *            that of the bare read of a page of one of these chats.
 *   answer   a native call that is a question in a chat against the same call without one, with the direct transport and an
 *            upstream that answers at once. Goal: at most 5 ms more at the median.
 */
import postgres from "postgres";
import { answers } from "./chats/answers.ts";
import { withFilledCluster } from "./filled_cluster.ts";
import { median, percentile } from "./statistics.ts";

const GOALS = {
  append_ratio: 0.5,
  page_p99_ratio_at_most: 2,
  list_p99_ratio_at_most: 2,
  search_p99_ratio_at_most: 20,
  answer_ms_more: 5,
};

const quick = Deno.args.includes("--quick");
const json = Deno.args.includes("--json");
/** A part alone, for somebody who works on it; the goals are then not all met. */
const only = Deno.args.find((arg) => arg.startsWith("--only="))?.slice("--only=".length) ?? null;
const unknown = Deno.args.find((arg) => !/^--(json|quick|only=(reading|append|answer))$/.test(arg));
if (unknown) {
  console.error(`Unknown argument ${unknown}: --json, --quick and --only=reading|append|answer are known.`);
  Deno.exit(2);
}
const say = (line: string) => console[json ? "error" : "log"](line);

const CHATS = quick ? 1_000 : 20_000;
const MESSAGES = quick ? 50_000 : 1_000_000;
/** Of these the longest chat has so many. */
const LONGEST = quick ? 5_000 : 50_000;
const CHATS_EACH = 100;
const CALLERS = 8;
const TURNS = quick ? 2 : 6;
const TURN_MS = quick ? 1_000 : 2_500;
const READS = quick ? 400 : 2_000;

const idOf = (kind: string, number: number) =>
  `${kind.repeat(8)}-0000-4000-8000-${number.toString(16).padStart(12, "0")}`;
const chatOf = (number: number) => idOf("c", number);
const ownerOf = (chat: number) => idOf("a", Math.floor(chat / CHATS_EACH));
const CONTENT =
  "The load-bearing wall on sheet four stands two metres from the axis, see the section. Несущая стена показана на листе.";

async function fill(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  say(`${MESSAGES} messages in ${CHATS} chats ...`);
  await sql.unsafe(`
    insert into public.chats (id, owner, title, created_at, updated_at)
    select ('cccccccc-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
      ('aaaaaaaa-0000-4000-8000-' || lpad(to_hex(n / ${CHATS_EACH}), 12, '0'))::uuid, 'chat ' || n,
      timestamptz '2026-01-01' + n * interval '1 minute', now()
    from generate_series(0, ${CHATS - 1}) n;
    alter table public.messages disable trigger user;
    insert into public.messages (chat_id, role, content, created_at)
    select ('cccccccc-0000-4000-8000-' || lpad(to_hex(case when n < ${LONGEST} then 0 else n % ${CHATS} end), 12, '0'))::uuid,
      case n % 2 when 0 then 'user' else 'assistant' end,
      '${CONTENT} ' || case when n % 100 = 0 then 'seldom ' else '' end || 'number' || n,
      timestamptz '2026-02-01' + n * interval '1 second'
    from generate_series(0, ${MESSAGES - 1}) n;
    alter table public.messages enable trigger user;
    create schema bench;
    create table bench.messages (like public.messages including defaults including generated);
    insert into bench.messages (id, chat_id, role, content, created_at) select id, chat_id, role, content, created_at from public.messages;
    do $$
    declare
      v_index text;
    begin
      for v_index in select i.indexdef from pg_indexes i where i.schemaname = 'public' and i.tablename = 'messages' loop
        execute replace(v_index, ' ON public.messages ', ' ON bench.messages ');
      end loop;
    end;
    $$;
    alter table bench.messages enable row level security;
    create policy own on bench.messages for all to authenticated using (
      exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid()))
    ) with check (
      exists (select from public.chats c where c.id = messages.chat_id and c.owner = (select auth.uid()) and c.deleted_at is null)
    );
    grant usage on schema bench to authenticated;
    grant select, insert on bench.messages to authenticated;
  `).simple();
  await sql`vacuum analyze`;
  await sql.end();
}

/** Connections with the role of signed-in users, each with chats of their own. */
async function signedIn(url: string) {
  const as = new URL(url);
  as.username = "authenticator";
  return await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
    const sql = postgres(as.href, { max: 1, onnotice: () => {} });
    await sql`set role authenticated`;
    const claims = JSON.stringify({ sub: ownerOf(caller * CHATS_EACH), role: "authenticated" });
    await sql`select set_config('request.jwt.claims', ${claims}, false)`;
    return { sql, chat: (number: number) => chatOf(caller * CHATS_EACH + number % CHATS_EACH) };
  }));
}

async function append(url: string) {
  const callers = await signedIn(url);
  async function turn(add: (sql: postgres.Sql, chat: string) => Promise<unknown>): Promise<number> {
    const began = performance.now();
    let done = 0;
    await Promise.all(callers.map(async ({ sql, chat }) => {
      for (let number = 0; performance.now() < began + TURN_MS; number++) {
        await add(sql, chat(number));
        done++;
      }
    }));
    return done / ((performance.now() - began) / 1_000);
  }
  const ours: number[] = [];
  const bare: number[] = [];
  for (let n = 0; n < TURNS; n++) {
    bare.push(
      await turn((sql, chat) =>
        sql`insert into bench.messages (chat_id, content) values (${chat}, ${CONTENT})`
      ),
    );
    ours.push(
      await turn((sql, chat) =>
        sql`insert into public.messages (chat_id, content) values (${chat}, ${CONTENT})`
      ),
    );
  }
  await Promise.all(callers.map(({ sql }) => sql.end()));
  return {
    messages_per_second: Math.round(median(ours)),
    bare_per_second: Math.round(median(bare)),
    ratio: round(median(ours) / median(bare)),
  };
}

/** Both in turns, one after another: the milliseconds of each. */
async function compared(ours: (n: number) => Promise<unknown>, bare: (n: number) => Promise<unknown>) {
  const took = { ours: [] as number[], bare: [] as number[] };
  for (let n = -50; n < READS; n++) {
    for (const [who, read] of [["bare", bare], ["ours", ours]] as const) {
      const since = performance.now();
      await read(n + 50);
      if (n >= 0) took[who].push(performance.now() - since);
    }
  }
  return took;
}

function figuresOf({ ours, bare }: { ours: number[]; bare: number[] }) {
  return {
    p50_ms: round(median(ours)),
    p99_ms: round(percentile(ours, 0.99)),
    bare_p50_ms: round(median(bare)),
    bare_p99_ms: round(percentile(bare, 0.99)),
    p99_ratio: round(percentile(ours, 0.99) / percentile(bare, 0.99)),
  };
}

async function reading(url: string) {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const actor = (chat: number) => sql.json({ kind: "user", user_id: ownerOf(chat) });
    const at = (n: number) => new Date(Date.UTC(2026, 1, 1) + ((n * 97) % LONGEST) * 1_000).toISOString();
    const first = "00000000-0000-0000-0000-000000000000";
    const bareMessages = (n: number) =>
      sql`
        select * from public.messages where chat_id = ${chatOf(0)} and (created_at, id) > (${at(n)}, ${first})
        order by created_at, id limit 50`;
    const page = await compared(
      (n) =>
        sql`select public.eve_messages(${actor(0)}, ${chatOf(0)}, ${
          sql.json({ created_at: at(n), id: first })
        }, false, 50)`,
      bareMessages,
    );
    const owner = (n: number) => n % (CHATS / CHATS_EACH);
    const list = await compared(
      (n) => sql`select public.eve_chats(${actor(owner(n) * CHATS_EACH)}, at_most => 50)`,
      (n) =>
        sql`
          select * from public.chats where owner = ${ownerOf(owner(n) * CHATS_EACH)}
          order by created_at desc, id desc limit 50`,
    );
    const words = ["wall", "стена", "seldom", `number${Math.floor(MESSAGES / 2)}`, "sheet seldom"];
    const search = await compared(
      (n) => sql`select public.eve_chat_search(${actor((n * 7) % CHATS)}, ${words[n % words.length]!})`,
      // Of the same person, whose messages are as far from one another, and as cold.
      (n) =>
        sql`
          select * from public.messages where chat_id = ${
          chatOf((n * 7) % CHATS)
        } order by created_at, id limit 50`,
    );
    return { page: figuresOf(page), list: figuresOf(list), search: figuresOf(search) };
  } finally {
    await sql.end();
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

/** What is not asked for is left out. */
const part = async <Figures>(name: string, measure: () => Promise<Figures>): Promise<Figures | null> => {
  if (only !== null && only !== name) return null;
  const figures = await measure();
  say(`${name}: ${JSON.stringify(figures)}`);
  return figures;
};
const database = only === "answer" ? null : await withFilledCluster(fill, async (url) => ({
  reading: await part("reading", () => reading(url)),
  append: await part("append", () => append(url)),
}));
const { page, list, search } = database?.reading ?? {};
const added = database?.append;
const answer = await part("answer", () => answers(quick));
const met = {
  append_ratio: added != null && added.ratio >= GOALS.append_ratio,
  page_p99_ratio: page !== undefined && page.p99_ratio <= GOALS.page_p99_ratio_at_most,
  list_p99_ratio: list !== undefined && list.p99_ratio <= GOALS.list_p99_ratio_at_most,
  search_p99_ratio: search !== undefined && search.p99_ratio <= GOALS.search_p99_ratio_at_most,
  answer_ms_more: answer !== null && answer.ms_more <= GOALS.answer_ms_more,
};
const said = {
  bench: "chats",
  machine: { cores: navigator.hardwareConcurrency, deno: Deno.version.deno, postgres: 17 },
  figures: { chats: CHATS, messages: MESSAGES, page, list, search, append: added, answer },
  ratios: {
    append: added?.ratio,
    page_p99: page?.p99_ratio,
    list_p99: list?.p99_ratio,
    search_p99: search?.p99_ratio,
  },
  goals: GOALS,
  met_by_goal: met,
  met: Object.values(met).every((one) => one),
};
console.log(json ? JSON.stringify(said) : JSON.stringify(said, null, 2));
Deno.exit(said.met ? 0 : 1);
