/**
 * Other addresses for what the endpoints serve: those that clients make of a base URL which ends elsewhere, and Google's own address of
 * OpenAI's API. One table, from the first row to the last; what none of them names stands as it is.
 */
interface Alias {
  from: RegExp;
  to: string;
  /** Whose request it must be. Absent: anybody's. */
  of?: (request: Request) => boolean;
}

/** What OpenAI's API has, and nobody else's by these names. */
const OPENAI_ALONE = "chat/completions|completions|responses|embeddings|moderations|audio|images|uploads";
/** What Gemini's API has by the same names. */
const OF_BOTH = "models|files|batches";
const ANTHROPIC = "messages|models|complete";

/** Ends a name. */
const END = "(?=/|$)";

const isAnthropics = ({ headers }: Request) => headers.has("anthropic-version");
/** Its clients say in which language they are written; Google's bring their key in a place of their own. */
const isOpenais = ({ headers }: Request) => headers.has("x-stainless-lang") && !headers.has("x-goog-api-key");
// What Gemini's API alone has stands behind a colon there.

/** Gemini's API has nothing to post there. */
const posts = ({ method }: Request) => method === "POST";

const ALIASES: readonly Alias[] = [
  { from: new RegExp(`^/v1(?:alpha|beta)?/openai(?:/v1)*${END}`), to: "/openai/v1" },
  { from: new RegExp(`^/openai(?:/v1)*/(?=(?:${OPENAI_ALONE}|${OF_BOTH})${END})`), to: "/openai/v1/" },
  { from: new RegExp(`^/anthropic(?:/v1)*/(?=(?:${ANTHROPIC})${END})`), to: "/anthropic/v1/" },
  { from: new RegExp(`^(?:/v1)?/messages${END}`), to: "/anthropic/v1/messages" },
  { from: /^(?:\/v1)?\/models(?=$|\/[^:]*$)/, to: "/anthropic/v1/models", of: isAnthropics },
  { from: new RegExp(`^(?:/v1)?/(?=(?:${OPENAI_ALONE})${END})`), to: "/openai/v1/" },
  { from: new RegExp(`^/(?=(?:${OF_BOTH})${END})`), to: "/openai/v1/" },
  { from: new RegExp(`^/v1/(?=(?:files|batches)(?:$|/[^/]+/cancel$))`), to: "/openai/v1/", of: posts },
  { from: new RegExp(`^/v1/(?=(?:${OF_BOTH})(?:$|/[^:]*$))`), to: "/openai/v1/", of: isOpenais },
  { from: new RegExp(`^(/upload)?/v1alpha${END}`), to: "$1/v1beta" },
];

/** @param path below the function's own */
export function canonicalPath(path: string, request: Request): string {
  if (path === "/") return path;
  for (const { from, to, of } of ALIASES) {
    if (from.test(path) && (of === undefined || of(request))) return path.replace(from, to);
  }
  return path;
}
