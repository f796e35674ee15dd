import * as z from "zod";
import { callUnlessRefused } from "../refused.ts";
import { storable } from "../storable.ts";
import type { Transport } from "../transport/transport.ts";

/** An update as Telegram sends it, and the trace that begins with it. */
export interface UpdateToTake {
  update: Record<string, unknown>;
  /** 32 hexadecimal digits. */
  trace_id: string;
}

const taken = z.object({ taken: z.number(), known: z.number(), wake: z.boolean() });

const begun = z.discriminatedUnion("status", [
  z.object({
    status: z.literal("begun"),
    kind: z.string(),
    update: z.record(z.string(), z.unknown()),
    trace_id: z.string(),
    tenant_id: z.string(),
    /** Which files are fetched: eve.telegram_bots. */
    wanted: z.array(z.string()),
    /** Hashes of files that are stored already, by file_unique_id. */
    files: z.record(z.string(), z.string()),
  }),
  z.object({ status: z.literal("ended") }),
]);
export type BegunUpdate = z.output<typeof begun>;

const applied = z.object({
  status: z.enum(["applied", "superseded", "deleted", "ignored", "ended"]),
  post_id: z.string().optional(),
  created: z.boolean().optional(),
});
export type AppliedUpdate = z.output<typeof applied>;

/** A row of eve.telegram_bots. */
export const telegramBot = z.object({
  bot_id: z.number(),
  username: z.string().nullable(),
  tenant_id: z.string(),
  /** Null: all. */
  chats: z.array(z.string()).nullable(),
  wanted: z.array(z.string()),
  is_connected: z.boolean(),
  connected_at: z.string(),
  updated_at: z.string(),
});

export const telegramStatus = z.object({
  bot: telegramBot.nullable(),
  waiting: z.number(),
  /** Of those that wait: their jobs ended in vain. */
  failed: z.number(),
  oldest_waiting_at: z.string().nullable(),
  last_received_at: z.string().nullable(),
  failures: z.array(z.object({
    update_id: z.number(),
    kind: z.string(),
    chat: z.string().nullable(),
    received_at: z.string(),
    code: z.string(),
    message: z.string().nullable(),
  })),
  ignored: z.array(z.object({
    reason: z.string().nullable(),
    chat: z.string().nullable(),
    chat_name: z.string().nullable(),
    updates: z.number(),
    last_received_at: z.string(),
  })),
});

export interface BotToConnect {
  botId: number;
  username: string | null;
  tenantId: string | null;
  /** Numbers and @names; null: as it is, and none for a new bot. */
  chats: string[] | "all" | null;
  wanted: string[] | null;
}

export interface UpdateJob {
  jobId: string;
  botId: number;
  updateId: number;
}

/** Updates of Telegram, as the function that takes them in and the jobs that do them see them. */
export interface TelegramRows {
  /**
   * All of them or none; what is there already is as good as new.
   * @param updates 1 to 100
   * @throws GatewayError `telegram_not_set_up`, `jobs_full`
   */
  take(botId: number, updates: UpdateToTake[]): Promise<z.output<typeof taken>>;
  begin(job: UpdateJob): Promise<BegunUpdate>;
  /**
   * @param said null: there is nothing to keep
   * @param ends false: its file could not be fetched yet, and the update waits
   * @throws GatewayError `jobs_full`, `object_not_found`
   */
  apply(
    job: UpdateJob,
    said: Record<string, unknown> | null,
    options: { reason: string | null; ends: boolean },
  ): Promise<AppliedUpdate>;
  /** @throws GatewayError `unknown_tenant`, `invalid_argument` */
  connect(bot: BotToConnect): Promise<z.output<typeof telegramBot>>;
  disconnect(botId: number): Promise<void>;
  status(botId: number): Promise<z.output<typeof telegramStatus>>;
  /** @param updateIds null: all whose jobs ended in vain, 1,000 at most */
  replay(
    botId: number,
    updateIds: number[] | null,
  ): Promise<{ replayed: number; left: number; wake: boolean }>;
}

const TIMEOUT_MS = 15_000;
/** As JSON writes what the database's texts cannot hold: U+0000, and halves of characters. */
const UNSTORABLE = /\\u(?:0000|d[89a-f][0-9a-f]{2})/i;

export function createTelegramRows(transport: Transport, timeoutMs = TIMEOUT_MS): TelegramRows {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    callUnlessRefused(transport, name, args, shape, timeoutMs);
  const named = ({ jobId, botId, updateId }: UpdateJob) => ({
    job_id: jobId,
    bot_id: botId,
    update_id: updateId,
  });
  return {
    take: (botId, updates) =>
      ask("eve_telegram_take", {
        bot_id: botId,
        updates: UNSTORABLE.test(JSON.stringify(updates)) ? storable(updates) : updates,
      }, taken),
    begin: (job) => ask("eve_telegram_begin", named(job), begun),
    apply: (job, said, { reason, ends }) =>
      ask("eve_telegram_apply", { ...named(job), said: storable(said), reason, ends }, applied),
    async connect({ botId, username, tenantId, chats, wanted }) {
      const { bot } = await ask("eve_telegram_connect", {
        bot_id: botId,
        username,
        tenant_id: tenantId,
        chats: chats === "all" ? { all: true } : chats && { list: chats },
        wanted,
      }, z.object({ bot: telegramBot }));
      return bot;
    },
    async disconnect(botId) {
      await ask("eve_telegram_disconnect", { bot_id: botId }, z.object({ status: z.string() }));
    },
    status: (botId) => ask("eve_telegram_status", { bot_id: botId }, telegramStatus),
    replay: (botId, updateIds) =>
      ask(
        "eve_telegram_replay",
        { bot_id: botId, update_ids: updateIds },
        z.object({ replayed: z.number(), left: z.number(), wake: z.boolean() }),
      ),
  };
}
