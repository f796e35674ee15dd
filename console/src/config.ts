/**
 * Which project the console talks to: `config.json` beside the page, so that one build serves any project. It holds what
 * every visitor may know, the project's address and its publishable key.
 */
export interface Config {
  supabaseUrl: string;
  publishableKey: string;
  /** What the functions' names begin with, where the gateway was put into an app under a prefix; else empty. */
  functionPrefix: string;
}

/** Rejects, saying what is wrong with the file, when it is missing or incomplete. */
export async function readConfig(): Promise<Config> {
  const response = await fetch("./config.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`config.json: status ${response.status}`);
  const raw = await response.json() as Record<string, unknown>;
  const supabaseUrl = typeof raw.supabase_url === "string" ? raw.supabase_url.replace(/\/+$/, "") : "";
  const publishableKey = typeof raw.publishable_key === "string" ? raw.publishable_key : "";
  if (!supabaseUrl || !publishableKey) {
    throw new Error("config.json: supabase_url or publishable_key is missing");
  }
  if (publishableKey.startsWith("sb_secret_")) {
    throw new Error("config.json: publishable_key holds a secret key");
  }
  const functionPrefix = raw.function_prefix ?? "";
  if (typeof functionPrefix !== "string" || !/^[a-z0-9-]*$/.test(functionPrefix)) {
    throw new Error("config.json: function_prefix is not what functions' names can begin with");
  }
  return { supabaseUrl, publishableKey, functionPrefix };
}
