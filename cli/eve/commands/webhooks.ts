import { createWebhooks, type WebhookDelivery, type WebhookRow } from "../../../shared/database/webhooks.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import type { Command, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { callFunction, refused } from "../function_call.ts";
import { readInstant } from "../period.ts";
import { bold, counted, dim, exactly, green, instant, red, shortened, table, yellow } from "../table.ts";
import { readChoice, readDuration, readNumber } from "../values.ts";

const LINES_BY_DEFAULT = 20;
const GRACE_BY_DEFAULT = "24h";
/** So much of an id tells a few webhooks apart. */
const ID_SHOWN = 8;
/** A test is delivered by the next run of `events`, begun at once; one that is on already ends within a minute. */
const TEST_PATIENCE_MS = 70_000;
const TEST_POLL_MS = 500;

const webhooksOf = ({ url, secretKey }: Connection) => createWebhooks(rpcTransport({ url, secretKey }));

const WHICH = "An ID may be cut to its first characters, as webhooks list shows it.";

export const webhookCommands: Command[] = [
  {
    name: "webhooks list",
    summary: "where events are posted, and how that goes; ends with 1 if one is off or has dead letters",
    arguments: [],
    options: { consumer: { value: "NAME", help: "of this consumer only; project: the project's own" } },
    examples: ["webhooks list"],
    async run(given, { connect, width }) {
      const webhooks = await webhooksOf(connect()).list(given.option("consumer"));
      const rows = webhooks.map((one) => [
        one.id.slice(0, ID_SHOWN),
        one.consumer,
        stateOf(one),
        shortened(one.url, Math.max(width - 90, 30)),
        one.types.join(", ") || dim("what is addressed to it"),
        String(one.pending),
        one.dead_letters > 0 ? red(String(one.dead_letters)) : "0",
        instant(one.last_delivered_at) || "never",
      ]);
      const text = rows.length === 0
        ? "There is no webhook yet. Add one: npm run eve -- webhooks add URL --types eve.alert.*"
        : table(
          ["id", "consumer", "state", "address", "types", "waiting>", "dead>", "last delivered"],
          rows,
        );
      const isWrong = webhooks.some((one) => !one.is_active || one.dead_letters > 0);
      return { json: webhooks, text, exitCode: isWrong ? EXIT.failed : EXIT.done };
    },
  },
  {
    name: "webhooks add",
    summary: "post events to an address; prints its secret once",
    about: "Without --types it is sent only what is addressed to it, such as the ends of jobs that name it.",
    arguments: ["URL"],
    options: {
      types: { value: "A,B", help: "types of events: eve.alert.opened.v1, eve.alert.*, or * for all" },
      consumer: {
        value: "NAME",
        help: "of this consumer: told of what concerns it alone; the project by default",
      },
      description: { value: "TEXT", help: "what it is for" },
      secret: {
        help: "asks for the secret (whsec_ and base64), or reads it from the standard input; made otherwise",
      },
    },
    examples: [
      "webhooks add https://hooks.example.com/eve --types eve.alert.*",
      "webhooks add https://bot.example.com/jobs --consumer telegram-bot",
    ],
    async run(given, { connect, secret }) {
      const answer = await callFunction(connect(), "admin/webhooks/add", {
        url: given.arguments[0],
        types: typesOf(given.option("types")),
        consumer: given.option("consumer") ?? null,
        description: given.option("description") ?? null,
        secret: given.switch("secret") ? await secret("The webhook's secret (whsec_...): ") : null,
      });
      if (answer.status !== 200) throw refused(answer, "The function admin");
      const { webhook, secret: made } = answer.body as { webhook: WebhookRow; secret: string | null };
      if (made === null) {
        throw new CliFailure(
          `There is a webhook for this address already: ${webhook.id}. See \`webhooks rotate\` for another secret.`,
        );
      }
      return withSecret(webhook, made, `Webhook ${webhook.id} was added.`);
    },
  },
  {
    name: "webhooks rotate",
    summary: "give it a new secret; the old one signs too for a while",
    about: WHICH,
    arguments: ["ID"],
    options: {
      grace: {
        value: "TIME",
        help: `how long the old secret signs too: 0 to 7d, ${GRACE_BY_DEFAULT} by default`,
      },
      secret: { help: "asks for the new secret, or reads it from the standard input; made otherwise" },
    },
    examples: ["webhooks rotate 0b1f6a52", "webhooks rotate 0b1f6a52 --grace 0"],
    async run(given, { connect, secret }) {
      const connection = connect();
      const grace = readDuration("grace", given.option("grace") ?? GRACE_BY_DEFAULT);
      const { id } = await theOne(connection, given.arguments[0]!);
      const answer = await callFunction(connection, "admin/webhooks/rotate", {
        id,
        grace_s: grace,
        secret: given.switch("secret") ? await secret("The new secret (whsec_...): ") : null,
      });
      if (answer.status !== 200) throw refused(answer, "The function admin");
      const { webhook, secret: made } = answer.body as { webhook: WebhookRow; secret: string };
      const until = webhook.previous_secret_until;
      return withSecret(
        webhook,
        made,
        until === null
          ? "The old secret does not sign any more."
          : `The old secret signs too until ${instant(until)}.`,
      );
    },
  },
  {
    name: "webhooks test",
    summary: "send it an event now, and see whether it arrives; ends with 1 if it does not",
    about: `The event is of the type eve.webhook.test.v1. ${WHICH}`,
    arguments: ["ID"],
    options: {},
    examples: ["webhooks test 0b1f6a52"],
    async run(given, { connect, now, sleep, signal, progress }) {
      const connection = connect();
      const webhooks = webhooksOf(connection);
      const { id } = await theOne(connection, given.arguments[0]!);
      const { delivery_id: deliveryId } = await webhooks.test(id);
      progress("sent, waiting for the answer");
      // Its answer is of no interest: another run may be at it.
      const run = callFunction(connection, "maintenance/events", { source: "webhooks test" }, { signal })
        .catch(() => {});
      const until = now() + TEST_PATIENCE_MS;
      for (;;) {
        const [delivery] = (await webhooks.deliveries(id, { deliveryId })).deliveries;
        if (delivery === undefined) throw new CliFailure("The webhook was removed meanwhile.");
        if (delivery.tries.length > 0 || now() > until) {
          await Promise.race([run, Promise.resolve()]);
          return tested(delivery);
        }
        await sleep(TEST_POLL_MS);
        signal.throwIfAborted();
      }
    },
  },
  {
    name: "webhooks log",
    summary: "its deliveries with their tries, the newest first",
    about: WHICH,
    arguments: ["ID"],
    options: {
      state: { value: "STATE", help: "pending, delivered, dead or dropped" },
      limit: { value: "N", help: `how many; ${LINES_BY_DEFAULT} by default` },
    },
    examples: ["webhooks log 0b1f6a52", "webhooks log 0b1f6a52 --state dead"],
    async run(given, { connect }) {
      const connection = connect();
      const { id } = await theOne(connection, given.arguments[0]!);
      const { deliveries } = await webhooksOf(connection).deliveries(id, {
        state: readChoice(given, "state", ["pending", "delivered", "dead", "dropped"]),
        atMost: readNumber(given, "limit") ?? LINES_BY_DEFAULT,
      });
      const rows = deliveries.map((one) => [
        String(one.delivery_id),
        exactly(one.time),
        one.type,
        one.subject ?? "",
        one.state === "delivered" ? green(one.state) : one.state === "dead" ? red(one.state) : one.state,
        one.tries.map(({ status, result }) => status ?? result).join(" "),
        one.state === "pending" ? `next try ${instant(one.next_try_at)}` : "",
        one.state === "delivered" ? "" : one.last_error ?? "",
      ]);
      const text = rows.length === 0
        ? "Nothing has been sent to it."
        : table(["delivery>", "event of", "type", "subject", "state", "tries", "", "last error"], rows);
      return { json: deliveries, text };
    },
  },
  {
    name: "webhooks redeliver",
    summary: "send it again what has ended, under the same id",
    about:
      `One delivery, as webhooks log numbers it, or all that ended since a time without being delivered. ${WHICH}`,
    arguments: ["ID"],
    options: {
      delivery: { value: "N", help: "this one, delivered or not" },
      since: { value: "TIME", help: "what was given up or dropped since then: 24h, 7d, today, 2026-11-21" },
    },
    examples: ["webhooks redeliver 0b1f6a52 --delivery 17", "webhooks redeliver 0b1f6a52 --since 24h"],
    async run(given, { connect }) {
      const connection = connect();
      const deliveryId = readNumber(given, "delivery");
      const since = given.option("since");
      if ((deliveryId === undefined) === (since === undefined)) {
        throw misuse("Say which: --delivery N, or --since TIME.");
      }
      const { id } = await theOne(connection, given.arguments[0]!);
      const what = deliveryId !== undefined
        ? { deliveryId }
        : { since: readInstant("since", since!, await connection.reading.now()) };
      const redelivered = await webhooksOf(connection).redeliver(id, what);
      return {
        json: { redelivered },
        text: redelivered === 0
          ? "There is nothing to send again."
          : `${counted(redelivered, "delivery", "deliveries")} will be sent again within a minute.`,
      };
    },
  },
  switching("disable", false, "switch it off; what happens meanwhile it is not told"),
  switching("enable", true, "switch it on again, also after its receiver answered 410"),
  {
    name: "webhooks delete",
    summary: "remove it with what waits for it and its log",
    about: WHICH,
    arguments: ["ID"],
    options: { yes: { help: "do it" } },
    examples: ["webhooks delete 0b1f6a52 --yes"],
    async run(given, { connect }) {
      const connection = connect();
      const { id, url, pending } = await theOne(connection, given.arguments[0]!);
      if (!given.switch("yes")) {
        throw misuse(
          `This removes the webhook of ${url} and ${
            counted(pending, "event that waits", "events that wait")
          } for it. Say it again with --yes, or use \`webhooks disable\`.`,
        );
      }
      await webhooksOf(connection).remove(id);
      return { json: { removed: id }, text: `Webhook ${id} was removed.` };
    },
  },
];

