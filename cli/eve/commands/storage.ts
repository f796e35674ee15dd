import {
  MEDIA_KINDS,
  type MediaObject,
  type StorageQuota,
  type StorageStats,
  type StorageUsage,
} from "../../../shared/database/media/media.ts";
import { bar } from "../chart.ts";
import type { Command, Option, Outcome } from "../command.ts";
import { EXIT, misuse } from "../failure.ts";
import { callFunction } from "../function_call.ts";
import { apiPath, asPath, postToApi, readFromApi, succeeded } from "../storage/api.ts";
import { bold, bytes, count, counted, exactly, green, instant, pairs, red, table, yellow } from "../table.ts";
import { readChoice, readDuration, readNumber } from "../values.ts";
import { cleanupCommands } from "./storage_cleanup.ts";
import { fileCommands } from "./storage_files.ts";

const LISTED_BY_DEFAULT = 100;
const MOST_LISTED = 10_000;
/** What the API gives at once. */
const PAGE = 1_000;
const BAR_WIDTH = 20;
/** The longest life of an address, as S3's own. */
const MOST_SECONDS = 604_800;

export const tenantOption: Option = {
  value: "ID",
  help: "whose files; those of the default tenant by default",
};
export const kindOption: Option = { value: "KIND", help: `${MEDIA_KINDS.join(", ")}` };

/** A page of `GET /v1/media`. */
interface Listed {
  tenant_id: string;
  files: (MediaObject & { key: string })[];
  next_cursor: string | null;
}

type Counter = StorageStats["total"];

