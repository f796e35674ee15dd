import { SqlFailure, type Transport } from "./transport.ts";

export interface RpcOptions {
  /** The project's URL, as in `SUPABASE_URL`. */
  url: string;
  /** A secret key of the project: only it may execute our functions. */
  secretKey: string;
  fetch?: typeof fetch;
}

/**
 * Calls SQL functions over the project's REST API with supabase-js. Stateless: it costs no database connection.
 *
 * The library, which brings sign-in, storage and live updates along, is loaded when a transport is made and not with this
 * module: a function that goes another way, or answers before it asks the database, starts a fifth sooner without it.
 */
export function rpcTransport(options: RpcOptions): Transport {
  const opening = open(options);
  // Whoever calls learns of it.
  opening.catch(() => {});
  return async (sqlFunction, args, signal) => {
    const { data, error, status } = await (await opening).rpc(sqlFunction, args).abortSignal(signal);
    if (error === null) return data;
    // supabase-js resolves a failed connection too: then there is no status, and nobody who answered.
    if (status === 0) throw new Error(`REST API not reached: ${error.message}`);
    throw new SqlFailure(error.code ?? "", error.message ?? "", status);
  };
}

async function open({ url, secretKey, fetch }: RpcOptions) {
  const { createClient } = await import("@supabase/supabase-js");
  return createClient(url, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: fetch === undefined ? {} : { fetch },
  });
}
