/** Longest textual form of an IPv6 address, with a zone. */
const MAX_ADDRESS_CHARS = 64;

/**
 * Where a request came from, as told by what stands before the function; null if nobody says. Hosted projects are behind
 * Cloudflare, which sets `cf-connecting-ip` itself. Elsewhere it is the last entry of `x-forwarded-for`: the nearest proxy
 * wrote that one, while those before it may be the caller's own words.
 */
export function addressOf(request: Request): string | null {
  const said = request.headers.get("cf-connecting-ip") ??
    request.headers.get("x-forwarded-for")?.split(",").at(-1);
  const address = said?.trim().slice(0, MAX_ADDRESS_CHARS) ?? "";
  return /^[0-9a-fA-F.:%\w]+$/.test(address) ? address : null;
}
