import { codeOfSqlstate } from "../../contract/errors.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { SqlFailure } from "./transport.ts";

/**
 * The database is there but cannot serve now: connection (08), resources (53), operator (57, which holds the statement
 * timeout), serialization and deadlock (40), lock timeout (55P03), and PostgREST without a connection or schema cache.
 */
const TRANSIENT = /^(08|53|57|40)|^55P03$|^PGRST00/;

/** Codes that the database or PostgREST gives; an error without one comes from something in between that failed. */
const KNOWN_FORM = /^([0-9A-Z]{5}|PGRST\d{3})$/;

const CHECK_VIOLATION = "23514";

/** The database refuses us or lacks our functions: a missing migration, a wrong key, a missing grant. */
const SETUP = /^(PGRST202|PGRST3|42883|42P01|42501|3F000|28)/;

/** What a failed ledger call means for the request. Everything the database said goes to the log, not to the caller. */
export function asLedgerError(thrown: unknown, sqlFunction: string): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  if (!(thrown instanceof SqlFailure)) {
    const said = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
    return new GatewayError("database_unavailable", { detail: `${sqlFunction}: ${said}`, cause: thrown });
  }
  const detail = `${sqlFunction}: ${
    thrown.sqlstate || "no sqlstate"
  } (status ${thrown.status}): ${thrown.message}`;
  if (thrown.sqlstate === CHECK_VIOLATION) {
    // Whatever a caller may send is bounded before; what a table refuses all the same is still the caller's value.
    return new GatewayError("invalid_argument", { detail, cause: thrown });
  }
  const ours = codeOfSqlstate(thrown.sqlstate);
  if (ours === "invalid_argument" || ours === "chats_full") {
    // Our own functions write this message, about the caller's value, or about what the caller keeps.
    return new GatewayError(ours, { message: thrown.message, detail, cause: thrown });
  }
  if (ours !== null) return new GatewayError(ours, { detail, cause: thrown });
  if (SETUP.test(thrown.sqlstate) || thrown.status === 401 || thrown.status === 403) {
    return new GatewayError("gateway_misconfigured", {
      detail: `${detail}. Apply supabase/migrations and check the project's secret key.`,
      cause: thrown,
    });
  }
  const nobodySpoke = !KNOWN_FORM.test(thrown.sqlstate) && (thrown.status ?? 0) >= 500;
  if (TRANSIENT.test(thrown.sqlstate) || nobodySpoke) {
    return new GatewayError("database_unavailable", { detail, cause: thrown });
  }
  return new GatewayError("internal", { detail, cause: thrown });
}
