import * as z from "zod";
import { GatewayError } from "../../contract/gateway_error.ts";
import { invalidRequest } from "../validated.ts";

/** Things that OpenAI's and Anthropic's clients know by an id with a word before it. */
const PREFIXES = {
  file: "file-",
  batch: "batch_",
  response: "resp_",
  upload: "upload_",
  part: "part_",
  "message batch": "msgbatch_",
} as const;
type Thing = keyof typeof PREFIXES;

const HEX = /^[0-9a-f]{32}$/;

/** `batch_` and the id's 32 digits. */
export function objectId(thing: Thing, uuid: string): string {
  return PREFIXES[thing] + uuid.replaceAll("-", "");
}

/** @throws GatewayError `not_found`: there is nothing by such an id */
export function uuidIn(thing: Thing, id: string): string {
  const hex = id.startsWith(PREFIXES[thing]) ? id.slice(PREFIXES[thing].length) : "";
  if (!HEX.test(hex)) {
    throw new GatewayError("not_found", { message: `There is no ${thing} ${id.slice(0, 100)}.` });
  }
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A form's fields. @throws GatewayError `invalid_request`: it has others */
export function fieldsOf<Name extends string>(
  form: FormData,
  names: readonly Name[],
): Record<Name, File | string | null> {
  const unknown = [...form.keys()].filter((name) => !(names as readonly string[]).includes(name));
  if (unknown.length > 0) {
    throw invalidRequest(
      unknown.slice(0, 10).map((field) => ({
        field: field.slice(0, 100),
        problem: "this endpoint knows no such field",
      })),
    );
  }
  return Object.fromEntries(names.map((name) => [name, form.get(name)])) as Record<
    Name,
    File | string | null
  >;
}

/** As OpenAI bounds it. */
const MAX_METADATA = 16;

/** A caller's own words about a thing that is kept. */
export const metadata = z.record(z.string().max(64), z.string().max(512))
  .refine((said) => Object.keys(said).length <= MAX_METADATA, `must have at most ${MAX_METADATA} entries`)
  .refine(isStorable, "must not hold the character U+0000, or half of a character")
  .nullish();

function isStorable(said: Record<string, string>): boolean {
  return Object.entries(said).flat().every((text) => text.isWellFormed() && !text.includes("\0"));
}

/** Seconds since 1970, as OpenAI tells times. */
export function secondsOf(time: string): number {
  return Math.floor(Date.parse(time) / 1_000);
}

/** The query of a list. */
export function pageOf(mostItems: number) {
  return z.strictObject({
    after: z.string().max(100).optional(),
    limit: z.coerce.number({ error: "must be a whole number" }).int().min(1).max(mostItems).optional(),
  });
}
