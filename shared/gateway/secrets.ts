/** The secret behind a key's `env_var_name`; null if there is none. */
export type ResolveSecret = (envVarName: string) => string | null;

/** Names the platform reserves for itself: the project's own credentials are never sent upstream as a model's key. */
const RESERVED = /^(SUPABASE_|SB_|DENO_|EVE_|ADMIN_SECRET_KEY$)/i;
/** What a variable may be called; anything else makes some runtimes throw. */
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Secrets out of the function's environment. A name that no variable can have, a reserved one, and one that is unset or
 * blank are all the same: there is no such secret.
 */
export function environmentSecrets(read: (name: string) => string | undefined): ResolveSecret {
  return (envVarName) => {
    if (!VARIABLE_NAME.test(envVarName) || RESERVED.test(envVarName)) return null;
    return read(envVarName)?.trim() || null;
  };
}
