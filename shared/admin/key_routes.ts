import { z } from "zod";
import { isReservedName } from "../runtime/secrets.ts";
import { probe } from "../stages/probe.ts";
import { route } from "./route.ts";

const text = z.string().trim().min(1).max(200);
const note = z.string().trim().max(2_000).nullish();
const priority = z.number().int().min(0).max(1_000_000);
/** As shells and the Edge secret store take it. What is the platform's or the gateway's own is never sent upstream as a key. */
const secretName = z.string().regex(/^[A-Z][A-Z0-9_]{0,127}$/, "must have capitals, digits and underscores")
  .refine((name) => !isReservedName(name), { error: "is reserved: take a name such as GOOGLE_API_KEY_1" });
const limit = z.number().int().min(0).max(2_147_483_647).nullable();
const usd = z.number().min(0).max(1_000_000).nullable();

const keyFields = {
  alias: text,
  env_var_name: secretName,
  quota_project: text.nullable(),
  priority,
  notes: note,
  is_active: z.boolean(),
};
const seenKey = z.looseObject({}).refine((seen) => Object.keys(seen).length <= 10);

/** Keys of the pool, models and prices. A key itself is in the Edge secret store: here is only its secret's name. */
export const keyRoutes = [
  route(
    "POST",
    "/keys/add",
    z.strictObject({
      alias: text,
      env_var_name: secretName,
      quota_project: text.nullish(),
      priority: priority.default(100),
      notes: note,
    }),
    async ({ dependencies }, asked) => ({
      key: await dependencies.keyPool.addKey({
        alias: asked.alias,
        envVarName: asked.env_var_name,
        quotaProject: asked.quota_project ?? null,
        priority: asked.priority,
        notes: asked.notes ?? null,
      }),
    }),
  ),

  route(
    "POST",
    "/keys/change",
    z.strictObject({
      id: z.uuid(),
      seen: seenKey,
      changes: z.strictObject(keyFields).partial(),
    }),
    async ({ dependencies }, { id, seen, changes: { notes, ...changes } }) => ({
      key: await dependencies.keyPool.changeKey(id, seen, {
        ...changes,
        ...(notes !== undefined && { notes }),
      }),
    }),
  ),

  // Asks Google with the secret of that name, which need not be a key's yet: so a key is tested before it is added.
  route(
    "POST",
    "/keys/test",
    z.strictObject({ env_var_name: secretName }),
    async ({ dependencies, signal }, { env_var_name }) => {
      const secret = dependencies.secrets(env_var_name);
      if (secret === null) return { status: "no_secret" as const, reason: null, models: null };
      return await probe(dependencies.inspectors, "gemini", { secret, settings: {} }, signal);
    },
  ),

  route("GET", "/models/all", z.strictObject({}), async ({ dependencies }) => ({
    models: await dependencies.keyPool.models(),
  })),

  route(
    "POST",
    "/models/change",
    z.strictObject({
      model: text,
      seen: z.looseObject({}).refine((seen) => Object.keys(seen).length <= 20),
      changes: z.strictObject({
        is_active: z.boolean(),
        replaced_by: text.nullable(),
        supports_system: z.boolean(),
        supports_json: z.boolean(),
        supports_tools: z.boolean(),
        supports_thinking: z.boolean(),
        max_output_tokens: z.number().int().min(1).max(10_000_000).nullable(),
      }).partial(),
      // Of the quota project that is named, or of all; `seen` has those limits too.
      limits: z.strictObject({ rpm: limit, tpm: limit, rpd: limit }).partial().optional(),
      quota_project: text.nullish(),
    }),
    async ({ dependencies, administrator }, { model, seen, changes, limits, quota_project }) => ({
      model: await dependencies.keyPool.changeModel(model, seen, changes, {
        ...(limits && { limits }),
        ...(quota_project && { quotaProject: quota_project, notes: `set by ${administrator.name}` }),
      }),
    }),
  ),

  route(
    "POST",
    "/limits/clear",
    z.strictObject({ quota_project: text, model: text.optional() }),
    async ({ dependencies }, { quota_project, model }) => ({
      cleared: await dependencies.reading.clearLimits(quota_project, model),
    }),
  ),

  route("GET", "/prices", z.strictObject({}), async ({ dependencies }) => ({
    prices: await dependencies.keyPool.prices(),
  })),

  route(
    "POST",
    "/prices/set",
    z.strictObject({ model: text, input_usd: usd, cached_usd: usd, output_usd: usd, is_free: z.boolean() }),
    async ({ dependencies }, asked) => ({ price: await dependencies.keyPool.setPrice(asked) }),
  ),
];
