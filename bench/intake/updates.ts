/**
 * Updates of Telegram taken in through the function, each written down with its job, against bare inserts of the same two rows through the
 * same function shell: 40 at once (as many as Telegram sends), alternating turns, in an empty database and with 1,000,000 posts and their
 * updates there. Goal of both: 0.5.
 */
import postgres from "postgres";
import { createTelegramRows } from "../../shared/database/posts/telegram.ts";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { createFunction } from "../../shared/http/function_shell.ts";
import { jsonResponse } from "../../shared/http/json_response.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { equalInConstantTime } from "../../shared/runtime/constant_time.ts";
import { sha256Of } from "../../shared/runtime/sha256.ts";
import { createTelegramEndpoint } from "../../shared/telegram/telegram_endpoint.ts";
import { withFilledCluster } from "../filled_cluster.ts";
import type { Part } from "./part.ts";
import { median } from "../statistics.ts";

const BOT = 4242;
const SECRET = "a".repeat(64);
const AT_ONCE = 40;
const TURN_MS = 3_000;
const CHAT = {
  id: -1001,
  type: "channel",
  title: "City events",
  username: "city_events",
};

export async function updates(posts = 1_000_000, turns = 5): Promise<Part> {
  const among = (posts: number) =>
    withFilledCluster((url) => fill(url, posts), (url) => measured(url, posts, turns));
  const [empty, full] = [await among(0), await among(posts)];
  return {
    figures: { empty: empty.figures, full: full.figures },
    ratios: { ...empty.ratios, ...full.ratios },
    goals: { ...empty.goals, ...full.goals },
  };
}

async function fill(url: string, posts: number): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  await sql.unsafe(`
    select public.eve_telegram_connect(${BOT}, 'bench', chats => '{"all": true}');
    insert into public.posts (source, external_id, text, published_at, trace_id)
    select 'telegram:city_events', n::text, 'Concert tonight number ' || n, now(), md5(n::text) from generate_series(1, ${posts}) n;
    insert into eve.telegram_updates (bot_id, update_id, kind, chat, state, trace_id, received_at, ended_at)
    select ${BOT}, n, 'channel_post', '-1001', 'done', md5(n::text), now(), now() from generate_series(1, ${posts}) n;
    insert into eve.telegram_messages (bot_id, chat, message_id, version, update_id, post_id, published_at, text, updated_at)
    select ${BOT}, '-1001', p.external_id::bigint, 0, p.external_id::bigint, p.id, now(), p.text, now() from public.posts p;
    insert into eve.job_queues (kind, class, owner_id, topic) values ('telegram', 'batch', '00000000-0000-0000-0000-000000000000', 'bench');
    update eve.settings set value = 100000000 where name in ('jobs_queued_max', 'jobs_queued_max_bytes');
    create function public.bench_insert(update_id bigint, body jsonb, trace_id text) returns jsonb language sql set search_path = '' as $$
      with noted as (
        insert into eve.telegram_updates (bot_id, update_id, kind, chat, body, state, job_id, trace_id, received_at)
        values (${BOT}, bench_insert.update_id, 'channel_post', '-1001', bench_insert.body, 'waiting', gen_random_uuid(),
          bench_insert.trace_id, now())
        returning job_id
      )
      insert into eve.jobs (id, kind, queue_id, class, request_id, body, body_bytes, state, run_at, expires_at, submitted_at)
      select n.job_id, 'telegram', (select q.id from eve.job_queues q where q.topic = 'bench'), 'batch', n.job_id::text,
        jsonb_build_object('bot_id', ${BOT}, 'update_id', bench_insert.update_id, 'trace_id', bench_insert.trace_id), 100, 'queued', now(),
        now() + interval '7 days', now()
      from noted n;
      select '{}'::jsonb;
    $$;
  `).simple();
  await sql`vacuum analyze`;
  await sql.end();
}

async function measured(
  url: string,
  posts: number,
  turns: number,
): Promise<Part> {
  const transport = directTransport({ url, connections: 4, pooler: false });
  const shell = { clock, newId: () => crypto.randomUUID(), log: () => {} };
  const ours = createTelegramEndpoint({
    ...shell,
    functionName: "telegram",
    open: () => ({
      bot: { id: BOT, secret: SECRET, api: null as never },
      rows: createTelegramRows(transport.call),
      webhookUrl: "",
      authorise: () => Promise.resolve(),
      counting: (_: Request, verify: () => Promise<void>) => verify(),
      wake: () => Promise.resolve(),
      background: () => {},
    }),
  });
  const bare = createFunction({
    ...shell,
    functionName: "telegram",
    open: () => ({}),
  }, {
    maxBodyBytes: 1024 * 1024,
    cors: null,
    routes(app) {
      app.post("/", async ({ env: received }) => {
        const given = received.request.headers.get("x-telegram-bot-api-secret-token") ?? "";
        if (
          !equalInConstantTime(await sha256Of(given), await sha256Of(SECRET))
        ) throw new Error("a stranger");
        const work = received.beginWork("telegram");
        const body = await received.readJson(work).finally(() => work.end()) as { update_id: number };
        await transport.call("bench_insert", {
          update_id: body.update_id,
          body,
          trace_id: received.traceId,
        }, AbortSignal.timeout(60_000));
        return jsonResponse(200, { status: "taken" }, received.requestId);
      });
    },
  });
  let number = 2_000_000_000;
  const request = () =>
    new Request("http://gateway/telegram", {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-telegram-bot-api-secret-token": SECRET,
      },
      body: JSON.stringify({
        update_id: ++number,
        channel_post: {
          message_id: number,
          date: 1_790_000_000,
          chat: CHAT,
          text: `Concert tonight number ${number}: https://example.com/tickets`,
          entities: [{ type: "url", offset: 36, length: 27 }],
        },
      }),
    });
  async function turn(
    handle: (request: Request) => Promise<Response>,
    ms = TURN_MS,
  ): Promise<number> {
    const began = performance.now();
    let done = 0;
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (performance.now() < began + ms) {
        const response = await handle(request());
        if (!response.ok) {
          throw new Error(`${response.status} ${await response.text()}`);
        }
        done++;
      }
    }));
    return done / ((performance.now() - began) / 1_000);
  }
  const took = { ours: [] as number[], bare: [] as number[] };
  for (const handle of [bare, ours]) await turn(handle, 500);
  for (let n = 0; n < turns; n++) {
    took.bare.push(await turn(bare));
    took.ours.push(await turn(ours));
  }
  await transport.close();
  const ratio = posts === 0 ? "updates_to_inserts" : "updates_to_inserts_among_posts";
  const [taken, inserted] = [median(took.ours), median(took.bare)];
  return {
    figures: {
      posts,
      at_once: AT_ONCE,
      updates_per_second: Math.round(taken),
      bare_inserts_per_second: Math.round(inserted),
    },
    ratios: { [ratio]: Math.round(taken / inserted * 100) / 100 },
    goals: { [ratio]: { least: 0.5 } },
  };
}
