/**
 * Rows for the keys that the local stack brings along. What the user changes afterwards stays changed, and what the
 * user deletes stays deleted. Hosted projects never get these rows.
 */
import postgres from "postgres";
import { useChangedSecrets } from "../shared/gateway/changed_secrets.ts";
import { environmentSecrets } from "../shared/runtime/secrets.ts";
import { createKeySecrets } from "../shared/database/maintenance/key_secrets.ts";
import { SEEDED_OFF, SEEDED_ON } from "./seeded_notes.ts";

export interface SeedKey {
  alias: string;
  /** The function's environment variable that holds the secret. */
  envVarName: string;
  secret: string;
  /** Google Cloud project, by which Google counts; null: one of its own. */
  quotaProject: string | null;
  /** Lower is preferred. */
  priority: number;
}

/** The keys that the emulator knows: two share a project, as real ones may. */
export const DEMO_KEYS: readonly SeedKey[] = [
  {
    alias: "demo-a",
    envVarName: "GOOGLE_API_KEY_DEMO_A",
    secret: "demo-key-a",
    quotaProject: "demo-one",
    priority: 10,
  },
  {
    alias: "demo-b",
    envVarName: "GOOGLE_API_KEY_DEMO_B",
    secret: "demo-key-b",
    quotaProject: "demo-one",
    priority: 20,
  },
  {
    alias: "demo-c",
    envVarName: "GOOGLE_API_KEY_DEMO_C",
    secret: "demo-key-c",
    quotaProject: "demo-two",
    priority: 30,
  },
];

/** The variable of a real key, as docs/settings.md names it. */
export const REAL_KEY_VARIABLE = "GOOGLE_API_KEY";

const SEEDED_FILE = "seeded.json";

/**
 * Adds a row for each of `keys` that was never seeded from this data folder, and switches the stack's own rows on or
 * off, so that exactly those whose secret is at hand are active.
 */
export async function seedKeys(
  databaseUrl: string,
  dataDir: string,
  keys: readonly SeedKey[],
): Promise<void> {
  const path = `${dataDir}/${SEEDED_FILE}`;
  const seeded = new Set<string>(JSON.parse(await Deno.readTextFile(path).catch(() => "[]")));
  const names = keys.map((key) => key.envVarName);
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    const [table] = await sql`select to_regclass('public.google_ai_api_keys') as there`;
    if (!table?.there) return;
    for (const key of keys) {
      if (seeded.has(key.envVarName)) continue;
      await sql`
        insert into public.google_ai_api_keys
          (key_alias, provider, env_var_name, is_active, priority, quota_project, notes)
        select ${key.alias}, 'google', ${key.envVarName}, true, ${key.priority}, ${key.quotaProject}, ${SEEDED_ON}
        where not exists (
          select from public.google_ai_api_keys where env_var_name = ${key.envVarName}
        )
      `;
      seeded.add(key.envVarName);
    }
    await sql`
      update public.google_ai_api_keys
      set is_active = false, notes = ${SEEDED_OFF}
      where notes = ${SEEDED_ON} and is_active and env_var_name <> all(${names})
    `;
    await sql`
      update public.google_ai_api_keys
      set is_active = true, notes = ${SEEDED_ON}
      where notes = ${SEEDED_OFF} and env_var_name = any(${names})
    `;
  } finally {
    await sql.end();
  }
  await Deno.writeTextFile(path, JSON.stringify([...seeded]));
}

/** A row or a few. */
const KEY_SECRETS_TIMEOUT_MS = 15_000;

/**
 * Puts keys into use again that were rejected in an earlier run with another secret than `env` has for them now.
 * @returns their aliases
 */
export async function useNewSecrets(databaseUrl: string, env: Record<string, string>): Promise<string[]> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  try {
    // A stack may be run with migrations of its own.
    const [functions] = await sql`select to_regprocedure('public.eve_keys_awaiting_secrets()') as there`;
    if (!functions?.there) return [];
    const keys = createKeySecrets(async (name, args) => {
      const given = Object.keys(args);
      const list = given.map((argument, index) => `${argument} => $${index + 1}`).join(", ");
      const [row] = await sql.unsafe(
        `select public.${name}(${list}) as said`,
        Object.values(args) as string[],
      );
      return row!.said;
    }, KEY_SECRETS_TIMEOUT_MS);
    return await useChangedSecrets(keys, environmentSecrets((name) => env[name]));
  } finally {
    await sql.end();
  }
}
