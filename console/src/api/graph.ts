import type { Api, Query } from "./api.ts";

/** What the function api answers about the graph (docs/graph.md). */
export const NODE_KINDS = ["Post", "ImageContent", "Article", "Label", "Channel", "Domain"] as const;
export type NodeKind = typeof NODE_KINDS[number];

export interface GraphNode {
  /** `Post/<id>`: what edges name it by. */
  id: string;
  kind: NodeKind;
  key: string;
  properties: Record<string, unknown>;
  trace_id: string | null;
  at: string;
}

export interface GraphEdge {
  kind: string;
  from: string;
  to: string;
  properties: Record<string, unknown>;
}

export interface Neighbours {
  /** The one that was asked about first; `depth` is how many edges away. */
  nodes: (GraphNode & { depth: number })[];
  edges: GraphEdge[];
  truncated: boolean;
}

export interface RelatedPosts {
  posts: { node: GraphNode; score: number; shared: GraphNode[] }[];
}

export interface GraphApi {
  nodes(tenantId: string, kind: NodeKind, signal: AbortSignal): Promise<{ nodes: GraphNode[] }>;
  neighbours(
    tenantId: string,
    node: { kind: string; key: string },
    depth: number,
    signal: AbortSignal,
  ): Promise<Neighbours>;
  related(tenantId: string, postId: string, signal: AbortSignal): Promise<RelatedPosts>;
}

/** More is no picture that a person reads. */
const SHOWN_NODES = 60;

/** @param api of the function `api` */
export function createGraphApi(api: Api): GraphApi {
  const get = api.get as <Answer>(path: string, query: Query, signal: AbortSignal) => Promise<Answer>;
  return {
    nodes: (tenantId, kind, signal) =>
      get("/v1/graph/nodes", { tenant_id: tenantId, kind, limit: 50 }, signal),
    neighbours: (tenantId, { kind, key }, depth, signal) =>
      get("/v1/graph/neighbours", { tenant_id: tenantId, kind, key, depth, limit: SHOWN_NODES }, signal),
    related: (tenantId, postId, signal) =>
      get("/v1/graph/related", { tenant_id: tenantId, post_id: postId, limit: 10 }, signal),
  };
}
