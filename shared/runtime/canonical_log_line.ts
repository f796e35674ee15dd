import type { CallLog } from "../contract/request.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { Trace } from "../contract/trace.ts";

/** Fields of a line of the log. */
export type LogAttributes = Record<string, unknown>;

/**
 * The canonical log line of one HTTP request: written when it has been answered and everything that it started has
 * ended. An answer that is streamed is answered first and ends later; most end first. A request for many embeddings is one
 * line for each, since each is a call of its own.
 */
export class CanonicalLogLine implements CallLog {
  readonly trace: Trace;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #receivedAt: number;
  #answer: { status: number; attributes: LogAttributes } | null = null;
  #running = 0;
  #ended: LogAttributes[] = [];

  constructor(parts: { trace: Trace; log: Log; clock: Clock; receivedAt: number }) {
    this.trace = parts.trace;
    this.#log = parts.log;
    this.#clock = parts.clock;
    this.#receivedAt = parts.receivedAt;
  }

  /** A call begins that `end` will report. */
  begin(): void {
    this.#running++;
  }

  end(attributes: LogAttributes): void {
    this.#running--;
    this.#ended.push(attributes);
    this.#tellIfOver();
  }

  /** The response is ready, be it an answer or an error. */
  responded(status: number, attributes: LogAttributes): void {
    this.#answer = { status, attributes };
    this.#tellIfOver();
  }

  #tellIfOver(): void {
    if (this.#answer === null || this.#running > 0) return;
    const { status, attributes } = this.#answer;
    for (const ended of this.#ended.length > 0 ? this.#ended : [{}]) {
      const { traceId, spanId, parentSpanId } = this.trace;
      // A stream has sent its status before it fails.
      const failed = status < 400 && ended["eve.outcome"] === "failed";
      // 507 is a caller's quota that is used up.
      const broken = status >= 500 && status !== 507;
      this.#log(broken ? "error" : failed ? "warn" : "info", "request_ended", {
        trace_id: traceId,
        span_id: spanId,
        parent_span_id: parentSpanId ?? undefined,
        ...attributes,
        ...ended,
        "http.response.status_code": status,
        "eve.duration_ms": Math.round(this.#clock.now() - this.#receivedAt),
      });
    }
    this.#ended = [];
  }
}
