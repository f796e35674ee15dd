import type { z } from "zod";
import { toBase64 } from "../../../shared/runtime/base64.ts";
import type { telegramAnswer } from "../../../shared/telegram/telegram_endpoint.ts";
import type { Command, Given, Option } from "../command.ts";
import { type Connection, isLoopback } from "../connection.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { callFunction, type CallOptions, readAnswer, refused } from "../function_call.ts";
import { mimeTypeOfName } from "../storage/mime_type.ts";
import { bold, count, counted, dim, green, instant, pairs, red, table } from "../table.ts";

type Answer = z.output<typeof telegramAnswer>;

const dropOption: Option = { help: "forget the updates that Telegram keeps for the bot until now" };

export const telegramCommands: Command[] = [
  {
    name: "telegram connect",
    summary: "have Telegram send a bot's updates here, where they become posts",
    about:
      "The bot is the one of EVE_TELEGRAM_INTAKE_TOKEN, or of EVE_TELEGRAM_BOT_TOKEN, among the functions' secrets.\n" +
      "Again: changes what is given, and leaves the rest as it is.",
    arguments: [],
    options: {
      chats: {
        value: "LIST",
        help: "whose messages become posts: numbers and @names with commas between them, or all",
      },
      "tenant-id": { value: "ID", help: "whose posts they are; the default tenant's by default" },
      wanted: {
        value: "LIST",
        help:
          "which files are kept: photo, thumbnail, and types of documents; photo,thumbnail,image/*,application/pdf by default",
      },
      url: { value: "URL", help: "where Telegram sends them, if that is not the project's own address" },
      "drop-pending": dropOption,
    },
    examples: [
      "telegram connect --chats @city_events,-1001234567890",
      "telegram connect --chats all --tenant-id acme",
    ],
    async run(given, { connect, signal }) {
      const answer = await ask<Answer>(connect(), "connect", {
        chats: readChats(given),
        tenant_id: given.option("tenant-id"),
        wanted: given.option("wanted")?.split(",").map((one) => one.trim()).filter((one) => one !== ""),
        url: given.option("url"),
        drop_pending_updates: given.switch("drop-pending"),
      }, { signal });
      const none = answer.bot?.chats?.length === 0
        ? "\n\nIt is allowed no chat yet: say --chats, or --chats all."
        : "";
      return { json: answer, text: `${green("connected")}\n\n${described(answer)}${none}` };
    },
  },
  {
    name: "telegram status",
    summary:
      "what Telegram says of the webhook, and how its updates stand; ends with 1 if something is wrong",
    arguments: [],
    options: {},
    examples: ["telegram status"],
    async run(_, { connect, signal }) {
      const answer = await ask<Answer>(connect(), "status", undefined, { method: "GET", signal });
      const isWrong = answer.failed > 0 || answer.bot?.is_connected !== true || !answer.webhook.is_ours;
      return { json: answer, text: described(answer), exitCode: isWrong ? EXIT.failed : EXIT.done };
    },
  },
  {
    name: "telegram disconnect",
    summary: "have Telegram send nothing any more; posts stay",
    arguments: [],
    options: { "drop-pending": dropOption },
    examples: ["telegram disconnect"],
    async run(given, { connect, signal }) {
      const answer = await ask<Answer>(connect(), "disconnect", {
        drop_pending_updates: given.switch("drop-pending"),
      }, { signal });
      return { json: answer, text: "Disconnected: Telegram keeps what comes for a day." };
    },
  },
  {
    name: "telegram replay",
    summary: "do updates once more whose jobs ended in vain",
    about: "A thousand at once, the oldest first. telegram status says why they failed.",
    arguments: [],
    options: {
      "update-ids": { value: "LIST", help: "these alone, by their numbers, with commas between them" },
    },
    examples: ["telegram replay", "telegram replay --update-ids 100234,100235"],
    async run(given, { connect, signal }) {
      const ids = given.option("update-ids")?.split(",").map((one) => {
        if (!/^\s*\d{1,15}\s*$/.test(one)) throw misuse(`${one.trim()} is no update's number.`);
        return Number(one);
      });
      const { replayed, left } = await ask<{ replayed: number; left: number }>(connect(), "replay", {
        update_ids: ids,
      }, { signal });
      const rest = left === 0 ? "" : ` ${counted(left, "other")} left.`;
      return { json: { replayed, left }, text: `${counted(replayed, "update")} queued again.${rest}` };
    },
  },
  {
    name: "telegram emulate",
    summary: "write a message in the local stack's own Telegram, as somebody in a channel would",
    about: "More than one photo make an album. With --edit, changes a message's words and its photo.",
    arguments: [],
    options: {
      text: { value: "TEXT", help: "its words; addresses in it are links" },
      photos: { value: "FILES", help: "its pictures, with commas between them" },
      documents: { value: "FILES", help: "its files, with commas between them" },
      "chat-id": { value: "NUMBER", help: "another chat than the channel City_Events" },
      edit: { value: "NUMBER", help: "the message that is edited" },
      reversed: { help: "an album's last part comes first" },
    },
    examples: [
      "telegram emulate --text 'Concert tonight: https://example.com/tickets' --photos one.png,two.png",
      "telegram emulate --edit 1 --text 'Concert tomorrow'",
    ],
    async run(given, { connect, signal }) {
      const connection = connect();
      if (!isLoopback(connection.url)) {
        throw new CliFailure("The emulator is a part of the local stack alone: npm start.");
      }
      const photos = await readFiles(given.option("photos"));
      const documents = await readFiles(given.option("documents"));
      const text = given.option("text");
      const chatId = readWhole(given, "chat-id");
      const edited = readWhole(given, "edit");
      if (text === undefined && photos.length + documents.length === 0) {
        throw misuse("Say something: --text, --photos or --documents.");
      }
      const sent = edited === undefined
        ? await emulate(connection, "messages", "POST", {
          text,
          photos: photos.map(({ data }) => data),
          documents: documents.map(({ name, data }) => ({ name, mime_type: mimeTypeOfName(name), data })),
          chat: chatId === undefined ? undefined : { id: chatId },
          reversed: given.switch("reversed"),
        }, signal)
        : await emulate(connection, `messages/${chatId ?? USUAL_CHAT}/${edited}`, "PATCH", {
          text,
          photo: photos[0]?.data,
        }, signal);
      return {
        json: sent,
        text: `${counted(sent.message_ids.length, "message")} in chat ${sent.chat_id}: ${
          sent.message_ids.join(", ")
        }`,
      };
    },
  },
];

