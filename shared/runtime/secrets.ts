import type { ReadVariable } from "./settings.ts";
/** The secret behind a key's `env_var_name`; null if there is none. */
export type ResolveSecret = (envVarName: string) => string | null;

/**
 * Names that are the platform's, the gateway's own or the system's: what they hold is never sent upstream as a model's key.
 */
const RESERVED =
  /^(SUPABASE_|SB_|DENO_|EVE_|LD_|DYLD_|NODE_|NPM_|S3_|ADMIN_SECRET_KEY$|(PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|TERM|LANG|HOSTNAME|PORT)$)/i;

export const isReservedName = (envVarName: string): boolean => RESERVED.test(envVarName);

/** What a variable may be called; anything else makes some runtimes throw. */
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Secrets out of the function's environment. A name that no variable can have, a reserved one, and one that is unset or
 * blank are all the same: there is no such secret.
 */
export function environmentSecrets(read: ReadVariable): ResolveSecret {
  return (envVarName) => {
    if (!VARIABLE_NAME.test(envVarName) || isReservedName(envVarName)) return null;
    return read(envVarName)?.trim() || null;
  };
}
