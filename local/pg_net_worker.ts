/**
 * Sends what the stand-in for pg_net (local/platform/04_net.sql) has queued, and puts the answers where the extension does:
 * each request once, whatever becomes of it.
 */
import { PollingClient } from "./polling_client.ts";

export interface PgNetWorkerOptions {
  databaseUrl: string;
  log: (line: string) => void;
}

/** How soon a queued request is noticed. */
const POLL_MS = 500;
/** The extension's own `pg_net.batch_size`. */
const BATCH = 200;
/** The extension's own `pg_net.ttl`: answers are kept this long. */
const KEEP = "6 hours";
const CLEAR_EVERY_MS = 60_000;
/** Of an answer, no more than this is kept. */
const MAX_CONTENT_CHARS = 1_000_000;

interface Queued {
  id: string;
  method: string;
  url: string;
  headers: Record<string, string> | null;
  body: Uint8Array | null;
  timeout_milliseconds: number;
}

interface Answer {
  status_code: number | null;
  content_type: string | null;
  headers: Record<string, string> | null;
  content: string | null;
  timed_out: boolean;
  error_msg: string | null;
}

export class PgNetWorker {
  readonly #options: PgNetWorkerOptions;
  readonly #client: PollingClient;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #polling: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #clearedAt = 0;

  constructor(options: PgNetWorkerOptions) {
    this.#options = options;
    this.#client = new PollingClient(options.databaseUrl, 2);
  }

  start(): void {
    const poll = async () => {
      this.#polling = this.#client.poll(() => this.#poll());
      await this.#polling;
      if (!this.#stop.signal.aborted) this.#timer = setTimeout(poll, POLL_MS);
    };
    poll();
  }

  /** Sends nothing more; what is under way is broken off, and its answer says so. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("the local stack ended"));
    clearTimeout(this.#timer);
    await this.#polling;
    await Promise.all(this.#underWay);
    await this.#client.end();
  }

  async #poll(): Promise<void> {
    if (Date.now() - this.#clearedAt > CLEAR_EVERY_MS) {
      await this.#client.sql`delete from net._http_response where created < now() - ${KEEP}::interval`;
      this.#clearedAt = Date.now();
    }
    const queued = await this.#client.sql<Queued[]>`
      delete from net.http_request_queue
      where id in (select id from net.http_request_queue order by id limit ${BATCH} for update skip locked)
      returning id, method, url, headers, body, timeout_milliseconds`;
    for (const request of queued) {
      const sent = this.#send(request)
        .catch((error) => this.#stop.signal.aborted || this.#options.log(`net: ${error.message}`))
        .then(() => {})
        .finally(() => this.#underWay.delete(sent));
      this.#underWay.add(sent);
    }
  }

  async #send(request: Queued): Promise<void> {
    const answer = await this.#ask(request);
    await this.#client.sql`
      insert into net._http_response (id, status_code, content_type, headers, content, timed_out, error_msg)
      values (
        ${request.id}, ${answer.status_code}, ${answer.content_type},
        ${
      answer.headers === null ? null : this.#client.sql.json(answer.headers)
    }, ${answer.content}, ${answer.timed_out},
        ${answer.error_msg}
      )`;
  }

  async #ask({ method, url, headers, body, timeout_milliseconds }: Queued): Promise<Answer> {
    const timeUp = AbortSignal.timeout(timeout_milliseconds);
    try {
      const response = await fetch(url, {
        method,
        headers: headers ?? {},
        body: body === null ? undefined : new Uint8Array(body),
        redirect: "manual",
        signal: AbortSignal.any([timeUp, this.#stop.signal]),
      });
      const content = await response.text();
      return {
        status_code: response.status,
        content_type: response.headers.get("content-type"),
        headers: Object.fromEntries(response.headers),
        // PostgreSQL's text takes every character but this one.
        content: content.replaceAll("\0", "").slice(0, MAX_CONTENT_CHARS),
        timed_out: false,
        error_msg: null,
      };
    } catch (error) {
      const said = error instanceof Error ? error.message : String(error);
      const nothing = { status_code: null, content_type: null, headers: null, content: null };
      if (!timeUp.aborted) return { ...nothing, timed_out: false, error_msg: said };
      return { ...nothing, timed_out: true, error_msg: `Timeout of ${timeout_milliseconds} ms reached` };
    }
  }
}
