/** The local stack's own bot: nobody needs an account at Telegram to see a message become a post. */
import postgres from "postgres";
import { webhookSecret } from "../../shared/telegram/settings.ts";
import { UPDATE_KINDS } from "../../shared/telegram/updates.ts";
import { controlled } from "./control.ts";
import { type TelegramEmulator, telegramEmulator } from "./emulator.ts";

/** Opens nothing but the emulator. */
const DEMO_TOKEN = "1000001:local-demo-bot";
const DEMO_BOT = { id: 1_000_001, username: "EveLocalBot" };
/** Below the stack's address. */
export const EMULATOR_PATH = "/emulator/telegram";

export interface LocalBot {
  /** For the functions. */
  env: Record<string, string>;
  emulator: TelegramEmulator;
  /** Answers what is below `EMULATOR_PATH`. */
  handle(request: Request): Promise<Response>;
  /** Sets the bot up in the database; its updates go to the function from then on. */
  connect(databaseUrl: string): Promise<void>;
  stop(): void;
}

/** Null: the user has a bot of their own. */
export function localBot(url: string, env: Readonly<Record<string, string>>): LocalBot | null {
  if (env.EVE_TELEGRAM_BOT_TOKEN || env.EVE_TELEGRAM_INTAKE_TOKEN) return null;
  const emulator = telegramEmulator({
    bots: { [DEMO_TOKEN]: DEMO_BOT.username },
    fetch,
    now: Date.now,
    sleep,
  });
  const control = controlled(emulator);
  return {
    env: { EVE_TELEGRAM_INTAKE_TOKEN: DEMO_TOKEN, EVE_TELEGRAM_API_URL: `${url}${EMULATOR_PATH}` },
    emulator,
    handle: async (request) => await control(request) ?? await emulator.handler(request),
    async connect(databaseUrl) {
      const last = await connectedInDatabase(databaseUrl);
      if (last === null) return;
      // The database remembers: what comes under a number that it knows has been there.
      emulator.countFrom(last);
      emulator.deliveries.open(DEMO_TOKEN, {
        url: `${url}/functions/v1/telegram`,
        secret: await webhookSecret(DEMO_TOKEN),
        allowedUpdates: [...UPDATE_KINDS],
        maxConnections: 40,
      });
    },
    stop: () => emulator.stop(),
  };
}

/** What somebody has set for it stays. The last numbers that it had; null: these migrations have no such thing. */
async function connectedInDatabase(databaseUrl: string): Promise<{ update: number; message: number } | null> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const [found] = await sql`select to_regclass('eve.telegram_bots') is not null as there`;
    if (!found?.there) return null;
    await sql`
      select public.eve_telegram_connect(
        ${DEMO_BOT.id}, ${DEMO_BOT.username},
        chats => case when exists (select from eve.telegram_bots where bot_id = ${DEMO_BOT.id}) then null else '{"all": true}'::jsonb end
      )`;
    const [last] = await sql<{ update: number; message: number }[]>`
      select
        coalesce((select max(u.update_id) from eve.telegram_updates u where u.bot_id = ${DEMO_BOT.id}), 0)::float8 as update,
        coalesce((select max(m.message_id) from eve.telegram_messages m where m.bot_id = ${DEMO_BOT.id}), 0)::float8 as message`;
    return last!;
  } finally {
    await sql.end();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
