import { createDeadLetters, type DeadLetterDetail } from "../../../shared/database/events.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import type { Command, Given } from "../command.ts";
import type { Connection } from "../connection.ts";
import { EXIT, misuse } from "../failure.ts";
import { counted, exactly, green, instant, pairs, table } from "../table.ts";
import { readNumber } from "../values.ts";

const LINES_BY_DEFAULT = 50;
/** One call does so many. */
const BATCH = 1_000;

const deadLettersOf = ({ url, secretKey }: Connection) => createDeadLetters(rpcTransport({ url, secretKey }));

const MEANT = {
  consumer: { value: "NAME", help: "all of this consumer, such as webhook:0b1f6a52-..." },
  all: { help: "all of them" },
};

export const deadLetterCommands: Command[] = [
  {
    name: "dlq list",
    summary: "events that could not be delivered; ends with 1 if there are any",
    arguments: [],
    options: {
      consumer: MEANT.consumer,
      type: { value: "TYPE", help: "of this type only, such as eve.alert.opened.v1" },
      limit: { value: "N", help: `how many; ${LINES_BY_DEFAULT} by default` },
    },
    examples: ["dlq list", "dlq list --type eve.alert.opened.v1"],
    async run(given, { connect }) {
      const { dead_letters: letters } = await deadLettersOf(connect()).list({
        consumer: given.option("consumer"),
        type: given.option("type"),
        atMost: readNumber(given, "limit") ?? LINES_BY_DEFAULT,
      });
      const text = letters.length === 0 ? green("There is no dead letter.") : table(
        ["no>", "for", "type", "subject", "tries>", "first failure", "last failure", "error"],
        letters.map((one) => [
          String(one.id),
          one.receiver,
          one.type,
          one.subject ?? "",
          String(one.attempts),
          instant(one.first_failed_at),
          instant(one.last_failed_at),
          one.error ?? "",
        ]),
      );
      return { json: letters, text, exitCode: letters.length > 0 ? EXIT.failed : EXIT.done };
    },
  },
  {
    name: "dlq show",
    summary: "one of them with its event and its tries",
    arguments: ["NO"],
    options: {},
    examples: ["dlq show 12"],
    async run(given, { connect }) {
      const letter = await deadLettersOf(connect()).show(numberOf(given.arguments[0]!));
      return { json: letter, text: described(letter) };
    },
  },
  {
    name: "dlq replay",
    summary: "send them again, with all their tries and under the same ids",
    about: "What is for a webhook that is switched off stays: switch it on first.",
    arguments: ["NO...?"],
    options: MEANT,
    examples: ["dlq replay 12 13", "dlq replay --all"],
    async run(given, { connect }) {
      const meant = meantBy(given);
      const letters = deadLettersOf(connect());
      const replayed = await inBatches(() => letters.replay(meant));
      return {
        json: { replayed },
        text: `${counted(replayed, "event")} will be sent again within a minute.`,
      };
    },
  },
  {
    name: "dlq drop",
    summary: "give them up",
    arguments: ["NO...?"],
    options: MEANT,
    examples: ["dlq drop 12", "dlq drop --all"],
    async run(given, { connect }) {
      const meant = meantBy(given);
      const letters = deadLettersOf(connect());
      const dropped = await inBatches(() => letters.drop(meant));
      return { json: { dropped }, text: `${counted(dropped, "event was", "events were")} given up.` };
    },
  },
];

/** Nothing at all is not taken for everything. */
function meantBy(given: Given) {
  const ids = given.arguments.map(numberOf);
  const consumer = given.option("consumer");
  const ways = [ids.length > 0, consumer !== undefined, given.switch("all")].filter(Boolean).length;
  if (ways !== 1) throw misuse("Say which: their numbers, --consumer NAME, or --all.");
  return ids.length > 0 ? { ids } : { consumer };
}

async function inBatches(once: () => Promise<number>): Promise<number> {
  let done = 0;
  for (;;) {
    const more = await once();
    done += more;
    if (more < BATCH) return done;
  }
}

function numberOf(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw misuse(`A dead letter is named by its number, not ${text}: see \`dlq list\`.`);
}

function described(letter: DeadLetterDetail): string {
  return pairs([
    ["dead letter", `number ${letter.id}`],
    ["for", `${letter.receiver} (${letter.consumer})`],
    ["type", letter.type],
    ["subject", letter.subject ?? ""],
    ["event", letter.event_id],
    ["happened", exactly(letter.event.time)],
    ["data", JSON.stringify(letter.event.data)],
    ["first failure", exactly(letter.first_failed_at)],
    ["last failure", exactly(letter.last_failed_at)],
    ["error", letter.error ?? ""],
    ...letter.tries.map((one): [string, string] => [
      `try ${one.attempt}`,
      [exactly(one.at), one.result, one.error].filter(Boolean).join(", "),
    ]),
  ].filter((pair): pair is [string, string] => pair[1] !== ""));
}
