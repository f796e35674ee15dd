/** Keys of the pool, models and their prices, as people edit them. Names are those of the SQL answers. */
import * as z from "zod";
import type { EncryptedKey } from "./stages.ts";
import { type Shares, shares } from "./reading.ts";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const poolKey = z.object({
  id: z.string(),
  alias: z.string().nullable(),
  env_var_name: z.string().nullable(),
  quota_project: z.string().nullable(),
  priority: z.number().nullable(),
  notes: z.string().nullable(),
  is_active: z.boolean(),
});
export type PoolKey = z.output<typeof poolKey>;

const stored = z.object({
  key_id: z.string(),
  last_four: z.string(),
  entered_by: z.string(),
  entered_at: z.string(),
});
/** What is shown of a secret that is stored here. */
export type StoredSecret = z.output<typeof stored>;

const model = z.object({
  model: z.string(),
  provider: z.string(),
  is_active: z.boolean(),
  replaced_by: z.string().nullable(),
  supports_system: z.boolean(),
  supports_json: z.boolean(),
  supports_tools: z.boolean(),
  supports_thinking: z.boolean(),
  ...shares.shape,
  max_output_tokens: z.number().nullable(),
  rpm: z.number().nullable(),
  tpm: z.number().nullable(),
  rpd: z.number().nullable(),
});
export type ModelRow = z.output<typeof model>;

const price = z.object({
  model: z.string(),
  /** US dollars a million tokens; null: unknown. */
  input_usd: z.number().nullable(),
  /** Null: as other input. */
  cached_usd: z.number().nullable(),
  /** Of thinking too. */
  output_usd: z.number().nullable(),
  /** Called in a free tier: the price says what it would have cost. */
  is_free: z.boolean(),
  /** The day on which it was looked up. */
  as_of: z.string(),
});
export type ModelPrice = z.output<typeof price>;

/** A key itself, as it is kept, and who gave it. */
export interface EnteredSecret {
  key: EncryptedKey;
  actor: string;
}

/** @throws GatewayError `invalid_argument` for values out of bounds, `changed_meanwhile` where a field is not as it was seen */
export interface KeyPool {
  /** By the name of the secret that holds it, or with the secret itself; switched on. */
  addKey(
    input: {
      alias: string;
      source: { envVarName: string } | EnteredSecret;
      quotaProject: string | null;
      priority: number;
      notes: string | null;
    },
  ): Promise<PoolKey>;
  changeKey(
    id: string,
    seen: Partial<PoolKey>,
    changes: Partial<PoolKey>,
    entered?: EnteredSecret,
  ): Promise<PoolKey>;
  /** For good; answers what it was called. A key of a stage is removed there. */
  removeKey(id: string): Promise<string>;
  /** Of the keys whose secrets are in the database. */
  storedSecrets(): Promise<StoredSecret[]>;
  /** Those that are switched off or replaced, too. */
  models(): Promise<ModelRow[]>;
  /** With limits those are changed too, all or nothing: of one quota project, or of the model in all of them. */
  changeModel(
    name: string,
    seen: Partial<ModelRow>,
    changes: Partial<ModelRow>,
    of?: {
      limits?: Partial<Pick<ModelRow, "rpm" | "tpm" | "rpd"> & Shares>;
      quotaProject?: string;
      notes?: string;
    },
  ): Promise<ModelRow>;
  prices(): Promise<ModelPrice[]>;
  /** As of today. `seen`: of the price that was there; of a model without one, nulls. */
  setPrice(input: Omit<ModelPrice, "as_of">, seen?: Record<string, unknown>): Promise<ModelPrice>;
}

/** A person waits for it. */
const TIMEOUT_MS = 15_000;

export function createKeyPool(transport: Transport): KeyPool {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, TIMEOUT_MS);
  return {
    addKey: (input) =>
      ask("eve_key_add", {
        alias: input.alias,
        env_var_name: "envVarName" in input.source ? input.source.envVarName : null,
        quota_project: input.quotaProject,
        priority: input.priority,
        notes: input.notes,
        ...("key" in input.source && secretFields(input.source)),
      }, poolKey),
    changeKey: (id, seen, changes, entered) =>
      ask("eve_key_change", { id, seen, changes, ...(entered && secretFields(entered)) }, poolKey),
    removeKey: (id) => ask("eve_key_remove", { id }, z.string()),
    storedSecrets: () => ask("eve_stored_keys", {}, z.array(stored)),
    models: () => ask("eve_model_rows", {}, z.array(model)),
    changeModel: (name, seen, changes, also) =>
      ask("eve_model_change", {
        model: name,
        seen,
        changes,
        ...(also && { limits: also.limits, quota_project: also.quotaProject, notes: also.notes }),
      }, model),
    prices: () => ask("eve_prices", {}, z.array(price)),
    setPrice: (input, seen) => ask("eve_price_set", { ...input, ...(seen && { seen }) }, price),
  };
}

function secretFields({ key, actor }: EnteredSecret): Record<string, unknown> {
  return {
    secret: { api_key_encrypted: key.token, fingerprint: key.fingerprint, last_four: key.lastFour },
    actor,
  };
}
