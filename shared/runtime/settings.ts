import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";

/**
 * The largest body read by default: 10 MiB. Google takes 20 MB inline; a function has 256 MB and 2 s of CPU, and a body
 * is held as bytes, as text and as values at once.
 */
const DEFAULT_MAX_BODY_BYTES = 10 * 1024 * 1024;

/** Reads one variable of the environment. */
export type ReadVariable = (name: string) => string | undefined;

/**
 * Hosted functions have 150 s of wall clock on the free plan, and a client gets 504 if no byte came by then. What is left
 * of it is for settling.
 */
const DEFAULT_REQUEST_TIMEOUT_MS = 140_000;
/** Leaves a call 40 s of the 140: three times what a long answer of a Gemma model takes. */
const DEFAULT_MAX_WAIT_MS = 100_000;
/** A thinking model may be silent this long; the rest of the request's time bounds it as well. */
const DEFAULT_UPSTREAM_TIMEOUT_MS = 120_000;
/** A reservation takes milliseconds; after this the database counts as down, and the client gets an error. */
const DEFAULT_RPC_TIMEOUT_MS = 8_000;
/**
 * Connections that one isolate holds at most, with the direct transport. A call occupies one for a few milliseconds, and
 * a project on the smallest plan has 60 for all its isolates.
 */
const DEFAULT_DIRECT_CONNECTIONS = 4;
const MAX_DIRECT_CONNECTIONS = 20;
/** Hosted functions have 150 s on the free plan; the rest is for the last runs to end and to be written down. */
const DEFAULT_WORKER_SECONDS = 120;
/** Runs side by side. They wait for models nearly all the time; a function has 2 s of CPU for all of them together. */
const DEFAULT_WORKER_CONCURRENCY = 8;
/** The paid plans' wall clock, which no setting can stretch. */
const PLATFORM_WALL_CLOCK_MS = 400_000;

const wholeNumber = (unit: string, fallback: number, least: number, most: number) =>
  z.string().regex(/^\d+$/, `must be a whole number of ${unit}`).transform(Number)
    .pipe(z.number().min(least).max(most)).default(fallback);
const milliseconds = (fallback: number, least: number, most: number) =>
  wholeNumber("milliseconds", fallback, least, most);

const address = (protocol: RegExp, kind: string) =>
  z.url({
    protocol,
    error: ({ input }) => input === undefined ? "is not set" : `must be an address of ${kind}`,
  });

const keySet = z.string({ error: "is not set" }).transform((text, context) => {
  try {
    return z.record(z.string(), z.string().min(1)).parse(JSON.parse(text));
  } catch {
    // The text holds keys, so it is not repeated.
    context.addIssue('must be a JSON object of names and keys, such as {"default":"sb_secret_..."}');
    return z.NEVER;
  }
});

const variables = z.object({
  SUPABASE_URL: address(/^https?$/, "http or https"),
  SUPABASE_SECRET_KEYS: keySet,
  SUPABASE_PUBLISHABLE_KEYS: keySet.default({}),
  GOOGLE_API_BASE_URL: address(/^https?$/, "http or https").transform((url) => url.replace(/\/+$/, ""))
    .optional(),
  EVE_MAX_WAIT_MS: milliseconds(DEFAULT_MAX_WAIT_MS, 0, PLATFORM_WALL_CLOCK_MS),
  EVE_REQUEST_TIMEOUT_MS: milliseconds(DEFAULT_REQUEST_TIMEOUT_MS, 1_000, PLATFORM_WALL_CLOCK_MS),
  EVE_UPSTREAM_TIMEOUT_MS: milliseconds(DEFAULT_UPSTREAM_TIMEOUT_MS, 100, PLATFORM_WALL_CLOCK_MS),
  EVE_RPC_TIMEOUT_MS: milliseconds(DEFAULT_RPC_TIMEOUT_MS, 100, 60_000),
  EVE_MAX_BODY_BYTES: z.string().regex(/^\d+$/, "must be a whole number of bytes").transform(Number)
    .pipe(z.number().min(1_024).max(64 * 1024 * 1024)).default(DEFAULT_MAX_BODY_BYTES),
  EVE_MODERATION_MODEL: z.string().regex(/^[\x21-\x7e]{1,200}$/, "must be the name of a model").optional(),
  EVE_STRICT_FIELDS: z.enum(["true", "false"], { error: "must be true or false" }).default("false"),
  EVE_WORKER_SECONDS: wholeNumber("seconds", DEFAULT_WORKER_SECONDS, 5, 86_400),
  EVE_WORKER_CONCURRENCY: wholeNumber("jobs", DEFAULT_WORKER_CONCURRENCY, 1, 200),
  EVE_LEDGER_TRANSPORT: z.enum(["rest", "direct"], { error: "must be rest or direct" }).default("rest"),
  EVE_LEDGER_CONNECTIONS: z.string().regex(/^\d+$/, "must be a whole number").transform(Number)
    .pipe(z.number().min(1).max(MAX_DIRECT_CONNECTIONS)).default(DEFAULT_DIRECT_CONNECTIONS),
  EVE_LEDGER_POOLER: z.enum(["true", "false"], { error: "must be true or false" }).default("false"),
  SUPABASE_DB_URL: address(/^postgres(ql)?$/, "a PostgreSQL database, postgres://...").optional(),
}).refine((value) => value.EVE_LEDGER_TRANSPORT === "rest" || value.SUPABASE_DB_URL !== undefined, {
  path: ["SUPABASE_DB_URL"],
  error: "is needed by EVE_LEDGER_TRANSPORT=direct",
}).refine((value) => value.EVE_MAX_WAIT_MS < value.EVE_REQUEST_TIMEOUT_MS, {
  path: ["EVE_MAX_WAIT_MS"],
  error: "must be less than EVE_REQUEST_TIMEOUT_MS, or no time is left for the call itself",
});