function switching(verb: string, isActive: boolean, summary: string): Command {
  return {
    name: `webhooks ${verb}`,
    summary,
    about: WHICH,
    arguments: ["ID"],
    options: {},
    examples: [`webhooks ${verb} 0b1f6a52`],
    async run(given, { connect }) {
      const connection = connect();
      const { id } = await theOne(connection, given.arguments[0]!);
      const webhook = await webhooksOf(connection).change(id, { isActive });
      return { json: webhook, text: `Webhook ${id} is ${isActive ? "on" : "off"}.` };
    },
  };
}

/** By its id, or the first characters of it. */
async function theOne(connection: Connection, beginning: string): Promise<WebhookRow> {
  const found = (await webhooksOf(connection).list()).filter(({ id }) =>
    id.startsWith(beginning.toLowerCase())
  );
  const [webhook] = found;
  if (webhook === undefined) throw new CliFailure(`There is no webhook ${beginning}. See \`webhooks list\`.`);
  if (found.length > 1) {
    throw misuse(`${beginning} is the beginning of ${found.length} ids: give more of it.`);
  }
  return webhook;
}

/** Types with commas between them. */
function typesOf(text: string | undefined): string[] {
  return (text ?? "").split(",").map((type) => type.trim()).filter((type) => type !== "");
}

function stateOf({ is_active, off_reason, paused_until }: WebhookRow): string {
  if (is_active) return paused_until === null ? green("on") : yellow(`rests until ${instant(paused_until)}`);
  return off_reason === "gone" ? red("off: 410") : yellow("off");
}

function withSecret(webhook: WebhookRow, secret: string, message: string): Outcome {
  return {
    json: { ...webhook, secret },
    text: `${message}\n\n  ${
      bold(secret)
    }\n\nThis is its secret. It is shown this once: put it where the receiver checks signatures.`,
  };
}

function tested(delivery: WebhookDelivery): Outcome {
  const last = delivery.tries.at(-1);
  if (last?.result === "delivered") {
    return { json: delivery, text: green(`It arrived: status ${last.status} after ${last.duration_ms} ms.`) };
  }
  const why = last === undefined
    ? "Nobody has sent it yet. Is the function maintenance deployed? See `doctor`."
    : `It did not arrive: ${last.error}. It is tried again by itself.`;
  return { json: delivery, text: red(why), exitCode: EXIT.failed };
}
