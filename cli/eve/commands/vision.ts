import type { z } from "zod";
import type {
  budgets,
  enrichedPost,
  enrichment,
  post,
  savedPolicy,
  visionStats,
} from "../../../shared/database/vision.ts";
import { HEADER_BYTES, pictureHeader } from "../../../shared/vision/header.ts";
import { decide, type VisionPolicy } from "../../../shared/vision/policy.ts";
import { sha256Of } from "../../../shared/runtime/sha256.ts";
import type { Command, CommandDependencies, Given, Option } from "../command.ts";
import type { Connection } from "../connection.ts";
import { CliFailure, EXIT, misuse } from "../failure.ts";
import { callFunction } from "../function_call.ts";
import { apiPath, postToApi, readFromApi, succeeded } from "../storage/api.ts";
import { mimeTypeOfName } from "../storage/mime_type.ts";
import { uploadFile } from "../storage/upload.ts";
import { bold, count, counted, green, instant, pairs, red, table, yellow } from "../table.ts";
import { readChoice, readNumber } from "../values.ts";

const tenantOption: Option = { value: "ID", help: "whose; the default tenant's by default" };
const STATUSES = ["failed", "invalid", "skipped"] as const;
type Post = z.output<typeof post>;
type Enrichment = z.output<typeof enrichment>;
type Budgets = z.output<typeof budgets>;

