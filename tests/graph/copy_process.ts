/**
 * Runs the operation `neo4j` once, in a process that a test kills. Arguments: the database's address, the variables as JSON, and at which
 * request to Neo4j it stops for ever: `before 3` (it is not sent) or `after 3` (its answer is not noted). It prints `stopped` then.
 */
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { neo4jSettings } from "../../shared/graph/neo4j.ts";
import { neo4jOperation } from "../../shared/maintenance/neo4j.ts";
import type { OperationContext } from "../../shared/maintenance/operation.ts";

const [url, variables, when, count] = Deno.args as [string, string, string, string];
const direct = directTransport({ url, connections: 1, pooler: false });
const values = JSON.parse(variables);
let sent = 0;
const stop = (): Promise<never> => {
  console.log("stopped");
  return new Promise(() => setInterval(() => {}, 1000));
};
await neo4jOperation(() => neo4jSettings((name) => values[name])).run({
  call: direct.call,
  fetch: async (input: URL | RequestInfo, init?: RequestInit) => {
    const isIt = ++sent === Number(count);
    if (isIt && when === "before") await stop();
    const response = await fetch(input, init);
    if (isIt && when === "after") await stop();
    return response;
  },
  deadline: { signal: new AbortController().signal, leftMs: () => 600_000 },
} as unknown as OperationContext);
console.log("done");
