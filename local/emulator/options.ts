/**
 * What the emulator can be told when it starts, with the defaults of the demonstration.
 */

import { z } from "zod";
import { ERROR_NAMES, type ErrorName } from "./errors.ts";
import { type ModelOption, THINKING_LEVELS } from "./models.ts";

const limit = z.int().nonnegative().nullable();

export const limitsSchema = z.strictObject({
  rpm: limit.optional(),
  tpm: limit.optional(),
  rpd: limit.optional(),
});

export const windowSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("fixed"), offsetMs: z.int().default(0) }),
  z.strictObject({ kind: z.literal("sliding") }),
  z.strictObject({ kind: z.literal("token_bucket"), burst: z.number().positive().optional() }),
]);

const modelSchema = z.strictObject({
  name: z.string().min(1),
  displayName: z.string().optional(),
  methods: z.array(
    z.enum([
      "generateContent",
      "streamGenerateContent",
      "countTokens",
      "embedContent",
      "batchEmbedContents",
    ]),
  )
    .optional(),
  limits: limitsSchema.optional(),
  inputTokenLimit: z.int().positive().optional(),
  outputTokenLimit: z.int().positive().optional(),
  system: z.boolean().optional(),
  json: z.boolean().optional(),
  tools: z.boolean().optional(),
  toolsWithJson: z.boolean().optional(),
  search: z.boolean().optional(),
  images: z.boolean().optional(),
  thinking: z.strictObject({
    levels: z.array(z.enum(THINKING_LEVELS)),
    budget: z.boolean(),
    default: z.enum(THINKING_LEVELS),
    shown: z.enum(["always", "when_asked"]),
  }).nullable().optional(),
  thoughtSignatures: z.boolean().optional(),
  withdrawn: z.boolean().optional(),
});

/** Longest pause between chunks or before an answer: ten minutes. */
const MAX_LATENCY_MS = 600_000;

export const configSchema = z.strictObject({
  /** 0 takes a free port. */
  port: z.int().min(0).max(65_535).default(0),
  hostname: z.string().default("127.0.0.1"),
  keys: z.array(z.strictObject({
    key: z.string().min(1),
    project: z.string().min(1),
    /** An error that every call with this key gets. */
    error: z.enum(ERROR_NAMES as [ErrorName, ...ErrorName[]]).optional(),
  })).default([
    { key: "demo-key-a", project: "demo-one" },
    { key: "demo-key-b", project: "demo-one" },
    { key: "demo-key-c", project: "demo-two" },
  ]),
  /** The whole list of models; what a model leaves out comes from the default row of its name. */
  models: z.array(modelSchema).optional(),
  /** What differs in a project from the models' own limits. Paid projects have other quota names. */
  projects: z.record(
    z.string(),
    z.strictObject({
      tier: z.enum(["free", "paid"]).default("free"),
      /** Google's number of the project; made up from its name unless given. */
      number: z.string().regex(/^\d+$/).optional(),
      limits: z.record(z.string(), limitsSchema).default({}),
    }),
  ).default({}),
  window: windowSchema.default({ kind: "fixed", offsetMs: 0 }),
  /** How long a minute of the limits is, for tests. The Pacific day is always a day. */
  minuteMs: z.int().positive().default(60_000),
  /** Whether a request that is refused with 429 uses quota as an admitted one does. */
  countRefused: z.boolean().default(false),
  /** Time to the answer or its first chunk, and between chunks. */
  latencyMs: z.int().nonnegative().max(MAX_LATENCY_MS).default(0),
  chunkDelayMs: z.int().nonnegative().max(MAX_LATENCY_MS).default(0),
  /** How many admitted requests and how many whole requests are remembered. */
  keepAdmitted: z.int().nonnegative().default(20_000),
  keepRequests: z.int().nonnegative().default(200),
});

/** What may be put into EMULATOR_CONFIG. */
export type EmulatorConfig = z.input<typeof configSchema> & { models?: ModelOption[] };
export type Settings = z.output<typeof configSchema>;

export interface EmulatorOptions extends EmulatorConfig {
  /** Milliseconds since the epoch; the limits, the Pacific day and the journal go by it. */
  now?: () => number;
}

/** @throws Error with one line for each thing that is wrong. */
export function readConfig(config: unknown): Settings {
  const read = configSchema.safeParse(config);
  if (read.success) return read.data;
  const lines = read.error.issues.map((issue) => `  ${issue.path.join(".") || "(whole)"}: ${issue.message}`);
  throw new Error(`The emulator's configuration is not usable:\n${lines.join("\n")}`);
}