export interface Settings {
  project: {
    url: string;
    secretKeys: Record<string, string>;
    publishableKeys: Record<string, string>;
  };
  /** The key with which the gateway itself reaches the database. */
  databaseKey: string;
  /** How the database is reached. Null: over the REST API; otherwise directly. */
  direct: { url: string; connections: number; pooler: boolean } | null;
  /** Where Google's API is; undefined: at Google. */
  googleBaseUrl: string | undefined;
  /** The longest `max_wait_ms` that a caller may ask for. */
  maxWaitMs: number;
  /** For a whole request: waiting, all attempts, and the pauses between them. */
  requestTimeoutMs: number;
  /** For one call of a model. */
  upstreamTimeoutMs: number;
  /** How long a caller is kept waiting for the database. */
  rpcTimeoutMs: number;
  maxBodyBytes: number;
  /** Who judges for `/moderations`; undefined: nobody. */
  moderationModel: string | undefined;
  /** Whether OpenAI's clients are refused for fields that an answer does without. */
  strictFields: boolean;
  /** How long one worker claims and runs jobs, and how many side by side. */
  worker: { budgetMs: number; concurrency: number };
}

/**
 * The settings, read once and checked.
 * @throws GatewayError `gateway_misconfigured`, its detail naming every variable that is wrong
 */
export function readSettings(read: ReadVariable): Settings {
  const names = Object.keys(variables.shape);
  // An empty variable is an unset one: shells and dashboards cannot always tell them apart.
  const parsed = variables.safeParse(
    Object.fromEntries(names.map((name) => [name, read(name) || undefined])),
  );
  if (!parsed.success) {
    const wrong = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new GatewayError("gateway_misconfigured", { detail: `settings: ${wrong.join("; ")}` });
  }
  const value = parsed.data;
  const secretKeys = value.SUPABASE_SECRET_KEYS;
  const databaseKey = secretKeys.default ?? Object.values(secretKeys)[0];
  if (databaseKey === undefined) {
    throw new GatewayError("gateway_misconfigured", {
      detail: "settings: SUPABASE_SECRET_KEYS: holds no key",
    });
  }
  return {
    project: { url: value.SUPABASE_URL, secretKeys, publishableKeys: value.SUPABASE_PUBLISHABLE_KEYS },
    databaseKey,
    direct: value.EVE_LEDGER_TRANSPORT === "direct" && value.SUPABASE_DB_URL !== undefined
      ? {
        url: value.SUPABASE_DB_URL,
        connections: value.EVE_LEDGER_CONNECTIONS,
        pooler: value.EVE_LEDGER_POOLER === "true",
      }
      : null,
    googleBaseUrl: value.GOOGLE_API_BASE_URL,
    maxWaitMs: value.EVE_MAX_WAIT_MS,
    requestTimeoutMs: value.EVE_REQUEST_TIMEOUT_MS,
    upstreamTimeoutMs: value.EVE_UPSTREAM_TIMEOUT_MS,
    rpcTimeoutMs: value.EVE_RPC_TIMEOUT_MS,
    maxBodyBytes: value.EVE_MAX_BODY_BYTES,
    moderationModel: value.EVE_MODERATION_MODEL,
    strictFields: value.EVE_STRICT_FIELDS === "true",
    worker: { budgetMs: value.EVE_WORKER_SECONDS * 1_000, concurrency: value.EVE_WORKER_CONCURRENCY },
  };
}
