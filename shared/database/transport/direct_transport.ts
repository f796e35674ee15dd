import postgres from "postgres";
import { SqlFailure, type Transport } from "./transport.ts";

export interface DirectOptions {
  /** A connection string, as in `SUPABASE_DB_URL`. */
  url: string;
  /** Connections held at most by this process. */
  connections: number;
  /**
   * True behind a pooler that hands out connections per transaction: no prepared statements and no settings of the
   * session, at the price of one more round trip a call.
   */
  pooler: boolean;
  /**
   * A statement that takes longer is ended by the server: less than its callers wait, so that nothing runs for
   * callers who have gone. Not behind a pooler, whose sessions are others' too.
   */
  statementTimeoutMs?: number;
}

export interface DirectTransport {
  call: Transport;
  /** The same, out of the way of `call` where there is more than one connection: for what no client waits for. */
  afterwards: Transport;
  /** Null: there is a connection to make calls over. Otherwise one is made, unless that is going on already. */
  ready(): Promise<void> | null;
  /** Closes every connection. */
  close(): Promise<void>;
}

/** A database that does not take a connection in this time is down for our purposes. */
const CONNECT_TIMEOUT_S = 5;
/** Between two tries to connect. The driver's own pauses grow to 20 s, long after a database that was restarted is back. */
const RECONNECT_S = 0.2;
/** A connection that is not used goes back, since the project has few of them. */
const IDLE_TIMEOUT_S = 20;
/** After this a connection is replaced, so that none outlives a failover for long. */
const MAX_LIFETIME_S = 1_800;

/** Names come from our own code; the check keeps it that way. */
const NAME = /^[a-z][a-z0-9_]*$/;

/** Values are written out below; the driver would write booleans and JSON out a second time. */
const AS_THEY_ARE = {
  bool: { to: 16, from: [16], serialize: String, parse: (text: string) => text === "t" },
  json: { to: 114, from: [114], serialize: String, parse: (text: string): unknown => JSON.parse(text) },
  jsonb: { to: 3802, from: [3802], serialize: String, parse: (text: string): unknown => JSON.parse(text) },
};

/** Calls queued on one connection before another is used: ten milliseconds of a server that does little else. */
const LINE = 24;
/** A connection that has not answered for this long is blocked, by a lock or the network: others need not queue behind it. */
const HELD_UP_MS = 50;

/** One connection, opened by its first call, and the calls queued on it. */
class Link {
  readonly sql: postgres.Sql;
  waiting = 0;
  /** Since the server's last answer, until the connection ends. */
  connected = false;
  #connecting: Promise<void> | null = null;
  /** `performance.now()` of the last answer, or of the call that found the queue empty. */
  #movedAt = 0;

  constructor(connect: (onClose: () => void) => postgres.Sql) {
    this.sql = connect(() => this.connected = false);
  }

  connect(): Promise<void> {
    return this.#connecting ??= this.sql.unsafe("select 1", [], { prepare: false }).then(() => {
      this.connected = true;
    }).finally(() => {
      this.#connecting = null;
    });
  }

  get free(): boolean {
    return this.waiting === 0 || (this.waiting < LINE && performance.now() - this.#movedAt < HELD_UP_MS);
  }

  enter(): void {
    if (this.waiting++ === 0) this.#movedAt = performance.now();
  }

  /** @param answered false where the caller has given up, which says nothing good of the connection */
  leave(answered: boolean): void {
    this.waiting--;
    if (answered) this.#movedAt = performance.now();
  }
}

/**
 * Calls SQL functions over a connection to the database, in one round trip and without the REST API in between. The same
 * functions with the same rights: as `service_role`, whatever the connection string says.
 *
 * Calls queue on one connection as long as its queue is short, and are sent without waiting for each other's answers: measured with ten callers, four connections taken in turns cost the server 40 % more time for each call, in
 * cold caches and in waking each other at a lane's lock.
 */
export function directTransport(options: DirectOptions): DirectTransport {
  const links = open(options);
  const from = (order: readonly Link[]): Transport => async (sqlFunction, args, signal) => {
    signal.throwIfAborted();
    const names = Object.keys(args);
    for (const name of [sqlFunction, ...names]) {
      if (!NAME.test(name)) {
        throw new Error(`not a name of a function or argument: ${JSON.stringify(name)}`);
      }
    }
    const named = names.map((name, index) => `${name} => $${index + 1}`).join(", ");
    const values = Object.values(args).map(asText);
    const link = chosen(order);
    link.enter();
    const query = link.sql.unsafe(`select public.${sqlFunction}(${named}) as answer`, values, {
      prepare: !options.pooler,
    });
    const answered = Promise.withResolvers<Awaited<typeof query>>();
    const onAbort = () => {
      // Only the call that the server works on. One that is queued has been sent, and will be answered: the driver
      // (3.4.9) would take it out of the queue, and give its answer to the next one.
      if ((query as { active?: boolean }).active) query.cancel();
      answered.reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    query.then(answered.resolve, answered.reject);
    try {
      const [row] = await answered.promise;
      link.connected = true;
      return row?.answer;
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof postgres.PostgresError) {
        throw new SqlFailure(thrown.code, thrown.message, null, thrown.detail ?? null);
      }
      throw thrown;
    } finally {
      link.leave(!signal.aborted);
      signal.removeEventListener("abort", onAbort);
    }
  };
  return {
    call: from(links),
    afterwards: from(links.toReversed()),
    ready: () => links[0] === undefined || links[0].connected ? null : links[0].connect(),
    close: async () => {
      await Promise.all(links.map(({ sql }) => sql.end({ timeout: 5 })));
    },
  };
}

function open({ url, connections, pooler, statementTimeoutMs }: DirectOptions): Link[] {
  return Array.from({ length: connections }, () =>
    new Link((onclose) =>
      postgres(url, {
        max: 1,
        prepare: !pooler,
        // Types of one's own would cost a query for each connection, and our functions have none.
        fetch_types: false,
        connect_timeout: CONNECT_TIMEOUT_S,
        backoff: () => RECONNECT_S,
        idle_timeout: IDLE_TIMEOUT_S,
        max_lifetime: MAX_LIFETIME_S,
        connection: {
          application_name: "eve-gateway",
          ...(!pooler && { role: "service_role" }),
          ...(!pooler && statementTimeoutMs !== undefined && { statement_timeout: statementTimeoutMs }),
        },
        types: AS_THEY_ARE,
        onnotice: () => {},
        onclose,
      })
    ));
}

/** The first that is free, else the one with the shortest queue. */
function chosen(links: readonly Link[]): Link {
  const [first, ...others] = links;
  if (first === undefined) throw new Error("a transport without connections");
  return links.find(({ free }) => free) ??
    others.reduce((best, link) => link.waiting < best.waiting ? link : best, first);
}

/**
 * A value as PostgreSQL reads it in text form; the function's own argument says of which type it is. A list of texts or
 * numbers is an array of PostgreSQL's; an object, or a list of objects, is JSON.
 */
function asText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value) && !value.some(isComposite)) return `{${value.map(element).join(",")}}`;
  return isComposite(value) ? JSON.stringify(value) : String(value);
}

function isComposite(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

/** Quoted, so that commas, braces and the word NULL are text. */
function element(value: unknown): string {
  const text = asText(value);
  return text === null ? "NULL" : `"${text.replace(/["\\]/g, "\\$&")}"`;
}
