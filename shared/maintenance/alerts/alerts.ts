import type { ReadVariable } from "../../runtime/settings.ts";
import { asGatewayError, GatewayError } from "../../contract/gateway_error.ts";
import {
  type AlertMessage,
  claimAlertMessage,
  evaluateAlerts,
  listNeededSecrets,
  noteAlertMessage,
} from "../../database/maintenance/alerts.ts";
import { countMetrics } from "../../database/maintenance/metrics.ts";
import type { AlertChannel, ChannelCall } from "./alert_channel.ts";
import type { Operation, OperationContext, OperationReport } from "../operation.ts";
import { poolSecret } from "../../stages/pool_secret.ts";
import { telegramChannel } from "./telegram_channel.ts";
import { webhookChannel } from "./webhook_channel.ts";

/** Longer than sending one message can take: until then no other run sends it. */
const CLAIM_MS = 60_000;
/** Time to send one message, the database included. With less left, the rest is for the next run. */
const TIME_FOR_ONE_MS = 13_000;
/** Telegram takes some thirty a second, a person fewer. What is more waits for the next run. */
const MAX_MESSAGES_A_RUN = 20;

const TELEGRAM_API = "https://api.telegram.org";

/** Where alerts are sent, as the environment says. */
export interface AlertChannels {
  channels: AlertChannel[];
  /** What is wrong with the settings, in words for the owner. */
  problems: string[];
}

/**
 * The channels that are set up. `EVE_TELEGRAM_BOT_TOKEN` and `EVE_TELEGRAM_CHAT_ID` (and `EVE_TELEGRAM_API_URL`, for a server of
 * one's own); `EVE_ALERT_WEBHOOK_URL` and `EVE_ALERT_WEBHOOK_SECRET`. None is needed.
 * @param gateway what this gateway is called in messages, such as its host
 */
export function alertChannels(
  read: ReadVariable,
  gateway: string,
  now: () => number = Date.now,
): AlertChannels {
  const channels: AlertChannel[] = [];
  const problems: string[] = [];
  const value = (name: string) => read(name)?.trim() || null;
  const address = (name: string, text: string) => {
    if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text.replace(/\/+$/, "");
    problems.push(`${name} is no http or https address`); // It is not repeated: it may hold a secret.
    return null;
  };

  const token = value("EVE_TELEGRAM_BOT_TOKEN");
  const chatId = value("EVE_TELEGRAM_CHAT_ID");
  if (token !== null && !/^\d+:[\w-]+$/.test(token)) {
    problems.push("EVE_TELEGRAM_BOT_TOKEN is not of the form 123456:letters");
  } else if (token !== null && chatId !== null) {
    const baseUrl = address("EVE_TELEGRAM_API_URL", value("EVE_TELEGRAM_API_URL") ?? TELEGRAM_API);
    if (baseUrl !== null) channels.push(telegramChannel({ token, chatId, baseUrl, gateway }));
  } else if (token !== null || chatId !== null) {
    const missing = token === null ? "EVE_TELEGRAM_BOT_TOKEN" : "EVE_TELEGRAM_CHAT_ID";
    problems.push(`${missing} is not set, and Telegram needs both the token and the chat`);
  }

  const webhook = value("EVE_ALERT_WEBHOOK_URL");
  if (webhook !== null) {
    const url = address("EVE_ALERT_WEBHOOK_URL", webhook);
    const secret = value("EVE_ALERT_WEBHOOK_SECRET");
    if (url !== null) channels.push(webhookChannel({ url: webhook, secret, gateway, now }));
  }
  return { channels, problems };
}

/** Tells every channel that it works, outside of the queue of messages; nothing is noted and nothing tried again. */
export async function testAlertChannels(
  { channels, problems }: AlertChannels,
  call: ChannelCall,
  now: string,
): Promise<{ channels: { name: string; error: string | null }[]; problems: string[] }> {
  const message: AlertMessage = {
    deliveryId: 0,
    event: "opened",
    attempt: 1,
    alertId: 0,
    kind: "test",
    title: "A test",
    advice: null,
    severity: "info",
    subject: "test",
    message: "An administrator asked for this message, to see that it arrives.",
    details: {},
    openedAt: now,
    closedAt: null,
  };
  return {
    problems,
    channels: await Promise.all(channels.map(async (channel) => {
      const delivery = await channel.send(message, call);
      return { name: channel.name, error: delivery.ok ? null : delivery.error };
    })),
  };
}

