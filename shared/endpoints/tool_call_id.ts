import { plainModel } from "./model_name.ts";

/**
 * The ids of tool calls, as clients see them and send them back.
 *
 * Upstream signs its calls (`thoughtSignature`) and wants the signature back with them. OpenAI's clients get it in `extra_content`, as
 * on Google's own OpenAI endpoint; a client that drops unknown fields still sends back the id, so the id carries it too:
 * `call_<id>` or `call_<id>__sig__<signature>`, of letters, digits, `-` and `_` only, which every client takes. Anthropic's clients,
 * whose blocks have no room for more, know them as `toolu_...`.
 */
const PREFIXES = { openai: "call_", anthropic: "toolu_" } as const;
/** Before an id that upstream gave, and that it will look for in the answer. */
const UPSTREAM = "g-";
const SIGNATURE = "__sig__";

const ID = /^(?:call|toolu)_(g-)?([A-Za-z0-9_-]+)$/;
const UPSTREAM_ID = /^(?!.*__sig__)[A-Za-z0-9_-]{1,100}$/;
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

export interface CallMarks {
  /** The id that upstream gave the call; null: it gave none, or the call was made elsewhere. */
  upstreamId: string | null;
  /** In standard base64, as upstream writes it. */
  signature: string | null;
}

/** @param freshId letters, digits and `-`; for a call that upstream gave no id */
export function toolCallId(
  { upstreamId, signature }: CallMarks,
  freshId: string,
  clients: keyof typeof PREFIXES = "openai",
): string {
  const known = upstreamId !== null && UPSTREAM_ID.test(upstreamId);
  const id = PREFIXES[clients] + (known ? UPSTREAM + upstreamId : freshId);
  if (signature === null || !BASE64.test(signature)) return id;
  return id + SIGNATURE + signature.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** What an id carries; nothing, if it is not one of ours. */
export function marksOf(id: string): CallMarks {
  const [, upstream, rest = ""] = ID.exec(id) ?? [];
  // The first one: an expression would try each of thousands.
  const at = rest.indexOf(SIGNATURE, 1);
  const isSigned = at > 0 && at + SIGNATURE.length < rest.length;
  const bare = isSigned ? rest.slice(0, at) : rest;
  return {
    upstreamId: upstream !== undefined && bare !== "" ? bare : null,
    signature: isSigned ? standardBase64(rest.slice(at + SIGNATURE.length)) : null,
  };
}

function standardBase64(text: string): string {
  const standard = text.replaceAll("-", "+").replaceAll("_", "/");
  return standard.padEnd(Math.ceil(standard.length / 4) * 4, "=");
}

/** Upstream's word for a call whose signature is not at hand because it was made elsewhere. */
export const UNSIGNED_CALL = "skip_thought_signature_validator";
/** Whether a model refuses a call without a signature: Gemini 3 and later. */
export function wantsSignatures(model: string): boolean {
  return /^gemini-(?![12](\.|-|$))/.test(plainModel(model));
}
