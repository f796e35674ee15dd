import { MEDIA_KINDS, type MediaObject } from "../../../shared/database/media/media.ts";
import type { Command, Option } from "../command.ts";
import { CliFailure, misuse } from "../failure.ts";
import { asPath, readFromApi } from "../storage/api.ts";
import { downloadFile, nameForFile } from "../storage/download.ts";
import { mimeTypeOfName } from "../storage/mime_type.ts";
import { uploadFile } from "../storage/upload.ts";
import { bytes } from "../table.ts";
import { readChoice } from "../values.ts";

const tenantOption: Option = { value: "ID", help: "whose file; the default tenant's by default" };

/** Files out and in, with bars. */
export const fileCommands: Command[] = [
  {
    name: "storage upload",
    summary: "store a file, once",
    about:
      "It goes straight to the store, at an address that the gateway signs; JSON and HTML, which are stored packed, go\n" +
      "through the function as far as it takes them in one body. A file that is there already is not sent.",
    arguments: ["FILE"],
    options: {
      key: {
        value: "KEY",
        help: "a key of your own, such as chats/42/images/plan.png, by which it is found too",
      },
      "tenant-id": tenantOption,
      kind: { value: "KIND", help: "media (default) or crawl" },
      "mime-type": { value: "TYPE", help: "its type; by its name and its content by default" },
      metadata: { value: "JSON", help: "an object that is kept beside it" },
    },
    examples: [
      "storage upload plan.png",
      "storage upload plan.png --key chats/42/images/plan.png --tenant-id acme",
      `storage upload report.pdf --metadata '{"source":"scanner"}' --json`,
    ],
    async run(given, around) {
      const path = given.arguments[0]!;
      const kind = readChoice(given, "kind", ["media", "crawl"]) ?? MEDIA_KINDS[0];
      const metadata = readMetadata(given.option("metadata"));
      const { size, isFile } = await Deno.stat(path).catch((error: unknown) => {
        if (error instanceof Deno.errors.NotFound) throw new CliFailure(`There is no file ${path}.`);
        throw new CliFailure(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
      });
      if (!isFile) throw new CliFailure(`${path} is not a file.`);
      const name = path.split(/[/\\]/).at(-1)!;
      const { object, created } = await uploadFile(around.connect(), {
        path,
        name,
        sizeBytes: size,
        mimeType: given.option("mime-type") ?? mimeTypeOfName(name),
        kind,
        tenantId: given.option("tenant-id"),
        key: given.option("key"),
        metadata,
      }, around);
      const key = given.option("key");
      const file = { ...object, ...(key !== undefined && { key }), created };
      const what = created ? `${name} is stored` : `${name} was there already`;
      return {
        json: file,
        text: `${what}: ${bytes(size)}, tenant ${object.tenant_id}\n\n  ${key ?? object.sha256}`,
      };
    },
  },
  {
    name: "storage download",
    summary: "fetch a file by its key or its sha256",
    about: "What comes is held against the file's hash before it gets its name here.",
    arguments: ["NAME"],
    options: {
      output: { value: "FILE", help: "where to; the last part of the key by default" },
      force: { help: "also over a file that is there" },
      "tenant-id": tenantOption,
    },
    examples: [
      "storage download chats/42/images/plan.png",
      "storage download chats/42/images/plan.png --output /tmp/plan.png --force",
    ],
    async run(given, around) {
      const name = given.arguments[0]!;
      const tenantId = given.option("tenant-id");
      const connection = around.connect();
      const object = await readFromApi<MediaObject>(connection, `media/${asPath(name)}`, {
        tenant_id: tenantId,
        info: "true",
      }, around.signal);
      const path = given.option("output") ?? nameForFile(name, object);
      if (!given.switch("force") && await exists(path)) {
        throw new CliFailure(`${path} is there already. Say --output with another name, or --force.`);
      }
      await downloadFile(connection, { name, tenantId, object, path }, around);
      const size = object.size_bytes ?? object.stored_bytes;
      return {
        json: { path, sha256: object.sha256, size_bytes: size, mime_type: object.mime_type },
        text: `${path}: ${bytes(size)}`,
      };
    },
  },
];

function readMetadata(text: string | undefined): Record<string, unknown> | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw misuse(`--metadata must be a JSON object such as {"source":"scanner"}.`);
  }
  return value as Record<string, unknown>;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, (error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw new CliFailure(`${path}: ${error instanceof Error ? error.message : error}`);
  });
}