export const visionCommands: Command[] = [
  {
    name: "posts add",
    summary: "bring a post with its pictures, and have them looked at",
    about:
      "A --source and --external-id that are there already are that post: pictures that it did not have are added.",
    arguments: [],
    options: {
      source: { value: "TEXT", help: "where it comes from, such as telegram:city_events; cli by default" },
      "external-id": { value: "ID", help: "the source's own name of it" },
      text: { value: "TEXT", help: "its words" },
      "published-at": { value: "TIME", help: "such as 2026-11-22T18:00:00Z" },
      media: { value: "FILES", help: "its pictures, with commas between them" },
      "tenant-id": tenantOption,
    },
    examples: [
      "posts add --text 'Concert tonight' --media poster.jpg",
      "posts add --source telegram:city --external-id 7 --media one.png,two.png --json",
    ],
    async run(given, around) {
      const connection = around.connect();
      const media: string[] = [];
      for (const path of (given.option("media") ?? "").split(",").map((each) => each.trim())) {
        if (path !== "") media.push((await stored(connection, path, given, around)).sha256);
      }
      const added = await postToApi<Post>(connection, "intake/posts", {
        tenant_id: given.option("tenant-id"),
        source: given.option("source") ?? "cli",
        external_id: given.option("external-id"),
        text: given.option("text"),
        published_at: given.option("published-at"),
        media,
      }, { signal: around.signal });
      return {
        json: added,
        text: `${
          counted(added.media.length, "picture")
        }, tenant ${added.tenant_id}\n\n  ${added.id}\n\nSee what was found: vision check --post-id ${added.id}`,
      };
    },
  },
  {
    name: "vision check",
    summary: "what was found in a post's pictures, and why it was done so; ends with 1 if one has failed",
    arguments: [],
    options: { "post-id": { value: "ID", help: "the post" } },
    examples: ["vision check --post-id 5f0c4c0e-8d0a-4b52-9a53-6d1f3f0f1a11"],
    async run(given, { connect, signal }) {
      const id = given.option("post-id");
      if (id === undefined) throw misuse("Say which post: --post-id ID.");
      const found = await readFromApi<z.output<typeof enrichedPost>>(
        connect(),
        `vision/posts/${encodeURIComponent(id)}`,
        {},
        signal,
      );
      const bad = found.enrichment.some(({ status }) => status === "failed" || status === "invalid");
      const text = found.enrichment.length === 0
        ? "The post has no pictures."
        : found.enrichment.map(described).join("\n\n");
      return { json: found, text, ...(bad && { exitCode: EXIT.failed }) };
    },
  },
  {
    name: "vision stats",
    summary: "how a tenant's pictures stand, what they wait for, and what was decided",
    arguments: [],
    options: {
      "tenant-id": tenantOption,
      days: { value: "N", help: "of the last so many days; 30 by default" },
    },
    examples: ["vision stats", "vision stats --tenant-id acme --days 7"],
    async run(given, { connect, signal }) {
      const stats = await readFromApi<z.output<typeof visionStats>>(connect(), "vision/stats", {
        tenant_id: given.option("tenant-id"),
        days: readNumber(given, "days"),
      }, signal);
      const parts = [
        pairs([
          ...Object.entries(stats.pictures).map((
            [status, pictures],
          ): [string, string] => [status, count(pictures)]),
          ["tokens", count(stats.tokens)],
          ["from the cache", count(stats.from_cache)],
          ["looked the same", count(stats.copied)],
        ]),
        ...(stats.waits_for.length === 0 ? [] : [
          table(
            ["waits for", "pictures"],
            stats.waits_for.map(({ reason, pictures }) => [reason, count(pictures)]),
          ),
        ]),
        ...(stats.decisions.length === 0 ? [] : [
          table(
            ["decision", "reason", "times"],
            stats.decisions.map(({ action, reason, times }) => [action, reason, count(times)]),
          ),
        ]),
      ];
      return { json: stats, text: parts.join("\n\n") };
    },
  },
  {
    name: "vision test",
    summary: "what the policy would do with a picture; with --run, what is found in it",
    arguments: [],
    options: {
      "media-file": { value: "FILE", help: "the picture" },
      run: { help: "store it and have it looked at, within the budget" },
      source: { value: "TEXT", help: "as if it came from there; cli by default" },
      "tenant-id": tenantOption,
    },
    examples: ["vision test --media-file image.jpg", "vision test --media-file image.jpg --run"],
    async run(given, around) {
      const path = given.option("media-file");
      if (path === undefined) throw misuse("Say which picture: --media-file FILE.");
      const connection = around.connect();
      if (given.switch("run")) {
        const { sha256 } = await stored(connection, path, given, around);
        const found = await postToApi<z.output<typeof enrichedPost>>(connection, "vision/analyze", {
          tenant_id: given.option("tenant-id"),
          sha256,
        }, { signal: around.signal });
        return { json: found, text: found.enrichment.map(described).join("\n\n") };
      }
      const { in_force: policy } = await readFromApi<
        z.output<typeof savedPolicy> & { in_force: VisionPolicy }
      >(
        connection,
        "vision/policy",
        { tenant_id: given.option("tenant-id") },
        around.signal,
      );
      const bytes = await readPicture(path);
      const header = pictureHeader(bytes.subarray(0, HEADER_BYTES));
      const mimeType = header?.mimeType ?? mimeTypeOfName(path);
      // The worker knows who is set up; here all that the policy names are taken to be, and to take it.
      const named = [...policy.text_first, ...policy.analysts];
      const available = (named.length > 0 ? named : ["the analysts of the settings"]).map((name) => ({
        name,
        capabilities: {
          mimeTypes: new Set([mimeType]),
          maxBytes: Infinity,
          maxPixels: null,
          spendsTokens: true,
          readsTextOnly: false,
        },
      }));
      const decision = decide(
        policy,
        {
          sha256: await sha256Of(bytes),
          mimeType,
          sizeBytes: bytes.byteLength,
          width: header?.width ?? null,
          height: header?.height ?? null,
          source: given.option("source") ?? "cli",
          publishedAtMs: around.now(),
          similar: null,
          underWay: null,
        },
        available,
        around.now(),
      );
      const size = header === null ? "no picture" : `${header.mimeType}, ${header.width} x ${header.height}`;
      return {
        json: { header, decision },
        text: `${size}\n${bold(decision.action)} (${decision.reason}): ${decision.message}`,
      };
    },
  },
  {
    name: "vision requeue",
    summary: "have pictures looked at once more: a post's, or a tenant's with a status",
    about: "A thousand at once. What was found already costs nothing.",
    arguments: [],
    options: {
      "post-id": { value: "ID", help: "those of this post" },
      status: { value: "STATUS", help: `those of the tenant that are ${STATUSES.join(", ")}` },
      "tenant-id": tenantOption,
    },
    examples: [
      "vision requeue --status failed",
      "vision requeue --post-id 5f0c4c0e-8d0a-4b52-9a53-6d1f3f0f1a11",
    ],
    async run(given, { connect, signal }) {
      const body = {
        tenant_id: given.option("tenant-id"),
        post_id: given.option("post-id"),
        status: readChoice(given, "status", STATUSES),
      };
      if (body.post_id === undefined && body.status === undefined) {
        throw misuse("Say which: --post-id ID, or --status failed.");
      }
      const { queued } = await postToApi<{ queued: number }>(connect(), "vision/requeue", body, { signal });
      return { json: { queued }, text: `${counted(queued, "picture")} queued.` };
    },
  },
  {
    name: "vision budget",
    summary: "a tenant's budgets and what is used of them; with --set, sets all of them",
    about:
      "Each is PROVIDER:PERIOD:UNIT=N: an analyst or * for all, day or month (of UTC), tokens or pictures.\n" +
      "What --set does not name goes; --set none takes all away.",
    arguments: [],
    options: {
      "tenant-id": tenantOption,
      set: { value: "LIST", help: "all budgets, with commas between them; or none" },
    },
    examples: [
      "vision budget",
      "vision budget --set '*:day:tokens=200000,*:month:pictures=5000' --tenant-id acme",
    ],
    async run(given, { connect, signal }) {
      const connection = connect();
      const tenant_id = given.option("tenant-id");
      const set = given.option("set");
      const found = set === undefined
        ? await readFromApi<Budgets>(connection, "vision/budgets", { tenant_id }, signal)
        : succeeded<Budgets>(
          await callFunction(
            connection,
            apiPath("vision/budgets"),
            { tenant_id, budgets: readBudgets(set) },
            {
              method: "PUT",
              signal,
            },
          ),
        );
      const text = found.budgets.length === 0
        ? `Tenant ${found.tenant_id} has no budgets: there is no limit.`
        : table(
          ["analyst", "per", "unit", "used", "under way", "budget", "ends"],
          found.budgets.map(({ provider, period, unit, most, used, reserved, ends_at }) => [
            provider,
            period,
            unit,
            count(used),
            count(reserved),
            count(most),
            instant(ends_at),
          ]),
        );
      return { json: found, text };
    },
  },
];

