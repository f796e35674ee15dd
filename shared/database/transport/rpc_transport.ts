// Pinned: the packages below ask for ranges of these, and the bundler of a function takes what is loaded already.
import "iceberg-js";
import { createClient } from "@supabase/supabase-js";
import { SqlFailure, type Transport } from "./transport.ts";

export interface RpcOptions {
  /** The project's URL, as in `SUPABASE_URL`. */
  url: string;
  /** A secret key of the project: only it may execute our functions. */
  secretKey: string;
  fetch?: typeof fetch;
}

/** Calls SQL functions over the project's REST API with supabase-js. Stateless: it costs no database connection. */
export function rpcTransport(options: RpcOptions): Transport {
  // The key is in a header, which a redirect would send on.
  const request: typeof fetch = (input, init) =>
    (options.fetch ?? fetch)(input, { ...init, redirect: "manual" });
  const client = createClient(options.url, options.secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { fetch: request },
  });
  return async (sqlFunction, args, signal) => {
    const { data, error, status } = await client.rpc(sqlFunction, args).abortSignal(signal);
    if (error === null) return data;
    // supabase-js resolves a failed connection too: then there is no status, since nothing answered.
    if (status === 0) throw new Error(`REST API not reached: ${error.message}`);
    throw new SqlFailure(error.code ?? "", error.message ?? "", status, error.details ?? null);
  };
}
