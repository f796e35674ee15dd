import * as z from "zod";
import type { StageRow } from "../database/stages.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { fallbackOf } from "../stages/environment.ts";
import { seedFromEnvironment } from "../stages/seed.ts";
import { refreshStage } from "../stages/refresh.ts";
import { poolSecretOf } from "../stages/pool.ts";
import { type AdminDependencies, type AdminRequest, route } from "./route.ts";
import { saveStage } from "./save_stage.ts";

const stageType = z.string().trim().min(1).max(32).transform((name) => name.toUpperCase());
/** What providers give out as keys. */
export const providerKey = z.string().trim()
  .min(1, "must not be empty: leave it out to keep the key that is there").max(4_096)
  .regex(/^[\x21-\x7e]+$/, "must be visible ASCII characters without spaces");
/** A query has texts alone. */
const number = z.string().regex(/^\d{1,15}$/, "must be a whole number").transform(Number);

/** Refreshing all of them must end before the platform cuts it off. */
const REFRESH_ALL_TIMEOUT_MS = 90_000;

export const providerRoutes = [
  route(
    "GET",
    "/me",
    z.strictObject({}),
    ({ administrator: { kind, id, email } }) =>
      Promise.resolve({ kind, id, email, administrator: true as const }),
  ),

  route("GET", "/providers", z.strictObject({ stage_type: stageType.optional() }), async (context, asked) => {
    const encryption = encryptionOf(context.dependencies);
    if (encryption.ready) {
      await seedFromEnvironment(
        context.dependencies.stages,
        context.dependencies.encryption(),
        context.dependencies.read,
      );
    }
    return { stages: await shown(context.dependencies, asked.stage_type), encryption };
  }),

  route(
    "POST",
    "/providers/update",
    z.strictObject({
      stage_type: stageType,
      provider_kind: z.string().min(1).max(32),
      api_key: providerKey.nullish(),
      model: z.string().trim().min(1).max(150).nullish(),
      settings: z.record(z.string().max(32), z.string().trim().max(500)).nullish(),
      quota_project: z.string().trim().min(1).max(100).nullish(),
      remove_key: z.boolean().optional(),
      seen: z.strictObject({
        provider_kind: z.string().nullable(),
        model: z.string().nullable(),
        key_last_four: z.string().nullable(),
        settings: z.record(z.string(), z.string()).nullable(),
      }).optional(),
    }),
    async ({ dependencies, administrator, signal }, asked) => {
      const saved = await saveStage(
        dependencies,
        {
          stageType: asked.stage_type,
          providerKind: asked.provider_kind,
          apiKey: asked.api_key ?? null,
          model: asked.model ?? null,
          settings: asked.settings ?? null,
          quotaProject: asked.quota_project ?? null,
          removeKey: asked.remove_key ?? false,
          seen: asked.seen,
        },
        administrator.name,
        signal,
      );
      return { stage: withFallback(dependencies, saved) };
    },
  ),

  route(
    "POST",
    "/providers/refresh",
    z.strictObject({ stage_type: stageType.optional() }),
    async ({ dependencies, administrator, signal }, asked) => {
      const rows = await dependencies.stages.list(asked.stage_type);
      if (asked.stage_type !== undefined && rows[0]?.config == null) throw notSetUp(asked.stage_type);
      const until = AbortSignal.any([signal, AbortSignal.timeout(REFRESH_ALL_TIMEOUT_MS)]);
      const results = await Promise.all(
        rows.filter(isSetUp).map((row) =>
          refreshStage(refreshing(dependencies), row, administrator.name, until)
        ),
      );
      return {
        stages: await shown(dependencies, asked.stage_type),
        results: results.map(({ stageType, status, ...facts }) => ({
          stage_type: stageType,
          outcome: status,
          ...facts,
        })),
      };
    },
  ),

  route(
    "POST",
    "/providers/remove",
    z.strictObject({ stage_type: stageType }),
    async ({ dependencies, administrator }, asked) => ({
      stage: withFallback(
        dependencies,
        await dependencies.stages.remove(asked.stage_type, administrator.name),
      ),
    }),
  ),

  route(
    "GET",
    "/providers/history",
    z.strictObject({ stage_type: stageType.optional(), limit: number.optional(), before: number.optional() }),
    async ({ dependencies }, asked) => ({
      history: await dependencies.stages.history({
        stageType: asked.stage_type,
        atMost: asked.limit,
        before: asked.before,
      }),
    }),
  ),

  route(
    "GET",
    "/providers/keys",
    z.strictObject({ stage_type: stageType.optional() }),
    async ({ dependencies }: AdminRequest, asked) => ({
      keys: await dependencies.stages.keys(asked.stage_type),
    }),
  ),
];

/** Whether keys can be stored at all, and if not, why: the page says so before anyone types one. */
export function encryptionOf(dependencies: AdminDependencies): { ready: boolean; problem: string | null } {
  try {
    dependencies.encryption();
    return { ready: true, problem: null };
  } catch (thrown) {
    if (thrown instanceof GatewayError) return { ready: false, problem: thrown.publicMessage };
    throw thrown;
  }
}

export function refreshing(dependencies: AdminDependencies) {
  return {
    stages: dependencies.stages,
    encryption: dependencies.encryption,
    inspectors: dependencies.inspectors,
    read: dependencies.read,
    poolSecret: (provider: string) => poolSecretOf(dependencies, provider),
  };
}

async function shown(dependencies: AdminDependencies, stageType: string | undefined) {
  const rows = await dependencies.stages.list(stageType);
  if (stageType !== undefined && rows.length === 0) {
    throw new GatewayError("not_found", { message: `There is no stage ${stageType}.` });
  }
  return rows.map((row) => withFallback(dependencies, row));
}

/** With what serves the stage while nobody has set it up. */
function withFallback(dependencies: AdminDependencies, row: StageRow) {
  const fallback = row.config !== null
    ? null
    : fallbackOf(row.provider_kinds.map(({ kind }) => kind), dependencies.read);
  return {
    ...row,
    environment: fallback === null
      ? null
      : { provider_kind: fallback.providerKind, variable: fallback.variable, model: fallback.model },
  };
}

function isSetUp(row: StageRow): row is StageRow & { config: NonNullable<StageRow["config"]> } {
  return row.config !== null;
}

function notSetUp(stageType: string): GatewayError {
  return new GatewayError("not_found", {
    message: `Stage ${stageType} is not set up: save a provider first.`,
  });
}
