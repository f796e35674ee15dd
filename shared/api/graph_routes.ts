import * as z from "zod";
import {
  EDGE_KINDS,
  graphNodes,
  graphPath,
  graphStats,
  graphSync,
  neighbours,
  NODE_KINDS,
  relatedPosts,
} from "../database/posts/graph.ts";
import { jsonResponse } from "../http/json_response.ts";
import { type ApiRoute, apiRoute, tenantId } from "./route.ts";

/** The database's bounds are the same (public.graph_nodes). */
const kind = z.enum(NODE_KINDS);
const key = z.string().min(1).max(2_000);
const wholeNumber = (most: number, usual: number) =>
  z.string().regex(/^\d{1,4}$/, `must be 1 to ${most}`).transform(Number).pipe(z.int().min(1).max(most))
    .default(usual);
const ofTenant = z.strictObject({ tenant_id: tenantId.optional() });

export const graphRoutes: readonly ApiRoute[] = [
  apiRoute({
    method: "get",
    path: "/v1/graph/neighbours",
    tag: "graph",
    summary: "What hangs together with a node, some edges away: the nearest, and of those the newest",
    query: ofTenant.extend({
      kind,
      key,
      depth: wholeNumber(3, 1),
      limit: wholeNumber(500, 100),
      /** Kinds of edges to follow, with commas between them. */
      edges: z.string().transform((list) => list.split(",")).pipe(z.array(z.enum(EDGE_KINDS)).min(1))
        .optional(),
    }),
    answers: { 200: { description: "Nodes and the edges between them", shape: neighbours } },
    async serve({ dependencies: { graph }, actor, requestId }, { query }) {
      const found = await graph.neighbours(actor, query, {
        tenantId: query.tenant_id ?? null,
        depth: query.depth,
        limit: query.limit,
        kinds: query.edges ?? null,
      });
      return jsonResponse(200, found, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/graph/path",
    tag: "graph",
    summary: "A shortest path between two nodes, whichever way its edges point",
    query: ofTenant.extend({
      from_kind: kind,
      from_key: key,
      to_kind: kind,
      to_key: key,
      depth: wholeNumber(8, 4),
    }),
    answers: { 200: { description: "The path; without a length: there is none", shape: graphPath } },
    async serve({ dependencies: { graph }, actor, requestId }, { query }) {
      const found = await graph.path(
        actor,
        { kind: query.from_kind, key: query.from_key },
        { kind: query.to_kind, key: query.to_key },
        { tenantId: query.tenant_id ?? null, depth: query.depth },
      );
      return jsonResponse(200, found, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/graph/related",
    tag: "graph",
    summary: "Posts that share pictures, links or labels with a post, what is rarer counting more",
    query: ofTenant.extend({ post_id: z.uuid(), limit: wholeNumber(100, 20) }),
    answers: { 200: { description: "The best first", shape: relatedPosts } },
    async serve({ dependencies: { graph }, actor, requestId }, { query }) {
      const options = { tenantId: query.tenant_id ?? null, limit: query.limit };
      return jsonResponse(200, await graph.related(actor, query.post_id, options), requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/graph/nodes",
    tag: "graph",
    summary: "Nodes of a kind, the newest first; with a prefix those whose key begins so, by the key",
    query: ofTenant.extend({
      kind,
      prefix: key.optional(),
      before: z.string().regex(/^\d{1,15}$/, "must be next_before of the page before").transform(Number)
        .optional(),
      limit: wholeNumber(200, 50),
    }),
    answers: { 200: { description: "A page of nodes", shape: graphNodes } },
    async serve({ dependencies: { graph }, actor, requestId }, { query }) {
      const found = await graph.nodes(actor, {
        tenantId: query.tenant_id ?? null,
        kind: query.kind,
        prefix: query.prefix ?? null,
        before: query.before ?? null,
        limit: query.limit,
      });
      return jsonResponse(200, found, requestId);
    },
  }),
  apiRoute({
    method: "get",
    path: "/v1/graph/stats",
    tag: "graph",
    summary: "How large a tenant's graph is, and what waits to be written; for the project also its copies",
    query: ofTenant,
    answers: { 200: { description: "Nodes and edges by kind", shape: graphStats } },
    async serve({ dependencies: { graph }, actor, requestId }, { query }) {
      return jsonResponse(200, await graph.stats(actor, query.tenant_id ?? null), requestId);
    },
  }),
  apiRoute({
    method: "post",
    path: "/v1/graph/sync",
    tag: "graph",
    summary:
      "Has the graph written again, from the tables (postgres, a page with each call) or to its copy (neo4j): with the project's secret key, or as an administrator",
    body: ofTenant.extend({
      to: z.enum(["postgres", "neo4j"]).default("postgres"),
      /** next_after of the call before. */
      after: z.strictObject({ step: z.enum(["posts", "nodes"]), last: z.string().max(100).optional() })
        .optional(),
    }),
    answers: { 200: { description: "What was written, or that it will be", shape: graphSync } },
    async serve({ dependencies: { graph }, actor, requestId }, { body }) {
      const options = { tenantId: body.tenant_id ?? null, after: body.after };
      return jsonResponse(200, await graph.sync(actor, body.to, options), requestId);
    },
  }),
];
