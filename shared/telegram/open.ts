import { GatewayError } from "../contract/gateway_error.ts";
import type { Clock } from "../runtime/clock.ts";
import type { ReadVariable } from "../runtime/settings.ts";
import { type BotApi, createBotApi } from "./bot_api.ts";
import { readTelegramSettings, type TelegramSettings, webhookSecret } from "./settings.ts";

/**
 * The bot of the environment; null: there is none.
 * @throws GatewayError `gateway_misconfigured`
 */
export async function openBot(
  read: ReadVariable,
  outside: { fetch: typeof fetch; clock: Clock },
): Promise<{ id: number; secret: string; api: BotApi } | null> {
  const settings = settingsOrNull(read);
  if (settings === null) return null;
  return {
    id: settings.botId,
    secret: await webhookSecret(settings.token),
    api: createBotApi({ ...settings, ...outside }),
  };
}

/** For the jobs of a bot's updates. @throws GatewayError `telegram_not_set_up`: it is another bot's, or there is none */
export function botById(
  read: ReadVariable,
  outside: { fetch: typeof fetch; clock: Clock },
): (botId: number) => BotApi {
  let opened: { botId: number; api: BotApi } | null = null;
  return (botId) => {
    if (opened === null) {
      const settings = readTelegramSettings(read);
      opened = { botId: settings.botId, api: createBotApi({ ...settings, ...outside }) };
    }
    if (opened.botId === botId) return opened.api;
    throw new GatewayError("telegram_not_set_up", {
      message: "The token of this update's bot is not set any more: its files cannot be fetched.",
    });
  };
}

function settingsOrNull(read: ReadVariable): TelegramSettings | null {
  try {
    return readTelegramSettings(read);
  } catch (thrown) {
    if (thrown instanceof GatewayError && thrown.code === "telegram_not_set_up") return null;
    throw thrown;
  }
}
