import type { Connect, Connection } from "./pinned_request.ts";
import type { Resolve } from "./public_target.ts";

/** What is used of Deno; a runtime may lack any of it. */
export interface NetworkRuntime {
  resolveDns?(host: string, type: "A" | "AAAA"): Promise<string[]>;
  connect?(to: { hostname: string; port: number }): Promise<Connection>;
  // deno-lint-ignore no-explicit-any -- it takes what `connect` has made, whose type is Deno's own.
  startTls?(connection: any, options: { hostname: string }): Promise<Connection>;
}

/** How to look a name up, and to connect to an address in the name of its host; undefined where the runtime cannot. */
export function networkOf(runtime: NetworkRuntime): {
  resolve: Resolve | undefined;
  connect: Connect | undefined;
} {
  const { resolveDns, connect, startTls } = runtime;
  return {
    resolve: typeof resolveDns !== "function" ? undefined : async (host) => {
      const found = await Promise.allSettled([resolveDns(host, "A"), resolveDns(host, "AAAA")]);
      return found.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []);
    },
    connect: typeof connect !== "function" || typeof startTls !== "function"
      ? undefined
      : async ({ address, port, tlsName }) => {
        const connection = await connect({ hostname: address, port });
        return tlsName === null ? connection : await startTls(connection, { hostname: tlsName });
      },
  };
}
