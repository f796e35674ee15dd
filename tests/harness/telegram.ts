/** Telegram in this process, over a database of a test: the emulator, the function that takes updates, and the worker that does them. */
import { type TelegramEmulator, telegramEmulator } from "../../local/telegram/emulator.ts";
import { createTelegramRows, type TelegramRows } from "../../shared/database/posts/telegram.ts";
import { createJobLeases } from "../../shared/database/jobs/job_leases.ts";
import { telegramRunner } from "../../shared/jobs/telegram_runner.ts";
import { runWorker } from "../../shared/jobs/worker.ts";
import { requireSecretKey } from "../../shared/identity/require_secret_key.ts";
import { systemClock as clock } from "../../shared/runtime/clock.ts";
import { createBotApi } from "../../shared/telegram/bot_api.ts";
import { webhookSecret } from "../../shared/telegram/settings.ts";
import { createTelegramEndpoint } from "../../shared/telegram/telegram_endpoint.ts";
import type { TestDatabase } from "./database.ts";
import { apiOver, type ApiUnderTest, SECRET } from "./media_api.ts";

export const BOT_TOKEN = "4242:AAdb-secret_of-the-test-bot";
const TELEGRAM = "http://telegram.test";
const WEBHOOK = "http://127.0.0.1/functions/v1/telegram";

export interface TelegramUnderTest {
  emulator: TelegramEmulator;
  rows: TelegramRows;
  api: ApiUnderTest;
  /** Lines of the log, as JSON. */
  logged: string[];
  /** A request to the function; `path` as `/connect`. */
  call(method: string, path: string, init?: RequestInit & { as?: string | null }): Promise<Response>;
  /** A request of Telegram's. */
  deliver(body: string, secret?: string | null): Promise<Response>;
  connect(body?: Record<string, unknown>): Promise<void>;
  /** Waits until the emulator has nothing to send, then runs jobs until none is due, retries at once. */
  work(): Promise<void>;
  close(): Promise<void>;
}

/**
 * @param through what is between Telegram and the function: it may lose a request or its answer
 */
export function telegramOver(
  database: TestDatabase,
  { through = (send) => send(), database: lossy = (ask) => ask(), retryMs = 1 }: {
    through?: (send: () => Promise<Response>) => Promise<Response>;
    /** The same between the function, or a job, and the database. */
    database?: <Answer>(ask: () => Promise<Answer>) => Promise<Answer>;
    retryMs?: number;
  } = {},
): TelegramUnderTest {
  const api = apiOver(database);
  const logged: string[] = [];
  const log = (level: string, event: string, facts?: unknown) =>
    void logged.push(`${level} ${event} ${JSON.stringify(facts)}`);
  const emulator = telegramEmulator({
    bots: { [BOT_TOKEN]: "EveTestBot" },
    fetch: (input, init) => through(() => handle(new Request(input, init))),
    now: Date.now,
    sleep: (ms, signal) => clock.sleep(ms, signal),
    retryMs,
  });
  const botApi = createBotApi({
    token: BOT_TOKEN,
    botId: 4242,
    baseUrl: TELEGRAM,
    fetch: (input, init) => emulator.handler(new Request(input, init)),
    clock,
  });
  const rows = createTelegramRows((...asked) => lossy(() => api.transport.call(...asked)));
  const project = { url: "http://127.0.0.1", secretKeys: { default: SECRET }, publishableKeys: {} };
  const handle = createTelegramEndpoint({
    functionName: "telegram",
    open: async () => ({
      bot: { id: 4242, secret: await webhookSecret(BOT_TOKEN), api: botApi },
      rows,
      webhookUrl: WEBHOOK,
      authorise: (request: Request) => requireSecretKey(request, project),
      counting: (_: Request, verify: () => Promise<void>) => verify(),
      wake: () => Promise.resolve(),
      background: (work: Promise<unknown>) => void work,
    }),
    clock,
    newId: () => crypto.randomUUID(),
    log,
  });
  const runner = telegramRunner({
    rows,
    bot: () => botApi,
    media: () => Promise.resolve(api.media),
    log,
  });

  async function runDue(): Promise<number> {
    const due = await database.sql`
      update eve.jobs set run_at = now() - interval '1 second' where state = 'queued' and kind = 'telegram' returning id`;
    if (due.length === 0) return 0;
    await runWorker(
      {
        leases: createJobLeases(api.transport.call),
        runners: { telegram: runner },
        clock,
        newId: () => crypto.randomUUID(),
        log,
      },
      { place: "outside", budgetMs: 600_000, concurrency: 4, maxJobs: due.length },
    );
    return due.length;
  }

  const call: TelegramUnderTest["call"] = (method, path, { as = SECRET, ...init } = {}) => {
    const headers = new Headers(init.headers);
    if (as !== null) headers.set("apikey", as);
    return handle(new Request(`${WEBHOOK}${path}`, { ...init, method, headers }));
  };
  return {
    emulator,
    rows,
    api,
    logged,
    call,
    async deliver(body, secret) {
      const given = secret === undefined ? await webhookSecret(BOT_TOKEN) : secret;
      return await handle(
        new Request(WEBHOOK, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            ...(given !== null && { "x-telegram-bot-api-secret-token": given }),
          },
          body,
        }),
      );
    },
    async connect(body = { chats: "all" }) {
      const response = await call("POST", "/connect", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      if (!response.ok) throw new Error(await response.text());
      await response.body?.cancel();
    },
    async work() {
      while (emulator.deliveries.pending(BOT_TOKEN) > 0) await clock.sleep(2);
      while (await runDue() > 0);
    },
    async close() {
      emulator.stop();
      await api.close();
    },
  };
}