/**
 * The operation `alerts`: opens what is wrong, closes what is over, and sends both to the channels. Sending fails for
 * one message or one channel alone and is tried again by a later run; the run fails only where the database or the settings do.
 */
export function alertsOperation({ channels, problems }: AlertChannels): Operation {
  return {
    name: "alerts",
    async run(context) {
      const counted = await countedMetrics(context);
      const { status, opened, closed, open } = await evaluateAlerts(
        context.call,
        await missingSecrets(context),
      );
      const counts = await Promise.all(channels.map((channel) => sendAll(channel, context)));
      if (problems.length > 0) {
        throw new GatewayError("gateway_misconfigured", { detail: `alerts: ${problems.join("; ")}` });
      }
      const sent = counts.reduce((sum, { sent }) => sum + sent, 0);
      const report: OperationReport = {
        tables: [
          ...(opened + closed > 0 ? ["eve.alerts"] : []),
          ...(sent > 0 ? ["eve.alert_deliveries"] : []),
          ...(counted > 0 ? ["eve.metric_counters", "eve.metric_histograms"] : []),
        ],
        count: opened + closed + sent,
        details: {
          evaluation: status,
          opened,
          closed,
          open,
          channels: Object.fromEntries(channels.map(({ name }, place) => [name, counts[place]])),
        },
        more: counts.some(({ more }) => more),
      };
      return report;
    },
  };
}

/** Keeps the counters up to date where nobody scrapes, so that the first scrape has little to catch up. */
async function countedMetrics({ call, log }: OperationContext): Promise<number> {
  try {
    return await countMetrics(call);
  } catch (thrown) {
    const { code, detail } = asGatewayError(thrown);
    log("warn", "metrics_not_counted", { "error.type": code, detail });
    return 0;
  }
}

/** Active keys whose secret is not set here; the functions of a project share their secrets. */
async function missingSecrets({ call, ...sources }: OperationContext): Promise<string[]> {
  const missing: string[] = [];
  for (const { keyId, source } of await listNeededSecrets(call)) {
    if (await poolSecret(source, "google", sources) === null) missing.push(keyId);
  }
  return missing;
}

interface DeliveryCounts {
  sent: number;
  failed: number;
  /** Something is left for the next run. */
  more: boolean;
}

async function sendAll(channel: AlertChannel, context: OperationContext): Promise<DeliveryCounts> {
  const { call, deadline } = context;
  const counts: DeliveryCounts = { sent: 0, failed: 0, more: false };
  while (counts.sent + counts.failed < MAX_MESSAGES_A_RUN && deadline.leftMs() >= TIME_FOR_ONE_MS) {
    const message = await claimAlertMessage(call, channel.name, CLAIM_MS);
    if (message === null) return counts;
    if (await sendOne(channel, message, context)) counts.sent++;
    else counts.failed++;
  }
  return { ...counts, more: true };
}

async function sendOne(
  channel: AlertChannel,
  message: AlertMessage,
  { call, fetch, deadline, log }: OperationContext,
): Promise<boolean> {
  const delivery = await channel.send(message, { fetch, signal: deadline.signal });
  const { deliveryId } = message;
  if (delivery.ok) {
    await noteAlertMessage(call, { deliveryId, error: null, retryAfterMs: null, wholeChannel: false });
    return true;
  }
  const { error, retryAfterMs, wholeChannel } = delivery;
  const state = await noteAlertMessage(call, { deliveryId, error, retryAfterMs, wholeChannel });
  log(state === "given_up" ? "error" : "warn", "alert_not_sent", {
    channel: channel.name,
    alert_id: message.alertId,
    alert_kind: message.kind,
    attempt: message.attempt,
    state,
    error,
  });
  return false;
}
