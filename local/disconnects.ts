/**
 * Clients that disconnect while their answer is awaited.
 *
 * Deno's server (2.9.6) tells a handler that its client has closed the connection only in two cases: the response has
 * begun, or the body had come in the same packet as the head. Most clients send the two apart, and a call that waits for
 * a model would go on for nobody. So the reverse proxy checks for itself: a connection that its client has closed is in state
 * CLOSE_WAIT or gone from the kernel's table. On systems without /proc/net/tcp nothing is noticed beyond what Deno tells;
 * a hosted project has its own servers, and none of this.
 */

/** Clients that are answered sooner are never checked; one that leaves is noticed within twice this. */
const CHECK_EVERY_MS = 250;
const CONNECTIONS = "/proc/net/tcp";
/** The states, as `tcp_states.h` numbers them, in which the other side may still be there. */
const ALIVE = new Set(["01", "02", "03"]);
/** The table is read piece by piece while it changes, so a line may be missed once. */
const MISSED_CHECKS = 2;

interface Watched {
  connection: string;
  since: number;
  missed: number;
  onGone: () => void;
}

export class Disconnects {
  readonly #port: number;
  readonly #readTable: () => Promise<string>;
  readonly #watched = new Set<Watched>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #checking = false;

  /** @param port where the clients connect to, on 127.0.0.1 */
  constructor(port: number, readTable = () => Deno.readTextFile(CONNECTIONS)) {
    this.#port = port;
    this.#readTable = readTable;
  }

  /** Calls `onGone` once when this client has closed its connection. Returns what ends the watch. */
  watch(client: Deno.NetAddr, onGone: () => void): () => void {
    const one = { connection: remote(client), since: performance.now(), missed: 0, onGone };
    this.#watched.add(one);
    this.#timer ??= setInterval(() => void this.#check(), CHECK_EVERY_MS);
    return () => this.#forget(one);
  }

  #forget(one: Watched): void {
    this.#watched.delete(one);
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #check(): Promise<void> {
    const before = performance.now() - CHECK_EVERY_MS;
    const waiting = [...this.#watched].filter(({ since }) => since <= before);
    if (waiting.length === 0 || this.#checking) return;
    this.#checking = true;
    try {
      const alive = aliveAt(this.#port, await this.#readTable());
      for (const one of waiting) {
        const state = alive.get(one.connection);
        one.missed = state === undefined ? one.missed + 1 : 0;
        if (state === false || one.missed >= MISSED_CHECKS) {
          this.#forget(one);
          one.onGone();
        }
      }
    } catch {
      // No such table here.
      for (const one of waiting) this.#forget(one);
    } finally {
      this.#checking = false;
    }
  }
}

/** By remote end: whether it may still be there. */
function aliveAt(port: number, table: string): Map<string, boolean> {
  const found = new Map<string, boolean>();
  const here = `:${hex(port, 4)}`;
  for (const line of table.split("\n")) {
    // sl local_address rem_address st ...
    const [, local, other, state] = line.trim().split(/\s+/, 4);
    if (local?.endsWith(here) && other !== undefined && state !== undefined) {
      found.set(other, ALIVE.has(state));
    }
  }
  return found;
}

/** An end of a connection as the table writes it: the address as the number it is in memory, little end first. */
function remote({ hostname, port }: Deno.NetAddr): string {
  const octets = hostname.split(".").map(Number).reverse();
  return `${octets.map((octet) => hex(octet, 2)).join("")}:${hex(port, 4)}`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}
