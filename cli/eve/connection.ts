import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { dataDirFromEnvironment } from "../../local/settings.ts";
import { type Admin, createAdmin } from "../../shared/ledger/admin.ts";
import type { Database } from "../../shared/ledger/database_types.ts";
import { rpcTransport } from "../../shared/ledger/rpc_transport.ts";
import { CliFailure } from "./failure.ts";

/** A project, seen by its owner. */
export interface Connection {
  url: string;
  secretKey: string;
  admin: Admin;
  /** The public tables. */
  tables: SupabaseClient<Database>;
  fetch: typeof fetch;
}

/**
 * The project that SUPABASE_URL and SUPABASE_SECRET_KEY name, or the local stack's, which writes them into its folder.
 * @throws CliFailure that says how to have one
 */
export function connectFromEnvironment(): Connection {
  const variables = Deno.env.toObject();
  const given = { url: variables.SUPABASE_URL, key: variables.SUPABASE_SECRET_KEY };
  if (Boolean(given.url) !== Boolean(given.key)) {
    throw new CliFailure(
      `${
        given.url ? "SUPABASE_SECRET_KEY" : "SUPABASE_URL"
      } is not set: set both, or neither for the local stack.`,
    );
  }
  return given.url && given.key ? connect(given.url, given.key) : connectToLocalStack();
}

function connectToLocalStack(): Connection {
  const file = `${dataDirFromEnvironment()}/env`;
  let text: string;
  try {
    text = Deno.readTextFileSync(file);
  } catch {
    throw new CliFailure(
      `No project to talk to: ${file} is not there. Start the local stack with \`npm start\`, or set SUPABASE_URL and SUPABASE_SECRET_KEY.`,
    );
  }
  const read = (name: string) => new RegExp(`^${name}=(.+)$`, "m").exec(text)?.[1];
  const [url, key] = [read("SUPABASE_URL"), read("SUPABASE_SECRET_KEY")];
  if (url === undefined || key === undefined) {
    throw new CliFailure(`${file} names no project. Start the local stack anew with \`npm start\`.`);
  }
  return connect(url, key);
}

export function connect(url: string, secretKey: string): Connection {
  if (!URL.canParse(url)) {
    throw new CliFailure("SUPABASE_URL is not a URL. It looks like https://<ref>.supabase.co.");
  }
  const base = url.replace(/\/+$/, "");
  return {
    url: base,
    secretKey,
    admin: createAdmin(rpcTransport({ url: base, secretKey })),
    tables: createClient<Database>(base, secretKey, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    }),
    fetch,
  };
}
