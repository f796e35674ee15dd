/** A client of the runtime's that trusts more roots: `Deno.createHttpClient`. */
export type CreateClient = (options: { caCerts: string[] }) => unknown;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/**
 * A `fetch` that trusts the certificates of a PEM text beside those that the runtime trusts anyway: some providers' servers have
 * a root that is in no browser's store. Line ends may be written as `\n`, as in variables that have one line.
 *
 * A text that holds no certificate fails the calls that need one, and no others.
 */
export function trustingFetch(pem: string | undefined, createClient: CreateClient): typeof fetch {
  if (!pem) return (input, init) => fetch(input, init);
  // Made at the first call: most functions never make one.
  let client: unknown;
  return async (input, init) => {
    client ??= createClient({ caCerts: certificatesIn(pem) });
    // Deno's own field: the types of the web know none.
    const trusting: RequestInit & { client: unknown } = { ...init, client };
    return await fetch(input, trusting);
  };
}

function certificatesIn(pem: string): string[] {
  const found = pem.replaceAll("\\n", "\n").match(CERTIFICATE);
  if (found === null) throw new TypeError("the root certificates that were configured are not in PEM form");
  return found;
}
