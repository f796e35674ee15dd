import { secretSourceOf } from "../contract/secret_source.ts";
import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { isReservedName } from "../runtime/secrets.ts";
import type { EnteredSecret } from "../database/key_pool.ts";
import { invalidRequest } from "../endpoints/validated.ts";
import { changesOf, planImport } from "../limits/plan.ts";
import { readLimitsTable } from "../limits/table.ts";
import { factsOfKey } from "../secrets/key_facts.ts";
import { bindingOf } from "../stages/key_binding.ts";
import { poolSecret } from "../stages/pool_secret.ts";
import { probe } from "../stages/probe.ts";
import { encryptionOf, providerKey } from "./provider_routes.ts";
import { type AdminRequest, route } from "./route.ts";

const text = z.string().trim().min(1).max(200);
const note = z.string().trim().max(2_000).nullish();
const priority = z.number().int().min(0).max(1_000_000);
/** As shells and the Edge secret store take it. What is the platform's or the gateway's own is never sent upstream as a key. */
const secretName = z.string().regex(/^[A-Z][A-Z0-9_]{0,127}$/, "must have capitals, digits and underscores")
  .refine((name) => !isReservedName(name), { error: "is reserved: take a name such as GOOGLE_API_KEY_1" });
/** Of a secret that is stored here. */
const storedName = z.string().regex(/^stored:[0-9a-f-]{36}$/);
const limit = z.number().int().min(0).max(2_147_483_647).nullable();
const share = z.number().min(0).max(0.9);
/** Google's own table has some 3,000. */
const MAX_TABLE_CHARS = 200_000;
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

