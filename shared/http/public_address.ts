/**
 * Networks that a URL from outside may not lead to: this machine, private networks, link-local ones (where clouds keep
 * their metadata), and everything else that the public internet does not route (IANA special-purpose registries,
 * RFC 6890 and its successors).
 */
const CLOSED_V4: readonly (readonly [network: string, bits: number])[] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
];

/** Names that belong to a machine or a local network, whatever they resolve to (RFC 6761, RFC 6762, RFC 8375, RFC 9476). */
const CLOSED_NAMES =
  /(^|\.)(localhost|local|localdomain|internal|intranet|lan|home|corp|home\.arpa|alt|onion|test|invalid)$/;

/** Whether an IP address, in any of its spellings, is one of the public internet. What is no address is not. */
export function isPublicAddress(address: string): boolean {
  const v4 = v4Of(address);
  if (v4 !== null) return CLOSED_V4.every(([network, bits]) => !withTimeout(v4, network, bits));
  const groups = v6Groups(address);
  return groups !== null && isPublicV6(groups);
}

/** Whether a URL's host (as `URL.hostname` spells it) may be public: a public address, or a name with a public ending. */
export function isPublicHost(hostname: string): boolean {
  const host = hostname.replace(/\.$/, "").toLowerCase();
  if (isAddress(host)) return isPublicAddress(unbracketed(host));
  return host.includes(".") && !CLOSED_NAMES.test(host);
}

/** Whether a URL's host is an address, not a name. */
export function isAddress(hostname: string): boolean {
  return hostname.startsWith("[") || v4Of(hostname) !== null;
}

function unbracketed(host: string): string {
  return host.replace(/^\[|\]$/g, "");
}

function v4Of(text: string): number | null {
  const bytes = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  if (bytes === undefined || bytes.some((byte) => byte > 255)) return null;
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

function withTimeout(address: number, network: string, bits: number): boolean {
  const size = 2 ** (32 - bits);
  return Math.floor(address / size) === Math.floor((v4Of(network) ?? 0) / size);
}

/** The eight groups of an IPv6 address; null if it is none. */
function v6Groups(text: string): number[] | null {
  const address = text.replace(/%.*$/, "");
  if (!/^[0-9a-f:.]+$/i.test(address) || !address.includes(":")) return null;
  const [head = "", tail, ...more] = address.split("::");
  if (more.length > 0) return null;
  const front = groupsIn(head);
  const back = tail === undefined ? [] : groupsIn(tail);
  if (front === null || back === null) return null;
  const missing = 8 - front.length - back.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return null;
  return [...front, ...Array<number>(missing).fill(0), ...back];
}

function groupsIn(text: string): number[] | null {
  if (text === "") return [];
  const groups: number[] = [];
  for (const piece of text.split(":")) {
    const v4 = v4Of(piece);
    if (v4 !== null) groups.push(Math.floor(v4 / 65_536), v4 % 65_536);
    else if (/^[0-9a-f]{1,4}$/i.test(piece)) groups.push(Number.parseInt(piece, 16));
    else return null;
  }
  return groups;
}

/** Only 2000::/3 is routed; within it, what carries an IPv4 address or is set aside is closed too. */
function isPublicV6(groups: number[]): boolean {
  const [first = 0, second = 0] = groups;
  if ((first & 0xe000) !== 0x2000) return false;
  if (first === 0x2001 && second < 0x0200) return false; // Teredo, benchmarks, ORCHID
  if (first === 0x2001 && second === 0x0db8) return false; // documentation
  if (first === 0x2002) return false; // 6to4: leads to an IPv4 address
  return !(first === 0x3fff && second < 0x1000); // documentation
}
