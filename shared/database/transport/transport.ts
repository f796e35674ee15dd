/**
 * How a SQL function is called: by name, with named arguments, answering one JSON value. The one thing that differs
 * between the REST API and a direct connection.
 *
 * A transport throws SqlFailure for what the database raised, and anything else for a database that cannot be reached.
 * It gives up, with any error, when the signal aborts.
 */
export type Transport = (
  sqlFunction: string,
  args: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
) => Promise<unknown>;

/** The database answered, with an error. */
export class SqlFailure extends Error {
  /** PostgreSQL's or our own five characters, or PostgREST's `PGRSTnnn`; empty when only a status is known. */
  readonly sqlstate: string;
  /** The HTTP status, where the REST API carried it. */
  readonly status: number | null;
  /** PostgreSQL's `DETAIL`. */
  readonly detail: string | null;

  constructor(sqlstate: string, message: string, status: number | null = null, detail: string | null = null) {
    super(message);
    this.name = "SqlFailure";
    this.sqlstate = sqlstate;
    this.status = status;
    this.detail = detail;
  }
}