function readBudgets(text: string) {
  if (text.trim() === "none") return [];
  return text.split(",").map((one) => {
    const [, provider, period, unit, most] =
      /^\s*(.+):(day|month):(tokens|pictures)=(\d{1,15})\s*$/.exec(one) ?? [];
    if (provider === undefined) throw misuse(`${one.trim()} is no budget such as *:day:tokens=200000.`);
    return { provider, period, unit, most: Number(most) };
  });
}

async function readPicture(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return await Deno.readFile(path).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) throw new CliFailure(`There is no file ${path}.`);
    throw new CliFailure(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  });
}

async function stored(
  connection: Connection,
  path: string,
  given: Given,
  around: CommandDependencies,
): Promise<{ sha256: string }> {
  const bytes = await readPicture(path);
  const name = path.split(/[/\\]/).at(-1)!;
  const { object } = await uploadFile(connection, {
    path,
    name,
    sizeBytes: bytes.byteLength,
    mimeType: pictureHeader(bytes.subarray(0, HEADER_BYTES))?.mimeType ?? mimeTypeOfName(name),
    kind: "media",
    tenantId: given.option("tenant-id"),
    key: undefined,
    metadata: undefined,
  }, around);
  return object;
}

function described(one: Enrichment): string {
  const colour = one.status === "done"
    ? green
    : one.status === "waiting" || one.status === "skipped"
    ? yellow
    : red;
  const rows: [string, string | null][] = [
    ["reason", one.reason],
    [
      "decision",
      one.decision === null
        ? null
        : `${one.decision.action} (${one.decision.reason}): ${one.decision.detail.message ?? ""}`,
    ],
    ["by", one.model === null ? null : `${one.analyst}, ${one.model}, resolution ${one.resolution}`],
    [
      "tokens",
      one.status === "done" || one.tokens > 0
        ? `${count(one.tokens)}${one.from_cache ? ", from the cache" : ""}`
        : null,
    ],
    ["looks like", one.same_as],
    ["description", one.vision_description || null],
    ["labels", one.labels.join(", ") || null],
    ["scene", one.scene],
    ["text", one.ocr_text || null],
  ];
  return `${colour(one.status)} ${one.file_sha256 ?? ""}\n${
    pairs(rows.filter((row): row is [string, string] => row[1] !== null))
  }`;
}
