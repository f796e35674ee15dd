import { GatewayError } from "../contract/gateway_error.ts";
import { BODY_TIMEOUT_MS, readBody } from "./body.ts";
import type { JsonBodyTerms } from "./json_body.ts";
import { BODY_COPIES } from "./work_budget.ts";

/** A file or sixteen, and a handful of fields. A part costs far more than its bytes: ten megabytes hold 170,000 small ones. */
export const MAX_FORM_PARTS = 100;

/** RFC 2046, section 5.1.1. */
const MAX_BOUNDARY_CHARACTERS = 70;

/** Whether a body of this type is a multipart form. */
export function isForm(contentType: string): boolean {
  return /^multipart\/form-data\b/i.test(contentType);
}

/** Counts a form's parts while it arrives, so that one of too many is never read to its end, let alone taken apart. */
export class FormPartCount {
  readonly #delimiter: string;
  readonly #decoder = new TextDecoder("latin1");
  /** The end of what has come, in which a delimiter may have begun. */
  #rest = "";
  #parts = 0;

  /** @throws GatewayError `invalid_request`: the type names no boundary */
  constructor(contentType: string) {
    const [, quoted, plain] = /;\s*boundary=(?:"([^"]+)"|([^\s;"]+))/i.exec(contentType) ?? [];
    const boundary = quoted ?? plain;
    if (boundary === undefined || boundary.length > MAX_BOUNDARY_CHARACTERS) throw brokenForm();
    this.#delimiter = `--${boundary}`;
  }

  /** @throws GatewayError `body_too_large` */
  add(piece: Uint8Array): void {
    const text = this.#rest + this.#decoder.decode(piece);
    let from = 0;
    for (let at = text.indexOf(this.#delimiter); at >= 0; at = text.indexOf(this.#delimiter, from)) {
      from = at + this.#delimiter.length;
      // The last delimiter ends the form, and begins no part.
      if (++this.#parts > MAX_FORM_PARTS + 1) {
        throw new GatewayError("body_too_large", {
          message: `The form has more than ${MAX_FORM_PARTS} parts. Send fewer.`,
        });
      }
    }
    this.#rest = text.slice(Math.max(from, text.length - this.#delimiter.length + 1));
  }
}

/**
 * A request's body as a multipart form, for callers whose credential has been verified.
 * @throws GatewayError `body_too_large`, `body_timeout`, `gateway_busy`, `invalid_request`, what `confirmCaller` throws
 */
export async function readFormBody(
  request: Request,
  { maxBytes, clock, work, confirmCaller }: JsonBodyTerms,
): Promise<FormData> {
  const contentType = request.headers.get("content-type") ?? "";
  if (!isForm(contentType)) {
    throw new GatewayError("invalid_request", {
      message: "The body must be a multipart form (content-type: multipart/form-data).",
    });
  }
  const count = new FormPartCount(contentType);
  const bytes = await readBody(request, {
    maxBytes,
    timeoutMs: BODY_TIMEOUT_MS,
    clock,
    onBytes: (announced) => work.add(announced * BODY_COPIES),
    onPiece: (piece) => count.add(piece),
    onLarge: confirmCaller,
  });
  await work.turn(clock);
  try {
    return await new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { "content-type": contentType } })
      .formData();
  } catch {
    throw brokenForm();
  }
}

function brokenForm(): GatewayError {
  return new GatewayError("invalid_request", {
    message: "The body is no multipart form, or it breaks off.",
  });
}