export const storageCommands: Command[] = [
  {
    name: "storage quota",
    summary: "the limits for files, and what is used of each",
    arguments: [],
    options: { "tenant-id": tenantOption },
    examples: ["storage quota", "storage quota --tenant-id acme --json"],
    async run(given, { connect, signal }) {
      const quota = await readFromApi<StorageQuota>(connect(), "storage/quota", {
        tenant_id: given.option("tenant-id"),
      }, signal);
      const { total, tenant, kinds, spool } = quota;
      const text = `${
        counters([
          ["in all", total],
          [`tenant ${quota.tenant_id}`, tenant],
          ...MEDIA_KINDS.map((kind): [string, Counter] => [`kind ${kind}`, kinds[kind]]),
          ["in the database", spool],
        ])
      }\n\nFrom ${bytes(quota.emergency_threshold_bytes)} in all on, what is in use least is deleted.`;
      return { json: quota, text };
    },
  },
  {
    name: "storage usage",
    summary: "what is stored, by kind and by tenant",
    arguments: [],
    options: { "tenant-id": { value: "ID", help: "of this tenant alone" } },
    examples: ["storage usage", "storage usage --tenant-id acme"],
    async run(given, { connect, signal }) {
      const tenant = given.option("tenant-id");
      if (tenant === undefined) {
        const stats = await readFromApi<StorageStats>(connect(), "storage/stats", {}, signal);
        return { json: stats, text: describedStats(stats) };
      }
      const path = `storage/usage/${encodeURIComponent(tenant)}`;
      const usage = await readFromApi<StorageUsage>(connect(), path, {}, signal);
      return { json: usage, text: describedUsage(usage) };
    },
  },
  {
    name: "storage list",
    summary: "the files, in the order of their keys",
    about:
      "A prefix such as chats/42/ lists by the keys that programs chose; without one, or with media/, vision/ or\n" +
      "crawl/, by the keys in the store.",
    arguments: [],
    options: {
      prefix: { value: "TEXT", help: "only keys that begin so" },
      "tenant-id": tenantOption,
      kind: kindOption,
      aliases: { help: "by the keys that programs chose, whatever they begin with" },
      limit: {
        value: "N",
        help: `how many, up to ${count(MOST_LISTED)}; ${LISTED_BY_DEFAULT} by default`,
      },
      cursor: { value: "TEXT", help: "go on from here: what an earlier page told" },
    },
    examples: [
      "storage list",
      "storage list --prefix chats/42/ --limit 500",
      "storage list --kind crawl --json",
    ],
    async run(given, { connect, signal, progress }) {
      const wanted = readNumber(given, "limit") ?? LISTED_BY_DEFAULT;
      if (wanted < 1 || wanted > MOST_LISTED) {
        throw misuse(`--limit must be between 1 and ${count(MOST_LISTED)}.`);
      }
      const kind = readChoice(given, "kind", MEDIA_KINDS);
      const connection = connect();
      const files: Listed["files"] = [];
      let tenantId = given.option("tenant-id") ?? "default";
      let cursor = given.option("cursor") ?? null;
      do {
        const page: Listed = await readFromApi<Listed>(connection, "media", {
          tenant_id: given.option("tenant-id"),
          prefix: given.option("prefix"),
          kind,
          aliases: given.switch("aliases") ? "true" : undefined,
          limit: Math.min(wanted - files.length, PAGE),
          cursor: cursor ?? undefined,
        }, signal);
        tenantId = page.tenant_id;
        cursor = page.next_cursor;
        files.push(...page.files);
        progress(`${counted(files.length, "file")} ...`);
      } while (cursor !== null && files.length < wanted);
      return {
        json: { tenant_id: tenantId, files, next_cursor: cursor },
        text: files.length === 0 ? `Tenant ${tenantId} has no such file.` : describedFiles(files, cursor),
      };
    },
  },
  {
    name: "storage check-key",
    summary: "whether there is a file with this key, or this sha256; ends with 1 if there is none",
    arguments: ["KEY"],
    options: { "tenant-id": tenantOption },
    examples: ["storage check-key chats/42/images/plan.png"],
    async run(given, { connect, signal }): Promise<Outcome> {
      const key = given.arguments[0]!;
      const query = { tenant_id: given.option("tenant-id"), info: "true" };
      const answer = await callFunction(connect(), apiPath(`media/${asPath(key)}`, query), undefined, {
        method: "GET",
        signal,
      });
      if (answer.status === 404 && answer.body?.error?.code === "object_not_found") {
        return {
          json: { key, exists: false, file: null },
          text: red(`There is no file ${key}.`),
          exitCode: EXIT.failed,
        };
      }
      const file = succeeded<MediaObject>(answer);
      return { json: { key, exists: true, file }, text: describedFile(file) };
    },
  },
  {
    name: "storage url",
    summary: "an address at which anybody may read a file for a while",
    arguments: ["NAME"],
    options: {
      "expires-in": { value: "TIME", help: "how long: up to 7d; 1h by default" },
      "tenant-id": tenantOption,
    },
    examples: ["storage url chats/42/images/plan.png --expires-in 10m"],
    async run(given, { connect, signal }) {
      const seconds = readDuration("expires-in", given.option("expires-in") ?? "1h");
      if (seconds < 1 || seconds > MOST_SECONDS) throw misuse("--expires-in must be between 1s and 7d.");
      const answer = await postToApi<{ url: string; expires_at: string }>(
        connect(),
        `media/${asPath(given.arguments[0]!)}/url`,
        { expires_in: seconds },
        { query: { tenant_id: given.option("tenant-id") }, signal },
      );
      return { json: answer, text: `${answer.url}\n\nuntil ${instant(answer.expires_at)}` };
    },
  },
  ...fileCommands,
  ...cleanupCommands,
];

/** Limits with bars. */
function counters(rows: [string, Counter][]): string {
  return table(
    ["limit", "used>", "of>", "", "reserved>", "free>", "files>"],
    rows.map(([name, { used_bytes, reserved_bytes, limit_bytes, free_bytes, objects }]) => {
      const drawn = bar(used_bytes + reserved_bytes, limit_bytes, BAR_WIDTH).padEnd(BAR_WIDTH);
      return [
        name,
        bytes(used_bytes),
        bytes(limit_bytes),
        free_bytes === 0 ? red(drawn) : drawn,
        reserved_bytes === 0 ? "" : bytes(reserved_bytes),
        bytes(free_bytes),
        count(objects),
      ];
    }),
  );
}

