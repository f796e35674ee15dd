import * as z from "zod";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import { type NoteError, PROJECT_CALLER } from "../contract/note_error.ts";
import {
  telegramBot,
  type TelegramRows,
  telegramStatus,
  type UpdateToTake,
} from "../database/posts/telegram.ts";
import { validated } from "../endpoints/validated.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
} from "../http/function_shell.ts";
import { jsonResponse } from "../http/json_response.ts";
import type { Background } from "../runtime/background.ts";
import { coalesced } from "../runtime/coalesced.ts";
import { equalInConstantTime } from "../runtime/constant_time.ts";
import { sha256Of } from "../runtime/sha256.ts";
import type { BotApi } from "./bot_api.ts";
import { UPDATE_KINDS } from "./updates.ts";

export interface TelegramDependencies {
  /** Null: there is no token. Nothing is taken in, and anyone who asks is told what to set. */
  bot: { id: number; secret: string; api: BotApi } | null;
  rows: TelegramRows;
  /** Where Telegram is to send updates to. */
  webhookUrl: string;
  /** Throws GatewayError for a request without the project's secret key. */
  authorise(request: Request): Promise<void>;
  /** Verifies, and counts what is wrong against the sender's network. */
  counting(request: Request, verify: () => Promise<void>): Promise<void>;
  /** Calls the function worker: there is something to do. Never throws. */
  wake(): Promise<void>;
  background: Background;
  noteError?: NoteError;
}

/** https://core.telegram.org/bots/api#setwebhook */
const SECRET_HEADER = "x-telegram-bot-api-secret-token";
/** An update of Telegram's has some kilobytes; a long text with entities, ten times as much. */
const MAX_BODY_BYTES = 1024 * 1024;
/** Updates that are written down together, while others are on their way to the database. */
const MOST_IN_A_BATCH = 100;
/** Telegram's own usual number of connections. */
const USUAL_CONNECTIONS = 40;

const update = z.looseObject({ update_id: z.int().min(0) });
const chat = z.string().regex(/^(-?\d{1,20}|@\w{1,64})$/, "must be a chat's number, or its @name");
const connectBody = z.strictObject({
  tenant_id: z.string().min(1).max(100).optional(),
  /** `all`: anyone who writes to the bot. */
  chats: z.union([z.literal("all"), z.array(chat).max(1_000)]).optional(),
  wanted: z.array(z.string().max(150)).max(50).optional(),
  /** Where updates are sent to; the function's own address by default. */
  url: z.url({ protocol: /^https?$/ }).max(1_000).optional(),
  max_connections: z.int().min(1).max(100).default(USUAL_CONNECTIONS),
  /** Forgets what Telegram has kept for the bot until now. */
  drop_pending_updates: z.boolean().default(false),
});
const disconnectBody = z.strictObject({ drop_pending_updates: z.boolean().default(false) });
const replayBody = z.strictObject({ update_ids: z.array(z.int().min(0)).min(1).max(1_000).optional() });

const me = z.object({ id: z.number(), username: z.string().optional() });
const webhookInfo = z.looseObject({
  url: z.string(),
  pending_update_count: z.number(),
  last_error_date: z.number().optional(),
  last_error_message: z.string().optional(),
  max_connections: z.number().optional(),
  allowed_updates: z.array(z.string()).optional(),
});

/** What `/status` and `/connect` answer. */
export const telegramAnswer = telegramStatus.extend({
  bot: telegramBot.nullable(),
  webhook: z.object({
    url: z.string(),
    /** Whether it is this gateway's. */
    is_ours: z.boolean(),
    /** Updates that Telegram keeps until they are taken. */
    pending: z.number(),
    last_error_at: z.string().nullable(),
    last_error: z.string().nullable(),
    max_connections: z.number().nullable(),
    allowed_updates: z.array(z.string()),
  }),
});

/**
 * `POST /` takes an update in from Telegram, which shows its secret: written down, answered, and done by a job. `POST /connect`, `/disconnect`,
 * `/replay` and `GET /status` are for the project's secret key.
 */
