import * as z from "zod";
import type { Actor } from "../../contract/actor.ts";
import { callUnlessRefused } from "../refused.ts";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

const TIMEOUT_MS = 8_000;
/** A page of a rebuild is some hundred nodes, each with its edges. */
const REBUILD_TIMEOUT_MS = 60_000;

export const NODE_KINDS = ["Post", "ImageContent", "Article", "Label", "Channel", "Domain"] as const;
export const EDGE_KINDS = [
  "HAS_IMAGE",
  "LINKS_TO",
  "HAS_LABEL",
  "PUBLISHED_IN",
  "NEAR_DUPLICATE_OF",
] as const;
export type NodeKind = typeof NODE_KINDS[number];

const properties = z.record(z.string(), z.unknown());

/** A row of public.graph_nodes. */
export const graphNode = z.object({
  /** `Post/<id>`: what edges name it by. */
  id: z.string(),
  kind: z.enum(NODE_KINDS),
  key: z.string(),
  properties,
  trace_id: z.string().nullable(),
  at: z.string(),
});
export const graphEdge = z.object({
  kind: z.enum(EDGE_KINDS),
  from: z.string(),
  to: z.string(),
  properties,
  trace_id: z.string().nullable(),
  at: z.string(),
});
export const neighbours = z.object({
  tenant_id: z.string(),
  /** The one that was asked about first; `depth` is how many edges away. */
  nodes: z.array(graphNode.extend({ depth: z.number() })),
  /** All between these nodes. */
  edges: z.array(graphEdge),
  /** Whether there are more than were asked for. */
  truncated: z.boolean(),
});
export const graphPath = z.object({
  tenant_id: z.string(),
  /** Edges; null: there is no path of that length, or none was found among the edges that were looked at. */
  length: z.number().nullable(),
  nodes: z.array(graphNode),
  edges: z.array(graphEdge),
  truncated: z.boolean(),
});
export const relatedPosts = z.object({
  tenant_id: z.string(),
  posts: z.array(z.object({ node: graphNode, score: z.number(), shared: z.array(graphNode) })),
});
export const graphNodes = z.object({
  tenant_id: z.string(),
  nodes: z.array(graphNode),
  next_before: z.number().nullable(),
});
const sink = z.object({
  name: z.string(),
  written: z.number(),
  last_error: z.string().nullable(),
  waiting: z.number(),
  dead_letters: z.number(),
  sync: z.object({
    requested_at: z.string().nullable(),
    under_way: z.boolean(),
    synced_at: z.string().nullable(),
    skipped: z.number(),
  }),
});
export const graphStats = z.object({
  tenant_id: z.string(),
  nodes: z.record(z.string(), z.number()),
  edges: z.record(z.string(), z.number()),
  /** Events that are not written yet. */
  waiting: z.number(),
  dead_letters: z.number(),
  /** Copies elsewhere; none for those who are not the project or an administrator. */
  sinks: z.array(sink),
});
export const graphSync = z.object({
  written: z.number(),
  changed: z.number(),
  /** For the next call; null: all of it is written, or another does it. */
  next_after: z.object({ step: z.string(), last: z.string().optional() }).nullable(),
  sink: sink.nullable(),
});

export interface NodeName {
  kind: NodeKind;
  key: string;
}

/** The graph for those who ask. All of it throws what refuses the actor, and `graph_node_not_found`. */
export interface Graph {
  neighbours(
    actor: Actor,
    node: NodeName,
    options: { tenantId: string | null; depth: number; limit: number; kinds: readonly string[] | null },
  ): Promise<z.output<typeof neighbours>>;
  path(
    actor: Actor,
    from: NodeName,
    to: NodeName,
    options: { tenantId: string | null; depth: number },
  ): Promise<z.output<typeof graphPath>>;
  related(
    actor: Actor,
    post: string,
    options: { tenantId: string | null; limit: number },
  ): Promise<z.output<typeof relatedPosts>>;
  nodes(
    actor: Actor,
    options: {
      tenantId: string | null;
      kind: NodeKind;
      prefix: string | null;
      before: number | null;
      limit: number;
    },
  ): Promise<z.output<typeof graphNodes>>;
  stats(actor: Actor, tenantId: string | null): Promise<z.output<typeof graphStats>>;
  /** @throws GatewayError `graph_sink_off` */
  sync(
    actor: Actor,
    to: "postgres" | "neo4j",
    options: { tenantId: string | null; after: unknown },
  ): Promise<z.output<typeof graphSync>>;
}