function describedStats(stats: StorageStats): string {
  const { total, kinds, spool, tenants, limits, unfinished, unproven, deleting, spooled } = stats;
  const others: [string, string][] = [
    ["uploads under way", unfinished === 0 ? "" : count(unfinished)],
    ["not read again yet", unproven === 0 ? "" : count(unproven)],
    ["being deleted", deleting === 0 ? "" : count(deleting)],
    [
      "waiting for S3",
      spooled.objects === 0 ? "" : `${counted(spooled.objects, "file")} since ${instant(spooled.oldest_at)}`,
    ],
  ];
  const shown = others.filter(([, value]) => value !== "");
  const overruled = limits.filter(({ env_bytes, limit_bytes }) =>
    env_bytes !== null && env_bytes !== limit_bytes
  );
  return [
    counters([
      ["in all", total],
      ...MEDIA_KINDS.map((kind): [string, Counter] => [`kind ${kind}`, kinds[kind]]),
      ["in the database", spool],
      ...tenants.map((tenant): [string, Counter] => [`tenant ${tenant.tenant_id}`, tenant]),
    ]),
    ...(shown.length === 0 ? [] : [pairs(shown)]),
    ...overruled.map(({ name, variable, env_bytes, limit_bytes }) =>
      yellow(
        `${variable} says ${bytes(env_bytes ?? 0)} for the limit ${name}; the row says ${
          bytes(limit_bytes)
        }, and the row rules.`,
      )
    ),
  ].join("\n\n");
}

function describedUsage(usage: StorageUsage): string {
  const kinds = table(
    ["kind", "used>", "of it unused>", "files>"],
    MEDIA_KINDS.map((kind) => {
      const { used_bytes, without_references_bytes, objects } = usage.kinds[kind];
      return [kind, bytes(used_bytes), bytes(without_references_bytes), count(objects)];
    }),
  );
  return `${counters([[`tenant ${usage.tenant_id}`, usage]])}\n\n${kinds}`;
}

function describedFiles(files: Listed["files"], cursor: string | null): string {
  const rows = files.map((file) => [
    file.key,
    bytes(file.stored_bytes),
    file.mime_type ?? "",
    file.kind,
    count(file.refs_count),
    instant(file.last_seen_at),
  ]);
  const sum = files.reduce((total, file) => total + file.stored_bytes, 0);
  return [
    table(["key", "size>", "type", "kind", "uses>", "last used"], rows),
    `${counted(files.length, "file")}, ${bytes(sum)}`,
    ...(cursor === null ? [] : [`There are more: --cursor ${cursor}`]),
  ].join("\n\n");
}

export function describedFile(file: MediaObject & { key?: string }): string {
  const packed = file.content_encoding === null
    ? ""
    : `, stored as ${bytes(file.stored_bytes)} (${file.content_encoding})`;
  const facts: [string, string][] = [
    ["key", file.key === undefined ? "" : bold(file.key)],
    ["sha256", file.sha256],
    ["tenant", file.tenant_id],
    ["kind", file.kind],
    ["type", file.mime_type ?? ""],
    ["size", `${bytes(file.size_bytes ?? file.stored_bytes)}${packed}`],
    ["state", file.state === "verified" ? green(file.state) : yellow(file.state)],
    ["stored in", file.stored_in === "s3" ? "S3" : "the database"],
    ["key in the store", file.s3_key ?? ""],
    ["uses", count(file.refs_count)],
    ["first seen", exactly(file.first_seen_at)],
    ["last used", exactly(file.last_seen_at)],
    ["metadata", Object.keys(file.metadata).length === 0 ? "" : JSON.stringify(file.metadata)],
  ];
  return pairs(facts.filter(([, value]) => value !== ""));
}
