import { withNumericEnums } from "./gemini_enums.ts";
import { invalidRequest } from "./validated.ts";

/** How a client wants its answer written. */
export interface GeminiEncoding {
  /** True: a stream as server-sent events; false: as one JSON array, which clients made before them expect. */
  sse: boolean;
  numericEnums: boolean;
}

/**
 * The encoding that the query asks for, under either name of Google's system parameter: `alt=sse`, or
 * `$alt=json;enum-encoding=int` of older clients (https://cloud.google.com/apis/docs/system-parameters).
 * @throws GatewayError `invalid_request` for a format that is neither `json` nor `sse`
 */
export function geminiEncoding(url: string): GeminiEncoding {
  const query = new URL(url).searchParams;
  const [format, ...options] = (query.get("$alt") ?? query.get("alt") ?? "json").toLowerCase().split(";");
  if (format !== "json" && format !== "sse") {
    throw invalidRequest([{ field: "alt", problem: "must be json or sse" }]);
  }
  return { sse: format === "sse", numericEnums: options.includes("enum-encoding=int") };
}

/** A body as its client wants it. */
export function encoded<Body>(body: Body, { numericEnums }: GeminiEncoding): Body {
  return numericEnums ? withNumericEnums(body) : body;
}