/** The emulator's own, where nobody says another. */
const USUAL_CHAT = -1001000000001;

async function ask<T>(connection: Connection, path: string, body: unknown, options: CallOptions): Promise<T> {
  const answer = await callFunction(connection, `telegram/${path}`, body, options);
  if (answer.status >= 200 && answer.status < 300 && answer.body !== undefined) return answer.body as T;
  throw refused(answer, "The function telegram");
}

async function emulate(
  connection: Connection,
  path: string,
  method: "POST" | "PATCH",
  body: unknown,
  signal: AbortSignal,
): Promise<{ chat_id: number; message_ids: number[] }> {
  const answer = await readAnswer(
    await connection.fetch(`${connection.url}/emulator/telegram/${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      redirect: "manual",
      signal,
    }),
  );
  if (answer.status >= 200 && answer.status < 300 && answer.body !== undefined) return answer.body;
  if (answer.status === 404) {
    throw new CliFailure(
      "This stack has no Telegram of its own: a bot's token is set (EVE_TELEGRAM_BOT_TOKEN).",
    );
  }
  throw refused(answer, "The emulator of Telegram");
}

function readChats(given: Given): string[] | "all" | undefined {
  const text = given.option("chats");
  if (text === undefined) return undefined;
  if (text.trim() === "all") return "all";
  return text.split(",").map((one) => one.trim()).filter((one) => one !== "").map((one) => {
    if (!/^(-?\d{1,20}|@\w{1,64})$/.test(one)) {
      throw misuse(`${one} is no chat: a number, or a name such as @city_events.`);
    }
    return one;
  });
}

function readWhole(given: Given, name: string): number | undefined {
  const text = given.option(name);
  if (text === undefined) return undefined;
  if (!/^-?\d{1,15}$/.test(text)) throw misuse(`--${name} must be a whole number.`);
  return Number(text);
}

async function readFiles(list: string | undefined): Promise<{ name: string; data: string }[]> {
  const paths = (list ?? "").split(",").map((one) => one.trim()).filter((one) => one !== "");
  return await Promise.all(paths.map(async (path) => {
    const bytes = await Deno.readFile(path).catch((error: unknown) => {
      throw new CliFailure(
        error instanceof Deno.errors.NotFound
          ? `There is no file ${path}.`
          : `${path} cannot be read: ${error}`,
      );
    });
    return { name: path.split(/[/\\]/).at(-1)!, data: toBase64(bytes) };
  }));
}

function described({ bot, webhook, waiting, failed, failures, ignored, last_received_at }: Answer): string {
  const parts = [pairs([
    [
      "bot",
      bot === null
        ? red("not connected: telegram connect")
        : `${bot.username === null ? "" : `@${bot.username}, `}${bot.bot_id}${
          bot.is_connected ? "" : `, ${red("disconnected")}`
        }`,
    ],
    ["tenant", bot?.tenant_id ?? dim("none")],
    ["chats", bot === null ? dim("none") : bot.chats === null ? "all" : bot.chats.join(", ") || red("none")],
    ["files kept", bot?.wanted.join(", ") ?? dim("none")],
    [
      "webhook",
      webhook.url === ""
        ? red("none")
        : webhook.is_ours
        ? webhook.url
        : `${webhook.url} ${red("(not this project's)")}`,
    ],
    ["at Telegram", `${counted(webhook.pending, "update")} not taken yet`],
    [
      "its last error",
      webhook.last_error === null ? dim("none") : `${webhook.last_error} (${instant(webhook.last_error_at)})`,
    ],
    ["last update", instant(last_received_at) || dim("never")],
    ["waiting", count(waiting)],
    ["failed", failed > 0 ? red(count(failed)) : "0"],
  ])];
  if (failures.length > 0) {
    parts.push(table(
      ["update>", "kind", "chat", "received", "why"],
      failures.map((one) => [
        String(one.update_id),
        one.kind,
        one.chat ?? "",
        instant(one.received_at),
        `${one.code}: ${one.message ?? ""}`,
      ]),
    ));
  }
  if (ignored.length > 0) {
    parts.push(
      `${bold("Not taken in the last week")}\n${
        table(
          ["why", "chat", "name", "updates>", "last"],
          ignored.map((one) => [
            one.reason ?? "",
            one.chat ?? "",
            one.chat_name ?? "",
            count(one.updates),
            instant(one.last_received_at),
          ]),
        )
      }`,
    );
  }
  return parts.join("\n\n");
}
