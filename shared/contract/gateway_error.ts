import { type ErrorCode, errorRow } from "./errors.ts";
import type { Limits } from "./limits.ts";

export interface GatewayErrorFields {
  /** Replaces the table's message; for the caller's eyes, so it names no key, host or table that is not theirs. */
  message?: string;
  /** For the log only. */
  detail?: string;
  retryable?: boolean;
  /** When to come back. Null or absent: no time is known. */
  retryAfterMs?: number | null;
  /** Structured facts for the caller. */
  details?: unknown;
  limits?: Limits | null;
  model?: string | null;
  /** Headers that belong to the error, such as `allow`. */
  headers?: Record<string, string>;
  cause?: unknown;
}

/** The one error class. What it says in public comes from the table in errors.ts; `detail` never leaves the gateway. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly retryable: boolean;
  readonly publicMessage: string;
  readonly detail: string | null;
  readonly retryAfterMs: number | null;
  readonly details: unknown;
  readonly limits: Limits | null;
  readonly model: string | null;
  readonly headers: Record<string, string>;

  constructor(code: ErrorCode, fields: GatewayErrorFields = {}) {
    const row = errorRow(code);
    super(fields.message ?? row.message, { cause: fields.cause });
    this.name = "GatewayError";
    this.code = code;
    this.status = row.status;
    this.retryable = fields.retryable ?? row.retryable;
    this.publicMessage = fields.message ?? row.message;
    this.detail = fields.detail ?? null;
    this.retryAfterMs = fields.retryAfterMs ?? null;
    this.details = fields.details;
    this.limits = fields.limits ?? null;
    this.model = fields.model ?? null;
    this.headers = fields.headers ?? {};
  }
}

/** Anything that was thrown, as a GatewayError: what is not one becomes the fixed `internal`, its text kept for the log. */
export function asGatewayError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  const detail = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return new GatewayError("internal", { detail, cause: thrown });
}
