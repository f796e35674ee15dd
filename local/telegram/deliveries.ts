/** Updates on their way to webhooks: kept until they are taken, and sent again after a pause that grows. */
import { type JournalEntry, nextFault, type TelegramFault } from "./faults.ts";

export interface DeliveryOptions {
  fetch: typeof fetch;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Rejects when the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** The pause before an update is sent again: the first one; each further one is twice as long, a minute at most. */
  retryMs?: number;
}

export interface Webhook {
  url: string;
  secret: string | undefined;
  /** Null: all kinds. */
  allowedUpdates: string[] | null;
  maxConnections: number;
}

type Update = { update_id: number } & Record<string, unknown>;

export interface Deliveries {
  add(token: string, update: Update): void;
  /** What is kept is sent from now on. */
  open(token: string, webhook: Webhook): void;
  /** Nothing is sent any more. */
  forget(token: string, dropPending: boolean): void;
  /** As getWebhookInfo says it. */
  info(token: string): Record<string, unknown>;
  /** How many of a bot's updates have not been taken. */
  pending(token: string): number;
  /** Everything that is kept is tried now, whatever its pause. */
  hurry(): void;
  stop(): void;
}

interface Bot {
  webhook: Webhook | null;
  pending: Map<number, Update>;
  underWay: number;
  waiting: (() => void)[];
  lastError: { at: number; message: string } | null;
  /** Ends pauses. */
  changed: AbortController;
}

const USUAL_RETRY_MS = 1_000;
const MOST_RETRY_MS = 60_000;
/** How long an answer may take. */
const ANSWER_MS = 60_000;

export function deliveries(
  { fetch, now, sleep, retryMs = USUAL_RETRY_MS, faults, note }: DeliveryOptions & {
    faults: TelegramFault[];
    note: (entry: Omit<JournalEntry, "at">) => void;
  },
): Deliveries {
  const bots = new Map<string, Bot>();
  let stopped = false;

  function botOf(token: string): Bot {
    let bot = bots.get(token);
    if (bot === undefined) {
      bot = {
        webhook: null,
        pending: new Map(),
        underWay: 0,
        waiting: [],
        lastError: null,
        changed: new AbortController(),
      };
      bots.set(token, bot);
    }
    return bot;
  }

  /** Whether it was taken; null: there is no webhook any more. */
  async function sendOnce(bot: Bot, update: Update): Promise<boolean | null> {
    const { webhook } = bot;
    if (webhook === null || stopped) return null;
    if (bot.underWay >= webhook.maxConnections) {
      await new Promise<void>((resolve) => bot.waiting.push(resolve));
      return await sendOnce(bot, update);
    }
    bot.underWay++;
    try {
      const response = await fetch(webhook.url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(webhook.secret !== undefined && { "x-telegram-bot-api-secret-token": webhook.secret }),
        },
        body: JSON.stringify(update),
        redirect: "manual",
        signal: AbortSignal.any([bot.changed.signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      await response.body?.cancel();
      note({ what: "deliver", status: response.status, body: update.update_id });
      if (nextFault(faults, "deliver") !== null) throw new Error("the answer is lost");
      if (response.ok) return true;
      bot.lastError = {
        at: now(),
        message: `Wrong response from the webhook: ${response.status} ${response.statusText}`.trim(),
      };
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.name : "";
      bot.lastError = {
        at: now(),
        message: why === "TimeoutError" ? "Read timeout expired" : "Connection refused",
      };
    } finally {
      bot.underWay--;
      bot.waiting.shift()?.();
    }
    return false;
  }

  async function deliver(bot: Bot, update: Update): Promise<void> {
    const { signal } = bot.changed;
    for (let pauseMs = retryMs;; pauseMs = Math.min(pauseMs * 2, MOST_RETRY_MS)) {
      if (signal.aborted || !bot.pending.has(update.update_id)) return;
      const taken = await sendOnce(bot, update);
      if (signal.aborted) return;
      if (taken === null) return;
      if (taken) {
        bot.pending.delete(update.update_id);
        return;
      }
      await sleep(pauseMs, signal).catch(() => {});
    }
  }

  function sendAll(bot: Bot): void {
    if (bot.webhook === null || stopped) return;
    for (const update of bot.pending.values()) void deliver(bot, update);
  }

  /** Ends what is under way; anyone who begins again takes it over. */
  function renew(bot: Bot): void {
    bot.changed.abort();
    bot.changed = new AbortController();
    for (const go of bot.waiting.splice(0)) go();
  }

  return {
    add(token, update) {
      const bot = botOf(token);
      const kinds = bot.webhook?.allowedUpdates ?? null;
      if (kinds !== null && kinds.length > 0 && !kinds.some((kind) => kind in update)) return;
      bot.pending.set(update.update_id, update);
      if (bot.webhook !== null && !stopped) void deliver(bot, update);
    },
    open(token, webhook) {
      const bot = botOf(token);
      bot.webhook = webhook;
      bot.lastError = null;
      renew(bot);
      sendAll(bot);
    },
    forget(token, dropPending) {
      const bot = botOf(token);
      bot.webhook = null;
      renew(bot);
      if (dropPending) bot.pending.clear();
    },
    info(token) {
      const { webhook, pending, lastError } = botOf(token);
      return {
        url: webhook?.url ?? "",
        has_custom_certificate: false,
        pending_update_count: pending.size,
        ...(lastError !== null && {
          last_error_date: Math.floor(lastError.at / 1000),
          last_error_message: lastError.message,
        }),
        ...(webhook !== null && { max_connections: webhook.maxConnections }),
        ...(webhook?.allowedUpdates && { allowed_updates: webhook.allowedUpdates }),
      };
    },
    pending: (token) => botOf(token).pending.size,
    hurry() {
      for (const bot of bots.values()) {
        renew(bot);
        sendAll(bot);
      }
    },
    stop() {
      stopped = true;
      for (const bot of bots.values()) renew(bot);
    },
  };
}
