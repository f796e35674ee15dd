import type { Settings } from "../../runtime/settings.ts";
import { type DirectTransport, directTransport } from "./direct_transport.ts";
import { rpcTransport } from "./rpc_transport.ts";
import type { Transport } from "./transport.ts";

/** Of the time that callers wait for the database, what a statement may take: it ends before they stop waiting. */
const STATEMENT_SHARE = 15 / 16;

/** How the database is reached, as the settings say (EVE_LEDGER_TRANSPORT). */
export function openTransport(
  { project, databaseKey, direct, rpcTimeoutMs }: Pick<
    Settings,
    "project" | "databaseKey" | "direct" | "rpcTimeoutMs"
  >,
): { call: Transport } & Partial<Pick<DirectTransport, "afterwards" | "ready">> {
  if (direct === null) return { call: rpcTransport({ url: project.url, secretKey: databaseKey }) };
  return directTransport({ ...direct, statementTimeoutMs: Math.ceil(rpcTimeoutMs * STATEMENT_SHARE) });
}
