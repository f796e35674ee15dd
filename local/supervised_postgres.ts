/** The stack's database server: started again when it ends by itself, so that a crash of it is an interruption only. */
import { type Cluster, type ClusterOptions, startCluster } from "./postgres.ts";

/** Recovery itself takes a second or so; this keeps a server that cannot start from being tried in a busy loop. */
const RESTART_PAUSE_MS = 500;

export class SupervisedPostgres {
  readonly #options: ClusterOptions;
  readonly #log: (line: string) => void;
  readonly #changed: () => void;
  #cluster: Cluster | undefined;
  #wanted = false;
  #starting: Promise<void> | undefined;

  constructor(options: ClusterOptions, log: (line: string) => void, changed: () => void = () => {}) {
    this.#options = options;
    this.#log = log;
    this.#changed = changed;
  }

  /** The server's process id; undefined while it is down. */
  get pid(): number | undefined {
    return this.#cluster?.pid;
  }

  /** A connection string for `postgres`. */
  get url(): string {
    return this.#url("postgres");
  }

  /** A connection string for the superuser. */
  get superuserUrl(): string {
    return this.#url("supabase_admin");
  }

  #url(user: string): string {
    return `postgresql://${user}:postgres@127.0.0.1:${this.#options.port}/postgres`;
  }

  /** Starts it, if it is down. Throws what {@link startCluster} throws. */
  async start(): Promise<void> {
    this.#wanted = true;
    if (this.#cluster) return;
    await (this.#starting ??= this.#startOnce().finally(() => this.#starting = undefined));
  }

  /** Stops it; it stays down until `start()`. */
  async stop(): Promise<void> {
    this.#wanted = false;
    await this.#starting?.catch(() => {});
    const cluster = this.#cluster;
    this.#cluster = undefined;
    await cluster?.stop();
    this.#changed();
  }

  async #startOnce(): Promise<void> {
    const cluster = await startCluster(this.#options);
    this.#cluster = cluster;
    this.#changed();
    cluster.exited.then(() => this.#ended(cluster));
  }

  async #ended(cluster: Cluster): Promise<void> {
    if (this.#cluster !== cluster) return;
    this.#cluster = undefined;
    this.#changed();
    while (this.#wanted && !this.#cluster) {
      this.#log(`PostgreSQL ended by itself; starting it again in ${RESTART_PAUSE_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, RESTART_PAUSE_MS));
      if (!this.#wanted) return;
      await this.start().catch((error) => this.#log(`PostgreSQL: ${error.message}`));
    }
  }
}
