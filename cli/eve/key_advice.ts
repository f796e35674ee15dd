/** Why a key is not used, and what to do about it: the same words for every command that looks at keys. */
import { SEEDED_OFF } from "../../local/seeded_notes.ts";
import { blockWords } from "../../shared/contract/block.ts";
import type { KeyState } from "../../shared/database/reading.ts";
import { secretSourceOf } from "../../shared/contract/secret_source.ts";
import { isLoopback } from "./connection.ts";
import { instant } from "./table.ts";

export interface Trouble {
  why: string;
  todo: string;
}

/** Of a key that is kept in the database. */
export const UNREADABLE = "its secret in the database cannot be decrypted with this ADMIN_SECRET_KEY";

/** What upstream may change its mind about without another secret: key_health asks every 15 minutes. */
const PASSING = ["key_restricted", "service_disabled"];

/** How the key's secret is set, in the project at `url`. */
export function howToSet({ alias, env_var_name }: KeyState, url: string): string {
  if (env_var_name === null) {
    return "set env_var_name in its row to the name of the secret that holds the key";
  }
  const set = `npm run eve -- keys set ${alias ?? ""}`;
  if (secretSourceOf(env_var_name).kind === "stored") return `${set}; or in the console`;
  return isLoopback(url)
    ? `${set}; or start the local stack with ${env_var_name}=...`
    : `${set}; or dashboard, Edge Functions, Secrets, ${env_var_name}; or npm run deploy -- --secrets-file FILE`;
}

/** Null: the key is used. */
export function troubleOf(key: KeyState, url: string): Trouble | null {
  const called = key.alias ?? key.id;
  const enable = `npm run eve -- keys enable ${called}`;
  const reason = key.blocked_reason;
  if (key.env_var_name !== null && secretSourceOf(key.env_var_name).kind === "stage") {
    if (key.state === "on") return null;
    return {
      why: reason === null ? "it is the key of a stage, which has none" : because(reason),
      todo: "enter another one for its stage, in the console; see npm run eve -- providers list",
    };
  }
  switch (key.state) {
    case "on":
      return null;
    case "no_secret_name":
      return { why: "its row names no secret", todo: howToSet(key, url) };
    case "off":
      if (reason === null) {
        return key.notes === SEEDED_OFF
          ? {
            why: "the local stack runs without its secret",
            todo: `start the stack with ${key.env_var_name}=..., or ${enable}`,
          }
          : { why: "it was switched off by hand", todo: enable };
      }
      return { why: because(reason), todo: adviceFor(reason, howToSet(key, url), enable, called) };
    case "blocked":
      if (reason === "secret_missing") {
        return secretSourceOf(key.env_var_name ?? "").kind === "stored"
          ? { why: UNREADABLE, todo: `put the ADMIN_SECRET_KEY of that time back, or ${howToSet(key, url)}` }
          : { why: `no secret is named ${key.env_var_name}`, todo: howToSet(key, url) };
      }
      return key.blocked_until === "infinity"
        ? { why: because(reason), todo: adviceFor(reason, howToSet(key, url), enable, called) }
        : {
          why: because(reason),
          todo: `nothing: it is used again at ${instant(key.blocked_until)}; sooner with ${enable}`,
        };
  }
}

/** In words, and as it is kept, by which docs/adding-keys-and-models.md has it. */
export function because(reason: string | null): string {
  if (reason === null) return "no reason is given";
  const words = blockWords(reason);
  return words === null ? reason : `${words} (${reason})`;
}

function adviceFor(reason: string | null, set: string, enable: string, called: string): string {
  if (reason === "credits_depleted") return `top them up, then ${enable}; or another key: ${set}`;
  return PASSING.includes(reason ?? "")
    ? `fix it there; then it comes back within 15 minutes, or at once with npm run eve -- keys test ${called}`
    : `another key, or this one typed right: ${set}. With another secret it is used again by itself`;
}
