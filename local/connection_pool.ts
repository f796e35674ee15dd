/**
 * Connections that are lent one by one, and discarded when they break.
 *
 * The driver (postgres 3.4.9) cannot lend a connection safely: one that closes while it is lent out is put back among the open
 * ones when it is released, and what is sent over it then either waits forever or throws where nobody can catch it,
 * which ends the process. So each connection here is a client of the driver's own, and none is used again after an error
 * that was not the query's.
 */
import type postgres from "postgres";

/** What a borrower may do. */
export interface Borrowed {
  unsafe(text: string, parameters: unknown[]): Promise<postgres.RowList<postgres.Row[]>>;
  release(): void;
}

export interface PoolOptions {
  /** Makes a client of one connection at most, which calls `onclose` when that closes. */
  client: (onclose: () => void) => postgres.Sql;
  /** Connections at most; further borrowers wait. */
  connections: number;
}

/** A server that is starting can leave a client waiting forever; after this another one is tried. */
const CONNECT_MS = 6_000;
/** Longer than any caller waits for an answer. A query that has not answered by then was sent into nowhere. */
const QUERY_MS = 60_000;
/** A database that is going down gets this long to end what runs. */
const END_TIMEOUT_S = 2;

interface Slot {
  client: postgres.Sql;
  connected: boolean;
  broken: boolean;
}

export class ConnectionPool {
  readonly #options: PoolOptions;
  readonly #slots = new Set<Slot>();
  #idle: Slot[] = [];
  #waiting: (() => void)[] = [];

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Lends a connection. Throws what the driver throws when none can be made. */
  async reserve(): Promise<Borrowed> {
    const slot = await this.#take();
    let reserved: postgres.ReservedSql;
    try {
      // A client that is asked to lend before it is connected never answers, unless it reads types first.
      if (!slot.connected) await withTimeout(CONNECT_MS, slot.client.unsafe("select 1"));
      slot.connected = true;
      reserved = await slot.client.reserve();
    } catch (error) {
      slot.broken = true;
      this.#giveBack(slot);
      throw error;
    }
    let released = false;
    return {
      unsafe: async (text, parameters) => {
        if (slot.broken) throw new ConnectionLost();
        try {
          return await withTimeout(QUERY_MS, reserved.unsafe(text, parameters as never[]));
        } catch (error) {
          if (!isAboutTheQuery(error)) slot.broken = true;
          throw error;
        }
      },
      release: () => {
        if (released) return;
        released = true;
        if (!slot.broken) reserved.release();
        this.#giveBack(slot);
      },
    };
  }

  async end(): Promise<void> {
    await Promise.all([...this.#slots].map(({ client }) => client.end({ timeout: END_TIMEOUT_S })));
  }

  async #take(): Promise<Slot> {
    for (;;) {
      const idle = this.#idle.pop();
      if (idle?.broken) this.#drop(idle);
      else if (idle !== undefined) return idle;
      else if (this.#slots.size < this.#options.connections) return this.#open();
      else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #open(): Slot {
    const slot: Slot = {
      client: this.#options.client(() => slot.broken = true),
      connected: false,
      broken: false,
    };
    this.#slots.add(slot);
    return slot;
  }

  #giveBack(slot: Slot): void {
    if (slot.broken) this.#drop(slot);
    else this.#idle.push(slot);
    this.#waiting.shift()?.();
  }

  #drop(slot: Slot): void {
    this.#slots.delete(slot);
    slot.client.end({ timeout: 0 }).catch(() => {});
  }
}

async function withTimeout<Value>(ms: number, promise: PromiseLike<Value>): Promise<Value> {
  const { promise: tooLong, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new ConnectionLost()), ms);
  try {
    return await Promise.race([promise, tooLong]);
  } finally {
    clearTimeout(timer);
  }
}

/** The connection has broken under what its borrower is in the middle of. */
export class ConnectionLost extends Error {
  /** As PostgreSQL has it: connection_failure. */
  readonly code = "08006";

  constructor() {
    super("The connection to the database was lost.");
  }
}

/** PostgreSQL refused the query and goes on; other errors are of the connection, and 57P and 08 announce its end. */
function isAboutTheQuery(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !/^(57P|08)/.test(code);
}
