import type { CacheStats } from "../../../shared/database/answer_cache.ts";
import type { Command } from "../command.ts";
import { misuse } from "../failure.ts";
import { readInstant } from "../period.ts";
import { bold, bytes, count, dim, instant, pairs, table } from "../table.ts";
import { readAmount, readDuration } from "../values.ts";

const BYTES_PER_MB = 1_000_000;

export const cacheCommands: Command[] = [
  {
    name: "cache stats",
    summary: "kept answers: how many there are, how often they were asked for, and what that saved",
    arguments: [],
    options: {
      since: { value: "TIME", help: "24h, 7d, today, 2026-11-21; all that is known of by default" },
      until: { value: "TIME", help: "likewise; now by default" },
      consumer: { value: "NAME", help: "of this consumer; project is the project's own key" },
      model: { value: "NAME", help: "of this model" },
    },
    examples: ["cache stats", "cache stats --since 7d --consumer kaggle"],
    async run(given, { connect }) {
      const { cache, reading } = connect();
      const [since, until] = [given.option("since"), given.option("until")];
      const clock = since === undefined && until === undefined ? null : await reading.now();
      const stats = await cache.stats({
        since: since === undefined || clock === null ? undefined : readInstant("since", since, clock),
        until: until === undefined || clock === null ? undefined : readInstant("until", until, clock),
        consumer: given.option("consumer"),
        model: given.option("model"),
      });
      return { json: stats, text: described(stats) };
    },
  },
  {
    name: "cache consumer",
    summary: "keep a consumer's answers without its calls asking for it, or never",
    about:
      "Calls that say nothing then find and keep answers, unless their temperature is above 0 or they say that nothing is to be\n" +
      "kept. Calls that ask by themselves need none of this. It is known everywhere within ten seconds.",
    arguments: ["NAME"],
    options: {
      ttl: {
        value: "TIME",
        help:
          "how long an answer is kept, such as 1h or 30d; never: not even if a call asks; none: only if a call asks",
      },
      "by-tenant": { help: "share answers with the tenant's other consumers that say this" },
    },
    examples: [
      "cache consumer kaggle --ttl 7d",
      "cache consumer kaggle --ttl 7d --by-tenant",
      "cache consumer bot --ttl never",
    ],
    async run(given, { connect }) {
      const ttl = given.option("ttl");
      if (ttl === undefined) throw misuse("--ttl is missing: a time, never or none.");
      const seconds = ttl === "none" ? null : ttl === "never" ? 0 : readDuration("ttl", ttl);
      const set = await connect().cache.setConsumer(given.arguments[0]!, seconds, given.switch("by-tenant"));
      return {
        json: set,
        text: pairs([["consumer", bold(set.consumer)], [
          "answers are kept",
          ttlText(set.ttl_s, set.by_tenant),
        ]]),
      };
    },
  },
  {
    name: "cache flush",
    summary: "delete kept answers: of a model, a consumer, one by its key, or all",
    arguments: [],
    options: {
      model: { value: "NAME", help: "given by this model, or asked of it" },
      consumer: { value: "NAME", help: "of this consumer" },
      key: { value: "DIGITS", help: "the key that the header x-eve-cache shows, 8 digits of it at least" },
      all: { help: "everything" },
    },
    examples: [
      "cache flush --model gemini-2.5-flash",
      "cache flush --consumer kaggle",
      "cache flush --key 1f0c9a7b22d4e6f8",
    ],
    async run(given, { connect }) {
      const [model, consumer, key] = [given.option("model"), given.option("consumer"), given.option("key")];
      const everything = given.switch("all");
      const named = model !== undefined || consumer !== undefined || key !== undefined;
      if (named === everything) throw misuse("Say which: --model, --consumer or --key, or --all.");
      const deleted = await connect().cache.flush({
        ...(model !== undefined && { model }),
        ...(consumer !== undefined && { consumer }),
        ...(key !== undefined && { key }),
        everything,
      });
      return {
        json: { deleted },
        text: `${count(deleted)} ${deleted === 1 ? "answer was" : "answers were"} deleted.`,
      };
    },
  },
  {
    name: "cache limit",
    summary: "how much is kept, all consumers together; the oldest go first",
    arguments: [],
    options: { mb: { value: "N", help: "megabytes, such as 500; 0 keeps nothing" } },
    examples: ["cache limit --mb 500"],
    async run(given, { connect }) {
      const amount = readAmount(given, "mb");
      if (amount === undefined) throw misuse("--mb is missing: how many megabytes may be kept.");
      const deleted = await connect().cache.limit(Math.round(amount * BYTES_PER_MB));
      return {
        json: { max_bytes: amount * BYTES_PER_MB, deleted },
        text: `${bytes(amount * BYTES_PER_MB)} are kept at most; ${count(deleted)} were too many.`,
      };
    },
  },
];

const ttlText = (ttlS: number | null, byTenant: boolean) =>
  ttlS === null
    ? "if a call asks"
    : ttlS === 0
    ? "never"
    : `for ${count(ttlS)} s${byTenant ? ", shared within the tenant" : ""}`;

/** Hits of all that might have been; null: there were none. */
export function hitRate({ hits, misses }: { hits: number; misses: number }): string | null {
  return hits + misses === 0 ? null : `${Math.round(hits * 100 / (hits + misses))} %`;
}

function described({ totals, rows, stored, consumers }: CacheStats): string {
  const blocks = [pairs([
    ["kept", `${count(stored.answers)} answers, ${bytes(stored.bytes)} of ${bytes(stored.max_bytes)}`],
    ["the oldest", instant(stored.oldest_at) || "none"],
    ["hits", `${count(totals.hits)} of ${count(totals.hits + totals.misses)} calls${rateIn(totals)}`],
    [
      "saved",
      `${count(totals.hits)} starts, ${count(totals.saved_input_tokens)} tokens in, ${
        count(totals.saved_output_tokens)
      } out`,
    ],
  ])];
  if (rows.length > 0) {
    blocks.push(table(
      ["consumer", "model", "hits>", "of all>", "tokens in>", "tokens out>"],
      rows.map((row) => [
        row.consumer,
        row.model || dim("none"),
        count(row.hits),
        hitRate(row) ?? "",
        count(row.saved_input_tokens),
        count(row.saved_output_tokens),
      ]),
    ));
  }
  if (consumers.length > 0) {
    blocks.push(
      table(
        ["consumer", "its answers are kept"],
        consumers.map((row) => [row.consumer, ttlText(row.ttl_s, row.by_tenant)]),
      ),
    );
  }
  return blocks.join("\n\n");
}

const rateIn = (totals: CacheStats["totals"]) => {
  const rate = hitRate(totals);
  return rate === null ? "" : `, ${rate}`;
};
