/**
 * Whether a key's `env_var_name` leads to a secret that was entered in the console: `stored:` and an id, which is another one for
 * every secret.
 */
export function isStoredKeyName(name: string): boolean {
  return name.startsWith("stored:");
}
