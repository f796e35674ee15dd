/** Longest textual form of an IPv6 address, with a zone. */
const MAX_ADDRESS_CHARS = 64;

/**
 * The address that a request came from, as the proxy before the function reports it; null if none does. Hosted projects are behind
 * Cloudflare, which sets `cf-connecting-ip` itself. Elsewhere it is the last entry of `x-forwarded-for`: the nearest proxy
 * wrote that one, while the caller may have written those before it.
 */
export function addressOf(request: Request): string | null {
  const said = request.headers.get("cf-connecting-ip") ??
    request.headers.get("x-forwarded-for")?.split(",").at(-1);
  const address = said?.trim().slice(0, MAX_ADDRESS_CHARS) ?? "";
  return /^[0-9a-fA-F.:%\w]+$/.test(address) ? address : null;
}