export function createGraph(transport: Transport): Graph {
  const ask = <Shape extends z.ZodType>(
    name: string,
    args: Record<string, unknown>,
    shape: Shape,
    timeoutMs = TIMEOUT_MS,
  ) => callUnlessRefused(transport, name, args, shape, timeoutMs);
  return {
    neighbours: (actor, { kind, key }, { tenantId, depth, limit, kinds }) =>
      ask(
        "eve_graph_neighbours",
        { actor, kind, key, tenant_id: tenantId, depth, at_most: limit, kinds },
        neighbours,
      ),
    path: (actor, from, to, { tenantId, depth }) =>
      ask("eve_graph_path", {
        actor,
        from_kind: from.kind,
        from_key: from.key,
        to_kind: to.kind,
        to_key: to.key,
        tenant_id: tenantId,
        depth,
      }, graphPath),
    related: (actor, key, { tenantId, limit }) =>
      ask("eve_graph_related", { actor, key, tenant_id: tenantId, at_most: limit }, relatedPosts),
    nodes: (actor, { tenantId, kind, prefix, before, limit }) =>
      ask(
        "eve_graph_nodes",
        { actor, kind, tenant_id: tenantId, prefix, before, at_most: limit },
        graphNodes,
      ),
    stats: (actor, tenantId) => ask("eve_graph_stats", { actor, tenant_id: tenantId }, graphStats),
    sync: (actor, to, { tenantId, after }) =>
      ask(
        "eve_graph_sync",
        { actor, name: to, tenant_id: tenantId, after: after ?? null },
        graphSync,
        REBUILD_TIMEOUT_MS,
      ),
  };
}

/** As a copy elsewhere has it: its id begins with the tenant. */
const copiedNode = graphNode.extend({ tenant_id: z.string() });
const standing = z.object({
  nodes: z.array(copiedNode),
  edges: z.array(graphEdge),
  /** Ids of those that are not there any more. */
  gone: z.array(z.string()),
});
/** How nodes stand, with the edges from them and what those lead to. */
export type Standing = z.output<typeof standing>;

const work = z.discriminatedUnion("status", [
  z.object({ status: z.literal("idle") }),
  z.object({ status: z.literal("busy") }),
  z.object({
    status: z.literal("taken"),
    token: z.number(),
    schema_version: z.number(),
    sync_no: z.number(),
    sync: z.object({ nodes: z.array(z.string()), after: z.number(), is_last: z.boolean() }).nullable(),
    deliveries: z.array(
      z.object({ delivery_id: z.number(), lease: z.string(), nodes: z.array(z.string()) }),
    ),
  }),
]);
export type SinkWork = Extract<z.output<typeof work>, { status: "taken" }>;

export interface SinkResult {
  deliveries?: { delivery_id: number; lease: string; result: "delivered" | "failed"; error: string | null }[];
  /** Nodes. */
  written?: number;
  skipped?: number;
  syncAfter?: number | null;
  syncEnded?: boolean;
  schemaVersion?: number | null;
  error?: string | null;
  /** Nothing more is tried for so long. */
  restMs?: number | null;
}

/** The books of the one who keeps a copy of the graph up. */
export interface SinkBooks {
  /** Says whether a copy is set up here; answers whether there is one now. */
  open(isSetUp: boolean): Promise<boolean>;
  /** Null: nothing is due. */
  take(): Promise<SinkWork | "busy" | null>;
  read(nodes: readonly string[]): Promise<Standing>;
  /** @returns false for one whose token is not the newest: nothing was noted */
  done(token: number, result: SinkResult): Promise<boolean>;
}

export function createSinkBooks(transport: Transport, name: "neo4j"): SinkBooks {
  return {
    async open(isSetUp) {
      const shape = z.object({ status: z.enum(["on", "off"]) });
      const args = { name, is_set_up: isSetUp };
      return (await call(transport, "eve_graph_sink_open", args, shape, TIMEOUT_MS)).status === "on";
    },
    async take() {
      const taken = await call(transport, "eve_graph_sink_take", { name }, work, TIMEOUT_MS);
      return taken.status === "taken" ? taken : taken.status === "busy" ? "busy" : null;
    },
    read: (nodes) => call(transport, "eve_graph_sink_read", { nodes }, standing, TIMEOUT_MS),
    async done(token, result) {
      const { deliveries, written, skipped, syncAfter, syncEnded, schemaVersion, error, restMs } = result;
      const shape = z.object({ status: z.enum(["noted", "lost"]) });
      const { status } = await call(
        transport,
        "eve_graph_sink_done",
        {
          name,
          token,
          // In an object no transport mistakes it for a list of arguments.
          deliveries: { list: deliveries ?? [] },
          written: written ?? 0,
          skipped: skipped ?? 0,
          sync_after: syncAfter ?? null,
          sync_ended: syncEnded ?? false,
          schema_version: schemaVersion ?? null,
          error: error ?? null,
          rest_ms: restMs ?? null,
        },
        shape,
        TIMEOUT_MS,
      );
      return status === "noted";
    },
  };
}
