import { isAddress, isPublicAddress, isPublicHost } from "./public_address.ts";

/** Longer than any link that a person would share. */
const MAX_URL_CHARS = 4_096;

/** A URL from outside that is not fetched, or whose answer is of no use. The message is for the caller who sent it. */
export class PublicFetchError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "PublicFetchError";
  }
}

/** The addresses of a name. */
export type Resolve = (host: string) => Promise<string[]>;

export interface Target {
  url: URL;
  /** Of its host, all of them public. Null: the host is an address itself, or nobody can tell. */
  addresses: string[] | null;
}

export interface TargetRules {
  /** Absent: the runtime cannot resolve names, and only the name itself is judged. */
  resolve?: Resolve | undefined;
  /** Whether the owner has named this host, so that it may be private and on any port. Absent: none. */
  allows?: ((hostname: string, port?: string) => boolean) | undefined;
}

/** Whether a host is one of those that the owner has named: `hooks.internal, 127.0.0.1:8080`. Without a port any of it is meant. */
export function namedHosts(text: string | undefined): (hostname: string, port?: string) => boolean {
  const hosts = new Set((text ?? "").split(",").map((host) => host.trim().toLowerCase()));
  hosts.delete("");
  return (hostname, port = "") =>
    hosts.has(hostname.toLowerCase()) || port !== "" && hosts.has(`${hostname.toLowerCase()}:${port}`);
}

/**
 * Where a URL leads, if it may be fetched: http or https on its usual port, a public host, no credentials.
 * @throws PublicFetchError
 */
export async function judgeTarget(text: string, rules: TargetRules, base?: URL): Promise<Target> {
  const url = judgeUrl(text, rules, base);
  const { resolve, allows } = rules;
  if (allows?.(url.hostname, url.port) || resolve === undefined || isAddress(url.hostname)) {
    return { url, addresses: null };
  }
  const addresses = await resolve(url.hostname).catch(() => []);
  if (addresses.length === 0) throw new PublicFetchError("has a host that does not exist");
  if (!addresses.every(isPublicAddress)) throw notPublic();
  return { url, addresses };
}

/** What the URL itself says about where it leads; nothing is looked up. @throws PublicFetchError */
export function judgeUrl(text: string, { allows }: Pick<TargetRules, "allows">, base?: URL): URL {
  if (text.length > MAX_URL_CHARS) throw new PublicFetchError(`is longer than ${MAX_URL_CHARS} characters`);
  if (!URL.canParse(text, base)) throw new PublicFetchError("is not a valid URL");
  const url = new URL(text, base);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw new PublicFetchError("must be http or https");
  }
  if (url.username !== "" || url.password !== "") throw new PublicFetchError("must not carry credentials");
  if (allows?.(url.hostname, url.port)) return url;
  if (url.port !== "") throw new PublicFetchError("must use the usual port");
  if (!isPublicHost(url.hostname)) throw notPublic();
  return url;
}

const notPublic = () => new PublicFetchError("must lead to a public host");
