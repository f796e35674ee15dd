import type { ApiAnswers, NodeKind } from "../../../shared/api/answers.ts";
import type { Api, GetOf } from "./api.ts";

export type {
  GraphEdge,
  GraphNode,
  Neighbours,
  NodeKind,
  RelatedPosts,
} from "../../../shared/api/answers.ts";

/** Each kind once: a record, so that the compiler misses one that is left out. */
const KINDS: Record<NodeKind, true> = {
  Post: true,
  ImageContent: true,
  Article: true,
  Label: true,
  Channel: true,
  Domain: true,
};
export const NODE_KINDS = Object.keys(KINDS) as NodeKind[];

/** The graph, as docs/graph.md has it. */
export interface GraphApi {
  nodes(tenantId: string, kind: NodeKind, signal: AbortSignal): Promise<ApiAnswers["GET /v1/graph/nodes"]>;
  neighbours(
    tenantId: string,
    node: { kind: string; key: string },
    depth: number,
    signal: AbortSignal,
  ): Promise<ApiAnswers["GET /v1/graph/neighbours"]>;
  related(
    tenantId: string,
    postId: string,
    signal: AbortSignal,
  ): Promise<ApiAnswers["GET /v1/graph/related"]>;
}

/** More is no picture that a person reads. */
const SHOWN_NODES = 60;

/** @param api of the function `api` */
export function createGraphApi(api: Api): GraphApi {
  const get = api.get as GetOf;
  return {
    nodes: (tenantId, kind, signal) =>
      get("/v1/graph/nodes", { tenant_id: tenantId, kind, limit: 50 }, signal),
    neighbours: (tenantId, { kind, key }, depth, signal) =>
      get("/v1/graph/neighbours", { tenant_id: tenantId, kind, key, depth, limit: SHOWN_NODES }, signal),
    related: (tenantId, postId, signal) =>
      get("/v1/graph/related", { tenant_id: tenantId, post_id: postId, limit: 10 }, signal),
  };
}