/** Keys of the pool, models and prices. */
export const keyRoutes = [
  route("GET", "/keys", z.strictObject({}), async ({ dependencies }) => {
    const [keys, stored] = await Promise.all([
      dependencies.reading.keys(),
      dependencies.keyPool.storedSecrets(),
    ]);
    const byKey = new Map(stored.map(({ key_id, ...facts }) => [key_id, facts]));
    return {
      keys: keys.map((key) => ({ ...key, stored: byKey.get(key.id) ?? null })),
      encryption: encryptionOf(dependencies),
    };
  }),

  // By the name of an Edge secret, or with the secret itself.
  route(
    "POST",
    "/keys/add",
    z.strictObject({
      alias: text,
      env_var_name: secretName.optional(),
      api_key: providerKey.optional(),
      quota_project: text.nullish(),
      priority: priority.default(100),
      notes: note,
    }),
    async (context, { env_var_name, api_key, ...asked }) => {
      if ((env_var_name === undefined) === (api_key === undefined)) {
        throw invalidRequest([{
          field: "env_var_name",
          problem: "must be given, or else api_key, and not both",
        }]);
      }
      return {
        key: await context.dependencies.keyPool.addKey({
          alias: asked.alias,
          source: api_key === undefined ? { envVarName: env_var_name! } : await entered(context, api_key),
          quotaProject: asked.quota_project ?? null,
          priority: asked.priority,
          notes: asked.notes ?? null,
        }),
      };
    },
  ),

  route(
    "POST",
    "/keys/change",
    z.strictObject({
      id: z.uuid(),
      seen: seenKey,
      changes: z.strictObject(keyFields).partial(),
      // Takes the place of the name or the secret that the key had.
      api_key: providerKey.optional(),
    }),
    async (context, { id, seen, changes: { notes, ...changes }, api_key }) => ({
      key: await context.dependencies.keyPool.changeKey(
        id,
        seen,
        { ...changes, ...(notes !== undefined && { notes }) },
        api_key === undefined ? undefined : await entered(context, api_key),
      ),
    }),
  ),

  route("POST", "/keys/remove", z.strictObject({ id: z.uuid() }), async ({ dependencies }, { id }) => ({
    removed: await dependencies.keyPool.removeKey(id),
  })),

  // Asks Google with the secret of that name, or with this one, which need not be a key's yet: so a key is tested before it is added.
  route(
    "POST",
    "/keys/test",
    z.union([
      z.strictObject({ env_var_name: secretName.or(storedName) }),
      z.strictObject({ api_key: providerKey }),
    ]),
    async ({ dependencies, signal }, asked) => {
      const secret = "api_key" in asked
        ? asked.api_key
        : await poolSecret(secretSourceOf(asked.env_var_name), "google", dependencies);
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
      limits: z.strictObject({
        rpm: limit,
        tpm: limit,
        rpd: limit,
        // Of all: a quota project has none of its own.
        batch_floor: share,
        interactive_floor: z.number().int().min(0).max(2_147_483_647),
        interactive_reserve: share,
        interactive_reserve_day: share,
      }).partial().optional(),
      quota_project: text.nullish(),
    }),
    async ({ dependencies, administrator }, { model, seen, changes, limits, quota_project }) => ({
      model: await dependencies.keyPool.changeModel(model, seen, changes, {
        ...(limits && { limits }),
        ...(quota_project && { quotaProject: quota_project, notes: `set by ${administrator.name}` }),
      }),
    }),
  ),

  // A table that was copied from Google's documentation or AI Studio: what it would change, and with that sent along, changes it.
  route(
    "POST",
    "/limits/import",
    z.strictObject({
      text: z.string().min(1).max(MAX_TABLE_CHARS),
      quota_project: text.nullish(),
      add_models: z.boolean().default(false),
      planned: z.array(z.unknown()).min(1).max(1_000).optional(),
    }),
    async ({ dependencies: { reading }, administrator }, asked) => {
      const quotaProject = asked.quota_project ?? undefined;
      if (quotaProject !== undefined && asked.add_models) {
        throw invalidRequest([{
          field: "add_models",
          problem: "adds models for every project: leave quota_project out",
        }]);
      }
      const now = await reading.limits();
      if (quotaProject !== undefined && !now.quota_projects.includes(quotaProject)) {
        throw invalidRequest([{ field: "quota_project", problem: "is no key's" }]);
      }
      const plan = planImport(readLimitsTable(asked.text), now, {
        quotaProject,
        addModels: asked.add_models,
      });
      if (asked.planned === undefined) return { applied: false, ...plan };
      if (plan.problems.length > 0) {
        throw invalidRequest(
          plan.problems.map(({ line, message }) => ({ field: `text, line ${line}`, problem: message })),
        );
      }
      if (JSON.stringify(asked.planned) !== JSON.stringify(plan.changes)) {
        throw new GatewayError("changed_meanwhile", {
          message: "The limits have been changed since the table was compared.",
        });
      }
      await reading.setLimits(changesOf(plan), {
        quotaProject,
        addModels: asked.add_models,
        ...(quotaProject !== undefined && { notes: `imported by ${administrator.name}` }),
      });
      return { applied: true, ...plan };
    },
  ),

  route(
    "POST",
    "/limits/clear",
    z.strictObject({
      quota_project: text,
      model: text.optional(),
      seen: z.strictObject({
        rpm: z.number().nullable(),
        tpm: z.number().nullable(),
        rpd: z.number().nullable(),
      }).optional(),
    }).refine(
      ({ model, seen }) => seen === undefined || model !== undefined,
      "seen is of one model: name it",
    ),
    async ({ dependencies: { reading } }, { quota_project, model, seen }) => ({
      cleared: seen === undefined || model === undefined
        ? await reading.clearLimits(quota_project, model)
        : await reading.clearSeenLimits(quota_project, model, seen),
    }),
  ),

  route("GET", "/prices", z.strictObject({}), async ({ dependencies }) => ({
    prices: await dependencies.keyPool.prices(),
  })),

  route(
    "POST",
    "/prices/set",
    z.strictObject({
      model: text,
      input_usd: usd,
      cached_usd: usd,
      output_usd: usd,
      is_free: z.boolean(),
      seen: seenKey.optional(),
    }),
    async ({ dependencies }, { seen, ...asked }) => ({
      price: await dependencies.keyPool.setPrice(asked, seen),
    }),
  ),
];

/**
 * A key of Google's as it is kept, after Google was asked about it: one that Google rejects is not saved. One that nobody could be
 * asked about is, and checked with the others.
 * @throws GatewayError `invalid_request`; `gateway_misconfigured` without ADMIN_SECRET_KEY
 */
async function entered(
  { dependencies, administrator, signal }: AdminRequest,
  apiKey: string,
): Promise<EnteredSecret> {
  const encryption = dependencies.encryption();
  const { status, reason } = await probe(
    dependencies.inspectors,
    "gemini",
    { secret: apiKey, settings: {} },
    signal,
  );
  if (status === "invalid") {
    throw invalidRequest([{
      field: "api_key",
      problem: `Google rejects it: ${reason ?? "no reason given"}`,
    }]);
  }
  const token = await encryption.encrypt(apiKey, bindingOf("gemini", {}, dependencies.read));
  return { key: { token, ...await factsOfKey(apiKey) }, actor: administrator.name };
}