export function createTelegramEndpoint(
  options: FunctionOptions<TelegramDependencies>,
): (request: Request) => Promise<Response> {
  const ofProject = new WeakSet<FunctionRequest>();
  return createFunction(options, {
    maxBodyBytes: MAX_BODY_BYTES,
    cors: null,
    noteError: (error, received, { noteError }) =>
      noteError?.(error, ofProject.has(received) ? PROJECT_CALLER : null),
    routes(app, dependencies) {
      const { wake, background } = dependencies;
      const authorise = async (received: FunctionRequest) => {
        await dependencies.authorise(received.request);
        ofProject.add(received);
      };
      const take = taker(dependencies, options.log);
      app.post("/", async ({ env: received }) => {
        // Before the body is read: a stranger's is none of ours.
        await dependencies.counting(received.request, () => requireSecret(received.request, dependencies));
        const body = await readJson(received);
        const read = update.safeParse(body);
        if (!read.success) {
          throw new GatewayError("invalid_request", { message: "This is no update: it has no update_id." });
        }
        received.attributes = { "eve.update_id": read.data.update_id };
        await take({ update: read.data, trace_id: received.traceId });
        return jsonResponse(200, { status: "taken" }, received.requestId);
      });
      app.post("/connect", async ({ env: received }) => {
        await authorise(received);
        const { chats, ...asked } = validated(connectBody, await readJson(received));
        const { api, id, secret } = botOf(dependencies);
        const { signal } = received.request;
        const { username } = await api.call("getMe", {}, me, signal);
        // First of all: what Telegram sends as soon as it knows the address is taken in.
        await dependencies.rows.connect({
          botId: id,
          username: username ?? null,
          tenantId: asked.tenant_id ?? null,
          chats: chats ?? null,
          wanted: asked.wanted ?? null,
        });
        await api.call(
          "setWebhook",
          {
            url: asked.url ?? dependencies.webhookUrl,
            secret_token: secret,
            allowed_updates: UPDATE_KINDS,
            max_connections: asked.max_connections,
            drop_pending_updates: asked.drop_pending_updates,
          },
          z.literal(true),
          signal,
        );
        return jsonResponse(200, await statusOf(dependencies, signal), received.requestId);
      });
      app.get("/status", async ({ env: received }) => {
        await authorise(received);
        return jsonResponse(200, await statusOf(dependencies, received.request.signal), received.requestId);
      });
      app.post("/disconnect", async ({ env: received }) => {
        await authorise(received);
        const { drop_pending_updates } = validated(disconnectBody, await readJson(received));
        const { api, id } = botOf(dependencies);
        const { signal } = received.request;
        await api.call("deleteWebhook", { drop_pending_updates }, z.literal(true), signal);
        await dependencies.rows.disconnect(id);
        return jsonResponse(200, await statusOf(dependencies, signal), received.requestId);
      });
      app.post("/replay", async ({ env: received }) => {
        await authorise(received);
        const { update_ids = null } = validated(replayBody, await readJson(received));
        const { replayed, left, wake: wakes } = await dependencies.rows.replay(
          botOf(dependencies).id,
          update_ids,
        );
        if (wakes) background(wake());
        return jsonResponse(200, { replayed, left }, received.requestId);
      });
      app.all("*", async ({ env: received }) => {
        // A stranger learns nothing of which paths there are.
        await authorise(received);
        if (received.path === "/status") throw methodNotAllowed(["GET"]);
        if (["/", "/connect", "/disconnect", "/replay"].includes(received.path)) {
          throw methodNotAllowed(["POST"]);
        }
        throw new GatewayError("not_found", { details: { path: received.path } });
      });
    },
  });
}

function botOf({ bot }: TelegramDependencies): NonNullable<TelegramDependencies["bot"]> {
  if (bot === null) throw new GatewayError("telegram_not_set_up");
  return bot;
}

/** Hashes are compared, in constant time: neither where two secrets differ nor how long ours is shows in the time. */
async function requireSecret(request: Request, dependencies: TelegramDependencies): Promise<void> {
  const given = request.headers.get(SECRET_HEADER);
  if (given === null) {
    throw new GatewayError("credential_missing", { message: "This address is Telegram's alone." });
  }
  if (!equalInConstantTime(await sha256Of(given), await sha256Of(botOf(dependencies).secret))) {
    throw new GatewayError("credential_invalid");
  }
}

/** The bodies of one sender, whose credential has been verified. */
async function readJson(received: FunctionRequest): Promise<unknown> {
  const work = received.beginWork("telegram");
  try {
    return await received.readJson(work);
  } finally {
    work.end();
  }
}

/** Updates that come at the same time go to the database together: each costs a part of a call. */
function taker(
  { bot, rows, wake, background }: TelegramDependencies,
  log: FunctionOptions<TelegramDependencies>["log"],
): (one: UpdateToTake) => Promise<void> {
  const take = async (updates: UpdateToTake[]) => {
    const { wake: wakes } = await rows.take(bot!.id, updates);
    if (wakes) background(wake());
  };
  const takeInBatches = coalesced(take, MOST_IN_A_BATCH);
  return async (one) => {
    try {
      await takeInBatches(one);
    } catch (thrown) {
      const { retryable, status, detail } = asGatewayError(thrown);
      // What the database cannot take at all may be another one's fault.
      if (retryable || status === 503) throw thrown;
      log("warn", "telegram_taken_alone", { detail });
      await take([one]);
    }
  };
}

async function statusOf(
  { rows, webhookUrl, ...dependencies }: TelegramDependencies,
  signal: AbortSignal,
): Promise<z.output<typeof telegramAnswer>> {
  const { api, id } = botOf({ rows, webhookUrl, ...dependencies });
  const [kept, info] = await Promise.all([
    rows.status(id),
    api.call("getWebhookInfo", {}, webhookInfo, signal),
  ]);
  return {
    ...kept,
    webhook: {
      url: info.url,
      is_ours: info.url === webhookUrl,
      pending: info.pending_update_count,
      last_error_at: info.last_error_date === undefined
        ? null
        : new Date(info.last_error_date * 1000).toISOString(),
      last_error: info.last_error_message ?? null,
      max_connections: info.max_connections ?? null,
      allowed_updates: info.allowed_updates ?? [],
    },
  };
}
