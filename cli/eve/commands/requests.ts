import { REQUEST_STATES, type RequestFilter, type RequestRow } from "../../../shared/database/reading.ts";
import type { Command, CommandDependencies, Given } from "../command.ts";
import type { Connection } from "../connection.ts";
import { misuse } from "../failure.ts";
import { readInstant } from "../period.ts";
import { requestBlock, requestTable } from "../request_lines.ts";
import { count, dim, exactly, table } from "../table.ts";
import { readChoice, readNumber } from "../values.ts";

const BY_DEFAULT = 20;
const AT_MOST = 1_000;
const ERRORS_SINCE = "24h";

export const requestCommands: Command[] = [
  {
    name: "requests list",
    summary: "search the requests that run, have ended or were refused; the newest first",
    about:
      "Times are the database's; the newest is what ended last. Refusals are among them, but for those of later attempts,\n" +
      "which `requests show` tells with their request.",
    arguments: [],
    options: {
      id: { value: "REQUEST_ID", help: "the request_id that the caller gave or was given" },
      consumer: { value: "NAME", help: "from this consumer; project is the project's own key" },
      model: { value: "NAME", help: "that asked for this model, or were served by it" },
      key: { value: "ALIAS", help: "whose last attempt had this key" },
      outcome: { value: "STATE", help: REQUEST_STATES.join(", ") },
      error: { value: "CODE", help: "that ended with this error code" },
      since: { value: "TIME", help: "30m, 24h, 7d, today, yesterday, 2026-11-21, 2026-11-21T08:00Z" },
      until: { value: "TIME", help: "likewise" },
      limit: { value: "N", help: `how many, up to ${count(AT_MOST)}; ${BY_DEFAULT} by default` },
      before: { value: "PLACE", help: "go on from here: what an earlier page showed" },
    },
    examples: [
      "requests list",
      "requests list --outcome failed --since today",
      "requests list --consumer kaggle --model gemma-4-31b-it --limit 100",
      "requests list --id 5d81283a-e5e1-45df-aa1e-b70c09cdec54 --json",
    ],
    async run(given, around) {
      const connection = around.connect();
      const filter = await readFilter(given, connection);
      const { requests, next } = await search(filter, connection, around);
      const text = requests.length === 0
        ? `Nothing was found${next === null ? "." : ` yet. Go on with --before ${next}.`}`
        : `${requestTable(requests)}${
          next === null ? "" : `\n${dim(`There may be more: --before ${next}`)}`
        }`;
      return { json: { requests, next_before: next }, text };
    },
  },
  {
    name: "requests show",
    summary: "one request with all its attempts, waits, whose fault it is, and captured text",
    about: "By its request_id also one that was refused: why, by which limit, and when.",
    arguments: ["ID"],
    options: { consumer: { value: "NAME", help: "whose request it is, if several used the same id" } },
    examples: ["requests show 1204", "requests show 5d81283a-e5e1-45df-aa1e-b70c09cdec54"],
    async run(given, { connect }) {
      const id = given.arguments[0]!;
      const { reading } = connect();
      // Numbers are ours and short; an id of nothing but digits is found by `requests list --id`.
      const found = /^#?\d{1,15}$/.test(id)
        ? await reading.request({ requestNo: Number(id.replace("#", "")) })
        : await reading.request({ requestId: id, consumer: given.option("consumer") });
      return { json: found, text: requestBlock(found) };
    },
  },
  {
    name: "requests errors",
    summary: "what was refused for what it is (400, 404, 405, 408, 413), counted by code and consumer",
    about: "Such requests are in no list: only their number is kept, by the minute, for 30 days.",
    arguments: [],
    options: {
      consumer: { value: "NAME", help: "of this consumer; project is the project's own key" },
      since: { value: "TIME", help: `30m, 24h, 7d, today; ${ERRORS_SINCE} by default` },
      until: { value: "TIME", help: "likewise" },
    },
    examples: ["requests errors", "requests errors --consumer kaggle --since 7d --json"],
    async run(given, { connect }) {
      const { reading } = connect();
      const clock = await reading.now();
      const until = given.option("until");
      const errors = await reading.badRequests({
        consumer: given.option("consumer"),
        since: readInstant("since", given.option("since") ?? ERRORS_SINCE, clock),
        until: until === undefined ? undefined : readInstant("until", until, clock),
      });
      const text = errors.length === 0 ? "There were none." : table(
        ["code", "consumer", "times>", "first", "last"],
        errors.map((one) => [
          one.code,
          one.consumer ?? dim("not recognised"),
          count(one.times),
          exactly(one.first_at).slice(0, 16),
          exactly(one.last_at).slice(0, 16),
        ]),
      );
      return { json: { errors }, text };
    },
  },
];

async function readFilter(
  given: Given,
  { reading }: Connection,
): Promise<RequestFilter & { atMost: number }> {
  const atMost = readNumber(given, "limit") ?? BY_DEFAULT;
  if (atMost < 1 || atMost > AT_MOST) throw misuse(`--limit must be between 1 and ${count(AT_MOST)}.`);
  const times = { since: given.option("since"), until: given.option("until") };
  const outcome = readChoice(given, "outcome", REQUEST_STATES);
  const clock = times.since === undefined && times.until === undefined ? undefined : await reading.now();
  return {
    requestId: given.option("id"),
    consumer: given.option("consumer"),
    model: given.option("model"),
    key: given.option("key"),
    outcome,
    errorCode: given.option("error"),
    since: times.since === undefined ? undefined : readInstant("since", times.since, clock!),
    until: times.until === undefined ? undefined : readInstant("until", times.until, clock!),
    before: given.option("before"),
    atMost,
  };
}

/** Asks for pages until there are enough: each call looks at a bounded piece of the audit. */
async function search(
  filter: RequestFilter & { atMost: number },
  { reading }: Connection,
  { progress, signal }: Pick<CommandDependencies, "progress" | "signal">,
): Promise<{ requests: RequestRow[]; next: string | null }> {
  const requests: RequestRow[] = [];
  let before = filter.before;
  for (let pages = 1;; pages += 1) {
    const page = await reading.requests({ ...filter, before, atMost: filter.atMost - requests.length });
    requests.push(...page.requests);
    const next = page.next_before;
    if (next === null || requests.length >= filter.atMost || signal.aborted) {
      return { requests: requests.slice(0, filter.atMost), next };
    }
    before = next;
    progress(
      `Searching: ${requests.length} found in ${count(pages * 100_000)} requests, now before ${next}`,
    );
  }
}
