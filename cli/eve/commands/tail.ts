import type { RequestRow, TailCursor } from "../../../shared/database/reading.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { Command } from "../command.ts";
import { misuse } from "../failure.ts";
import { requestLine } from "../request_lines.ts";
import { readNumber } from "../values.ts";

const POLL_MS = 1_000;
/** After a poll that failed: the project may be restarting. */
const RETRY_MS = 3_000;
const LINES_BY_DEFAULT = 10;
const PAGE = 5_000;
/** The database repeats those of its last two seconds. */
const REMEMBERED = 20_000;

export const tailCommand: Command = {
  name: "tail",
  summary: "requests and refusals as they end, until Ctrl-C",
  about:
    "Asks the project once a second for what was numbered since, which costs it a few milliseconds. With --json\n" +
    "each line is one JSON object, of the shape that `requests list` has.",
  arguments: [],
  options: {
    consumer: { value: "NAME", help: "from this consumer only" },
    model: { value: "NAME", help: "of this model only" },
    failures: { help: "without those that succeeded" },
    lines: { value: "N", help: `how many of before to show first; ${LINES_BY_DEFAULT} by default` },
  },
  examples: ["tail", "tail --failures", "tail --consumer kaggle --lines 0 --json"],
  async run(given, { connect, say, progress, json, signal, sleep }) {
    const { reading } = connect();
    const lines = readNumber(given, "lines") ?? LINES_BY_DEFAULT;
    if (lines > 1_000) throw misuse("--lines must be at most 1000.");
    const consumer = given.option("consumer");
    const model = given.option("model");
    const wanted = (row: RequestRow) =>
      (consumer === undefined || row.consumer === consumer) &&
      (model === undefined || row.model === model || row.requested_model === model) &&
      !(given.switch("failures") && row.state === "succeeded");

    const seen = new Set<string>();
    let cursor: TailCursor | null = null;
    while (!signal.aborted) {
      let page;
      try {
        page = await reading.tail(cursor, cursor === null ? Math.max(lines, 1) : PAGE);
      } catch (thrown) {
        // The first time the user has to fix it; later it passes.
        if (cursor === null || !(thrown instanceof GatewayError) || !thrown.retryable) throw thrown;
        progress("The project does not answer; trying again ...");
        await sleep(RETRY_MS);
        continue;
      }
      const first = cursor === null;
      for (const row of page.events) {
        const id = `${row.request_no}/${row.refusal_no}`;
        if (seen.has(id)) continue;
        seen.add(id);
        if ((first && lines === 0) || !wanted(row)) continue;
        progress("");
        say(json ? JSON.stringify(row) : requestLine(row));
      }
      forgetOldest(seen);
      cursor = page.cursor;
      progress("Waiting for requests; Ctrl-C ends it");
      await sleep(POLL_MS);
    }
    return undefined;
  },
};

function forgetOldest(seen: Set<string>): void {
  for (const id of seen) {
    if (seen.size <= REMEMBERED) return;
    seen.delete(id);
  }
}
