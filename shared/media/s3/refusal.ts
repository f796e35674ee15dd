import { GatewayError } from "../../contract/gateway_error.ts";
import type { ErrorCode } from "../../contract/errors.ts";
import { parseAnswer } from "./xml.ts";

/** What a store answered instead of doing what it was asked. */
export interface Refusal {
  status: number;
  /** S3's word for it, such as `NoSuchKey`; null where the answer had none, as that to a HEAD. */
  code: string | null;
  requestId: string | null;
  /** When it said to come back. */
  retryAfterMs: number | null;
}

const CODE = /^[A-Za-z0-9.]{1,64}$/;
const REQUEST_ID = /^[A-Za-z0-9_./+=-]{1,128}$/;

/** Reads an answer that is none of success. @param text its body, or the beginning of it */
export function refusalOf(
  status: number,
  headers: Headers,
  text: string,
  retryAfterMs: number | null,
): Refusal {
  let code: string | null = null;
  let requestId = headers.get("x-amz-request-id");
  if (text.trimStart().startsWith("<")) {
    try {
      const root = parseAnswer(text);
      const error = root.name === "Error" ? root : root.all("Error")[0];
      code = error?.value("Code") ?? null;
      requestId ??= error?.value("RequestId") ?? null;
    } catch {
      // A proxy's page, or one that was cut off: the status says what there is to say.
    }
  }
  return {
    status,
    code: code !== null && CODE.test(code) ? code : null,
    requestId: requestId !== null && REQUEST_ID.test(requestId) ? requestId : null,
    retryAfterMs,
  };
}

/** Codes that pass by themselves, whatever their status. */
const PASSING = new Set([
  "InternalError",
  "OperationAborted",
  "ConditionalRequestConflict",
  "RequestTimeout",
  "ServiceUnavailable",
  "SlowDown",
  "Busy",
  "SlowDownRead",
  "SlowDownWrite",
  "TooManyRequests",
  "RequestLimitExceeded",
  "Throttling",
  "ThrottlingException",
]);
const PASSING_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Whether the same request may succeed a little later. */
export function passes({ status, code }: Refusal): boolean {
  return code !== null && PASSING.has(code) || PASSING_STATUS.has(status) && code !== "NotImplemented";
}

/** What the store says, and what it means to us. What is not here follows from the status. */
const MEANING: Readonly<Record<string, ErrorCode>> = {
  NoSuchKey: "object_not_found",
  NoSuchUpload: "object_not_found",
  InvalidRange: "invalid_request",
  BadDigest: "content_mismatch",
  InvalidDigest: "content_mismatch",
  XAmzContentSHA256Mismatch: "content_mismatch",
  InvalidPart: "content_mismatch",
  InvalidPartOrder: "content_mismatch",
  EntityTooSmall: "content_mismatch",
  EntityTooLarge: "file_too_large",
  QuotaExceeded: "storage_full",
  StorageFull: "storage_full",
  XMinioStorageFull: "storage_full",
  NoSuchBucket: "storage_misconfigured",
  InvalidBucketName: "storage_misconfigured",
  AuthorizationHeaderMalformed: "storage_misconfigured",
  AuthorizationQueryParametersError: "storage_misconfigured",
  IllegalLocationConstraintException: "storage_misconfigured",
  RequestTimeTooSkewed: "storage_misconfigured",
};

/** What to look at, for the owner's log. */
const ADVICE: Readonly<Record<string, string>> = {
  NoSuchBucket: "there is no bucket of the name in S3_BUCKET_NAME",
  InvalidAccessKeyId: "S3_ACCESS_KEY_ID is not known to the store",
  // Versity's word for it.
  XAdminUserNotFound: "S3_ACCESS_KEY_ID is not known to the store",
  SignatureDoesNotMatch: "S3_SECRET_ACCESS_KEY does not belong to S3_ACCESS_KEY_ID, or S3_REGION is wrong",
  AccessDenied: "the key may not do this in the bucket",
  AuthorizationHeaderMalformed: "S3_REGION is wrong",
  RequestTimeTooSkewed: "the clocks of this machine and of the store differ too much",
};

/** The refusal as the error that callers meet; its detail is for the log and holds nothing that is secret. */
export function refusalError(operation: string, refusal: Refusal): GatewayError {
  const { status, code, requestId, retryAfterMs } = refusal;
  const redirected = status >= 300 && status < 400;
  const advice = redirected
    ? "a redirect, which is not followed: S3_ENDPOINT_URL or S3_REGION is another bucket's"
    : ADVICE[code ?? ""] ??
      (status === 404 && code === null ? "S3_ENDPOINT_URL is no address of S3" : undefined);
  return new GatewayError(meaningOf(refusal), {
    retryAfterMs,
    detail: `S3 ${operation}: status ${status}${code === null ? "" : ` ${code}`}` +
      `${advice === undefined ? "" : `: ${advice}`}${requestId === null ? "" : ` (request ${requestId})`}`,
  });
}

function meaningOf(refusal: Refusal): ErrorCode {
  const { status, code } = refusal;
  const known = MEANING[code ?? ""];
  if (known !== undefined) return known;
  if (passes(refusal)) return "storage_unavailable";
  if (status >= 300 && status < 400 || status === 401 || status === 403) return "storage_misconfigured";
  // Known ones are above, and HEAD, whose answer has no word for it, looks at the status itself: so this is about more than a key.
  if (status === 404) return "storage_misconfigured";
  if (status === 413) return "file_too_large";
  if (status === 416) return "invalid_request";
  if (status === 507) return "storage_full";
  return "storage_failed";
}
