import ipaddr from "ipaddr.js";

/** Names that belong to a machine or a local network, whatever they resolve to (RFC 6761, RFC 6762, RFC 8375, RFC 9476). */
const CLOSED_NAMES =
  /(^|\.)(localhost|local|localdomain|internal|intranet|lan|home|corp|home\.arpa|alt|onion|test|invalid)$/;

/** What the internet routes of IPv6 (RFC 4291, 2.4): the package knows the special ranges in it, not those outside. */
const ROUTED_V6 = ipaddr.IPv6.parseCIDR("2000::/3");

/**
 * Whether an IP address is one of the public internet: not this machine, a private network, a link-local one (where clouds
 * keep their metadata), one that leads to an IPv4 address, or anything else that is set aside (IANA's special-purpose
 * registries, RFC 6890 and its successors, as `ipaddr.js` has them). What is no address is not, nor is an IPv4 address in
 * another spelling than four decimal numbers.
 */
export function isPublicAddress(address: string): boolean {
  if (ipaddr.IPv4.isValidFourPartDecimal(address)) return ipaddr.IPv4.parse(address).range() === "unicast";
  if (!ipaddr.IPv6.isValid(address)) return false;
  const v6 = ipaddr.IPv6.parse(address);
  return v6.match(ROUTED_V6) && v6.range() === "unicast";
}

/** Whether a URL's host (as `URL.hostname` spells it) may be public: a public address, or a name with a public ending. */
export function isPublicHost(hostname: string): boolean {
  const host = hostname.replace(/\.$/, "").toLowerCase();
  if (isAddress(host)) return isPublicAddress(unbracketed(host));
  return host.includes(".") && !CLOSED_NAMES.test(host);
}

/** Whether a URL's host is an address, not a name. */
export function isAddress(hostname: string): boolean {
  return hostname.startsWith("[") || ipaddr.IPv4.isValidFourPartDecimal(hostname);
}

function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}
