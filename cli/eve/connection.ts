import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { dataDirFromEnvironment } from "../../local/settings.ts";
import { type Admin, createAdmin } from "../../shared/database/admin.ts";
import type { Database } from "../../shared/database/database_types.ts";
import { createReading, type Reading } from "../../shared/database/reading.ts";
import { type CacheAdmin, createCacheAdmin } from "../../shared/database/answer_cache.ts";
import { createTenants, type Tenants } from "../../shared/database/tenants.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { unreachable } from "./failure.ts";
import { profilesPath, readFunctionPrefix, readProfiles, secretKeyOf, type Variables } from "./profiles.ts";

/** A project, seen by its owner. */
export interface Connection {
  url: string;
  /** What a function's name is added to: `<url>/functions/v1/`, with the prefix of the names where there is one. */
  functions: string;
  secretKey: string;
  /** What people call it. */
  name: string;
  admin: Admin;
  reading: Reading;
  tenants: Tenants;
  cache: CacheAdmin;
  /** The public tables. */
  tables: SupabaseClient<Database>;
  fetch: typeof fetch;
  /** Of the local stack: where it keeps its data. */
  folder?: string;
}

/**
 * The project of the profile, or the one that SUPABASE_URL and SUPABASE_SECRET_KEY name, or the local stack's, which
 * writes them into its folder.
 * @throws CliFailure that says how to have one
 */
export function connectFromEnvironment(profile?: string): Connection {
  const variable: Variables = (name) => Deno.env.get(name);
  const chosen = profile ?? variable("EVE_PROFILE");
  if (chosen) return connectToProfile(chosen, variable);
  const given = { url: variable("SUPABASE_URL"), key: variable("SUPABASE_SECRET_KEY") };
  if (Boolean(given.url) !== Boolean(given.key)) {
    throw unreachable(
      `${
        given.url ? "SUPABASE_SECRET_KEY" : "SUPABASE_URL"
      } is not set: set both, or neither for the local stack.`,
    );
  }
  return given.url && given.key
    ? connect(given.url, given.key, given.url, readFunctionPrefix(variable("EVE_FUNCTION_PREFIX")))
    : connectToLocalStack();
}

function connectToProfile(name: string, variable: Variables): Connection {
  const path = profilesPath(variable);
  const profiles = readProfiles(path);
  const profile = profiles.get(name);
  if (profile === undefined) {
    const known = [...profiles.keys()].join(", ");
    throw unreachable(
      `There is no profile ${name} in ${path}${
        known === "" ? "" : `; there are ${known}`
      }. Add it: npm run eve -- profiles add ${name} --project-ref REF --key-env VARIABLE`,
    );
  }
  return connect(profile.url, secretKeyOf(name, profile, variable), name, profile.function_prefix);
}

function connectToLocalStack(): Connection {
  const file = `${dataDirFromEnvironment()}/env`;
  let text: string;
  try {
    text = Deno.readTextFileSync(file);
  } catch {
    throw unreachable(
      `No project to talk to: ${file} is not there. Start the local stack with \`npm start\`, choose a profile, or set SUPABASE_URL and SUPABASE_SECRET_KEY.`,
    );
  }
  const read = (name: string) => new RegExp(`^${name}=(.+)$`, "m").exec(text)?.[1];
  const [url, key] = [read("SUPABASE_URL"), read("SUPABASE_SECRET_KEY")];
  if (url === undefined || key === undefined) {
    throw unreachable(`${file} names no project. Start the local stack again with \`npm start\`.`);
  }
  return { ...connect(url, key, "the local stack"), folder: dataDirFromEnvironment() };
}

/** Whether a project is on this machine. */
export function isLoopback(url: string): boolean {
  return ["127.0.0.1", "localhost", "[::1]"].includes(new URL(url).hostname);
}

export function connect(url: string, secretKey: string, name = url, functionPrefix = ""): Connection {
  if (!URL.canParse(url)) {
    throw unreachable("SUPABASE_URL is not a URL. It looks like https://<ref>.supabase.co.");
  }
  const base = url.replace(/\/+$/, "");
  const transport = rpcTransport({ url: base, secretKey });
  return {
    url: base,
    functions: `${base}/functions/v1/${functionPrefix}`,
    secretKey,
    name,
    admin: createAdmin(transport),
    reading: createReading(transport),
    tenants: createTenants(transport),
    cache: createCacheAdmin(transport),
    tables: createClient<Database>(base, secretKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      // The key is in a header, which a redirect would send on.
      global: { fetch: (input, init) => fetch(input, { ...init, redirect: "manual" }) },
    }),
    fetch,
  };
}
