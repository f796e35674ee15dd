import { bytesToHex } from "@noble/hashes/utils.js";
import { GatewayError } from "../contract/gateway_error.ts";
import type { ReadVariable } from "../runtime/settings.ts";

/** A bot of its own for intake; without it, the one that sends alerts. */
export const INTAKE_TOKEN_VARIABLE = "EVE_TELEGRAM_INTAKE_TOKEN";
const ALERT_TOKEN_VARIABLE = "EVE_TELEGRAM_BOT_TOKEN";
const API_URL_VARIABLE = "EVE_TELEGRAM_API_URL";
const TELEGRAM_API = "https://api.telegram.org";
/** From @BotFather: the bot's number, and a secret. */
const TOKEN = /^([1-9]\d{0,18}):[\w-]{1,200}$/;

/** The bot whose updates are taken in. */
export interface TelegramSettings {
  /** Part of addresses: no address is ever written down. */
  token: string;
  /** What stands before the token's colon. */
  botId: number;
  /** `https://api.telegram.org`, or a Bot API server of one's own; without a slash at its end. */
  baseUrl: string;
}

/** @throws GatewayError `telegram_not_set_up`, or `gateway_misconfigured`, which repeats nothing of the values */
export function readTelegramSettings(read: ReadVariable): TelegramSettings {
  const name = read(INTAKE_TOKEN_VARIABLE)?.trim() ? INTAKE_TOKEN_VARIABLE : ALERT_TOKEN_VARIABLE;
  const token = read(name)?.trim() ?? "";
  if (token === "") throw new GatewayError("telegram_not_set_up");
  const botId = Number(TOKEN.exec(token)?.[1]);
  if (!Number.isSafeInteger(botId)) throw misconfigured(`${name} is not of the form 123456:letters`);
  const baseUrl = (read(API_URL_VARIABLE)?.trim() || TELEGRAM_API).replace(/\/+$/, "");
  if (!URL.canParse(baseUrl) || !/^https?:$/.test(new URL(baseUrl).protocol)) {
    throw misconfigured(`${API_URL_VARIABLE} is no http or https address`);
  }
  return { token, botId, baseUrl };
}

function misconfigured(detail: string): GatewayError {
  return new GatewayError("gateway_misconfigured", { message: `${detail}.`, detail: `settings: ${detail}` });
}

/**
 * What Telegram sends as `X-Telegram-Bot-Api-Secret-Token` with each update: derived from the bot's token (HMAC-SHA256), so that nothing
 * is stored and a new token has a new one. 64 of the characters that Telegram allows (A-Z, a-z, 0-9, _ and -).
 * https://core.telegram.org/bots/api#setwebhook
 */
export async function webhookSecret(token: string): Promise<string> {
  const utf8 = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", utf8.encode(token), algorithm, false, ["sign"]);
  const signed = await crypto.subtle.sign("HMAC", key, utf8.encode("eve-gateway telegram webhook v1"));
  return bytesToHex(new Uint8Array(signed));
}
