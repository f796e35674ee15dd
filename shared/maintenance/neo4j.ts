import { GatewayError } from "../contract/gateway_error.ts";
import { createSinkBooks } from "../database/posts/graph.ts";
import { copyGraph } from "../graph/copy.ts";
import { type Neo4jSettings, neo4jStatements } from "../graph/neo4j.ts";
import { post } from "./alerts/alert_channel.ts";
import type { Operation } from "./operation.ts";

/** A batch of some hundred nodes takes milliseconds; a server that has just started compiles for seconds. */
const ANSWER_TIMEOUT_MS = 15_000;

/**
 * The operation `neo4j`: copies what has changed in the graph, first and when asked for all of it. Where nothing is set up any more, what
 * was kept for it goes.
 * @param open null: no Neo4j is set up; throws GatewayError
 */
export function neo4jOperation(open: () => Neo4jSettings | null): Operation {
  return {
    name: "neo4j",
    async run({ call, fetch, deadline }) {
      const settings = open();
      const books = createSinkBooks(call, "neo4j");
      if (!await books.open(settings !== null) || settings === null) {
        return { tables: [], count: 0, details: {}, more: false };
      }
      const run = neo4jStatements(
        settings,
        (url, body, headers) =>
          post(url, body, headers, { fetch, signal: deadline.signal, timeoutMs: ANSWER_TIMEOUT_MS }),
      );
      const { written, delivered, failed, more, error } = await copyGraph(
        books,
        run,
        () => deadline.leftMs(),
      );
      if (error !== null && delivered === 0) {
        throw new GatewayError("upstream_unavailable", { detail: error });
      }
      return {
        tables: written + failed > 0 ? ["eve.graph_sinks"] : [],
        count: written,
        details: { written, delivered, failed, ...(error !== null && { error }) },
        more,
      };
    },
  };
}
