import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import type { ReadVariable } from "../runtime/settings.ts";

export interface S3Settings {
  /** Without a slash at its end. It may have a path, as Supabase Storage's `/storage/v1/s3`. */
  endpoint: string;
  region: string;
  bucket: string;
  /** May hold a colon: Cloud.ru's is `<tenant_id>:<key_id>`. */
  accessKeyId: string;
  secretAccessKey: string;
}

export interface StorageSettings {
  /** Null: no S3 is set up. */
  s3: S3Settings | null;
  /** Of one file, as it is stored. */
  maxFileBytes: number;
  /** Larger files go to S3 in parts of so many bytes. */
  partBytes: number;
  /** `S3_DEFAULT_TENANT_ID`. Null: a tenant named `default` serves. */
  defaultTenantId: string | null;
}

const CLOUD_RU_ENDPOINT = "https://s3.cloud.ru";
const CLOUD_RU_REGION = "ru-central-1";
/** From here on an upload in parts is the better way, for the sake of lines that break. */
const DEFAULT_MAX_FILE_MB = 100;
/** What S3 takes in one PUT, Cloud.ru's too. */
const MAX_FILE_MB = 5_000;
/** One that breaks off is sent again, and no more than that. */
const DEFAULT_PART_MB = 100;
/** S3 takes no smaller ones than 5 MiB, but for the last. */
const MIN_PART_MB = 5.25;
/** As everywhere in storage: 10^6. */
const BYTES_PER_MB = 1_000_000;

/** Each setting by the names that it is known by; the first is the one that messages use. */
const NAMES = {
  endpoint: ["S3_ENDPOINT_URL"],
  region: ["S3_REGION"],
  bucket: ["S3_BUCKET_NAME", "S3_BUCKET"],
  accessKeyId: ["S3_ACCESS_KEY_ID", "S3_ACCESS_KEY"],
  secretAccessKey: ["S3_SECRET_ACCESS_KEY", "S3_SECRET_KEY"],
  defaultTenantId: ["S3_DEFAULT_TENANT_ID"],
  maxFileMb: ["MAX_FILE_SIZE_MB"],
  partMb: ["S3_PART_SIZE_MB"],
} as const;
type Name = keyof typeof NAMES;

const variables = z.object({
  endpoint: z.string().refine(
    isPlainAddress,
    "must be an address such as https://s3.cloud.ru, without a credential, query or fragment",
  ).transform((text) => text.replace(/\/+$/, "")).default(CLOUD_RU_ENDPOINT),
  region: z.string().regex(/^[A-Za-z0-9-]{1,64}$/, "must be letters, digits and -").default(CLOUD_RU_REGION),
  bucket: z.string().regex(
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
    "must be a bucket's name: 3 to 63 small letters, digits, - and .",
  ).optional(),
  // What is wrong with a credential is said without repeating it.
  accessKeyId: z.string().regex(/^[\x21-\x2b\x2d\x2e\x30-\x7e]{1,256}$/, "must hold no space, comma or slash")
    .optional(),
  secretAccessKey: z.string().regex(/^[\x21-\x7e]{1,256}$/, "must hold no space").optional(),
  defaultTenantId: z.string().regex(
    /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/,
    "must be at most 100 letters, digits, -, _ and ., and not begin with a dot",
  ).optional(),
  maxFileMb: z.string().regex(/^\d{1,4}(\.\d{1,6})?$/, "must be a number of megabytes").transform(Number)
    .pipe(
      z.number().gt(0).lte(MAX_FILE_MB, `must be at most ${MAX_FILE_MB}: one upload takes no more`),
    ).default(DEFAULT_MAX_FILE_MB),
  partMb: z.string().regex(/^\d{1,4}(\.\d{1,6})?$/, "must be a number of megabytes").transform(Number)
    .pipe(
      z.number().gte(MIN_PART_MB, `must be at least ${MIN_PART_MB}: S3 takes no smaller parts`)
        .lte(MAX_FILE_MB, `must be at most ${MAX_FILE_MB}: one part takes no more`),
    ).default(DEFAULT_PART_MB),
});

function isPlainAddress(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, username, password, search, hash } = new URL(text);
  return /^https?:$/.test(protocol) && username + password + search + hash === "";
}

/**
 * Where files are kept, read once and checked. S3 is set up when any of its address, bucket or keys is set; then bucket and both
 * keys are needed. An empty variable is an unset one.
 * @throws GatewayError `gateway_misconfigured`, its detail naming every variable that is wrong, and no value
 */
export function readStorageSettings(read: ReadVariable): StorageSettings {
  const wrong: string[] = [];
  const found: Partial<Record<Name, string>> = {};
  for (const name of Object.keys(NAMES) as Name[]) {
    const set = NAMES[name].map((variable) => ({ variable, value: read(variable)?.trim() || undefined }))
      .filter(({ value }) => value !== undefined);
    if (set.length > 1 && set[0]!.value !== set[1]!.value) {
      wrong.push(`${set[0]!.variable} and ${set[1]!.variable}: are both set and differ`);
    }
    if (set[0] !== undefined) found[name] = set[0].value!;
  }
  const used = (["endpoint", "bucket", "accessKeyId", "secretAccessKey"] as const)
    .some((name) => found[name] !== undefined);
  if (used) {
    for (const name of ["bucket", "accessKeyId", "secretAccessKey"] as const) {
      if (found[name] === undefined) wrong.push(`${NAMES[name][0]}: is needed, as S3 is set up`);
    }
  }
  const parsed = variables.safeParse(found);
  if (!parsed.success) {
    wrong.push(...parsed.error.issues.map(({ path, message }) => `${NAMES[path[0] as Name][0]}: ${message}`));
  }
  if (!parsed.success || wrong.length > 0) {
    throw new GatewayError("gateway_misconfigured", { detail: `settings: ${wrong.join("; ")}` });
  }
  const { endpoint, region, bucket, accessKeyId, secretAccessKey, defaultTenantId, maxFileMb, partMb } =
    parsed.data;
  return {
    s3: bucket !== undefined && accessKeyId !== undefined && secretAccessKey !== undefined
      ? { endpoint, region, bucket, accessKeyId, secretAccessKey }
      : null,
    maxFileBytes: Math.floor(maxFileMb * BYTES_PER_MB),
    partBytes: Math.floor(partMb * BYTES_PER_MB),
    defaultTenantId: defaultTenantId ?? null,
  };
}
