import type { AlertMessage } from "../../database/maintenance/alerts.ts";
import { redact } from "../../providers/redact.ts";
import { type AlertChannel, cut, type Delivery, post } from "./alert_channel.ts";

export interface TelegramOptions {
  /** From @BotFather. It is part of the address, so no address is ever written down. */
  token: string;
  /** A number, or `@channelname`. */
  chatId: string;
  /** `https://api.telegram.org`, or a Bot API server of one's own. */
  baseUrl: string;
  /** The name of this gateway: several may share a chat. */
  gateway: string;
}

/** A message has at most 4,096 characters after its entities are parsed; what is around these parts is short. */
const MAX_MESSAGE_CHARS = 2_500;
const MAX_LINE_CHARS = 500;

const SIGNS = { critical: "🔴", warning: "🟠", info: "🔵" } as const;

/**
 * Sends alerts with Telegram's Bot API.
 * https://core.telegram.org/bots/api#sendmessage
 */
export function telegramChannel({ token, chatId, baseUrl, gateway }: TelegramOptions): AlertChannel {
  const url = `${baseUrl}/bot${token}/sendMessage`;
  return {
    name: "telegram",
    async send(message, call) {
      const body = JSON.stringify({
        chat_id: chatId,
        text: htmlOf(message, gateway),
        parse_mode: "HTML",
        link_preview_options: { is_disabled: true },
        // Messages that something is over, or merely good to know, are sent without a sound.
        disable_notification: message.event === "closed" || message.severity === "info",
      });
      const answer = await post(url, body, {}, call);
      return "ok" in answer ? answer : deliveryOf(answer, token);
    },
  };
}

function deliveryOf({ status, text }: { status: number; text: string }, token: string): Delivery {
  const { ok, description, parameters } = saidBy(text);
  if (status === 200 && ok) return { ok: true };
  const moved = typeof parameters?.migrate_to_chat_id === "number"
    ? ` (the chat is now ${parameters.migrate_to_chat_id}: set EVE_TELEGRAM_CHAT_ID to it)`
    : "";
  const retryAfter = parameters?.retry_after;
  return {
    ok: false,
    error: cut(redact(`status ${status}: ${description}`, token), 300) + moved,
    retryAfterMs: typeof retryAfter === "number" && retryAfter >= 0 ? retryAfter * 1000 : null,
    // 400 is about this message or its chat; everything else is about the bot or its server.
    wholeChannel: status !== 400,
  };
}

function saidBy(text: string) {
  try {
    const said = JSON.parse(text);
    return {
      ok: said?.ok === true,
      description: typeof said?.description === "string" ? said.description : "no reason given",
      parameters: typeof said?.parameters === "object" ? said.parameters as Record<string, unknown> : null,
    };
  } catch {
    return { ok: false, description: "an answer that is no JSON", parameters: null };
  }
}

/** The message in Telegram's HTML: cut before it is escaped, so that no entity is cut in two. */
export function htmlOf(message: AlertMessage, gateway: string): string {
  const { event, severity, title, advice, openedAt, closedAt } = message;
  const head = event === "closed"
    ? `✅ <b>Over: ${line(title)}</b>`
    : `${SIGNS[severity]} <b>${line(title)}</b>`;
  const since = `${minuteOf(openedAt)} UTC`;
  return [
    head,
    escapeHtml(cut(message.message, MAX_MESSAGE_CHARS)),
    event === "opened" && advice !== null ? `<i>${line(advice)}</i>` : null,
    event === "closed" && closedAt !== null
      ? `From ${since} to ${minuteOf(closedAt)} UTC · ${line(gateway)}`
      : `Since ${since} · ${line(gateway)}`,
  ].filter((part) => part !== null).join("\n");
}

const line = (text: string) => escapeHtml(cut(text, MAX_LINE_CHARS));

/** The three that Telegram wants escaped. */
function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** `2026-11-21 08:05`, whatever offset the database writes. */
function minuteOf(instant: string): string {
  const ms = Date.parse(instant);
  return Number.isNaN(ms) ? instant : new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
