import type { Answer, Candidate } from "../../contract/content.ts";
import { withNumericEnums } from "./enums.ts";
import { invalidRequest } from "../validated.ts";

/** How a client wants its answer written. */
export interface GeminiEncoding {
  /** True: a stream as server-sent events; false: as one JSON array, which clients made before them expect. */
  sse: boolean;
  /**
   * Enums as numbers. Clients that ask for it are google-generativeai or made like it, and do not know thoughts: they
   * drop the mark `thought` and take Gemma's thoughts for the answer's beginning, so that no JSON can be read. They
   * get no thoughts.
   */
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
  return numericEnums ? withNumericEnums(withoutThoughts(body as Answer) as Body) : body;
}

/** Whether nothing of a chunk is left for this client: it held thoughts alone. */
export function isSkipped(chunk: Answer, { numericEnums }: GeminiEncoding): boolean {
  return numericEnums && chunk.promptFeedback === undefined && (chunk.candidates ?? []).length > 0 &&
    chunk.candidates!.every((each) => each.finishReason === undefined && thinksOnly(each));
}

function thinksOnly({ content }: Candidate): boolean {
  const parts = content?.parts ?? [];
  return parts.length > 0 && parts.every((part) => part.thought === true);
}

function withoutThoughts(body: Answer): Answer {
  if (body.candidates === undefined) return body;
  const candidates = body.candidates.map((each): Candidate => {
    const { content } = each;
    if (content?.parts === undefined) return each;
    // A text of nothing: this client throws where it asks for the text of a chunk without parts.
    const parts = thinksOnly(each) ? [{ text: "" }] : content.parts.filter((part) => part.thought !== true);
    return { ...each, content: { ...content, parts } };
  });
  return { ...body, candidates };
}
