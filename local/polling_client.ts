/** A client for polling the database, which goes on after the database could not be reached. */
import postgres from "postgres";

/** One poll takes milliseconds. After this it has hung, as a query does whose connection broke under it. */
const PROBE_MS = 10_000;
const CONNECT_TIMEOUT_S = 5;

export class PollingClient {
  readonly #url: string;
  readonly #connections: number;
  #sql: postgres.Sql;

  constructor(url: string, connections: number) {
    this.#url = url;
    this.#connections = connections;
    this.#sql = this.#connect();
  }

  get sql(): postgres.Sql {
    return this.#sql;
  }

  /** Runs one poll. After one that failed or hung, the next has new connections: the driver's may not come back. */
  async poll(run: () => Promise<void>): Promise<void> {
    const { promise: hung, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error("the database does not answer")), PROBE_MS);
    try {
      await Promise.race([run(), hung]);
    } catch {
      // While the database is down there is nothing to do; it comes back.
      const broken = this.#sql;
      this.#sql = this.#connect();
      broken.end({ timeout: 0 }).catch(() => {});
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }

  #connect(): postgres.Sql {
    return postgres(this.#url, {
      max: this.#connections,
      connect_timeout: CONNECT_TIMEOUT_S,
      // Asked for in the background, where a failure ends the process.
      fetch_types: false,
      onnotice: () => {},
    });
  }
}
