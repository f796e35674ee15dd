/** Keeps a copy of the graph in Neo4j up: what was changed since, and all of it once at first and when asked for. */
import {
  EDGE_KINDS,
  NODE_KINDS,
  type SinkBooks,
  type SinkWork,
  type Standing,
} from "../database/posts/graph.ts";
import { Neo4jError, type RunStatement } from "./neo4j.ts";

/** Grows when SCHEMA changes. */
export const SCHEMA_VERSION = 1;

/** All nodes have this label beside their kind's: their ids are unique among them. */
const SCHEMA = [
  "CREATE CONSTRAINT eve_node_id IF NOT EXISTS FOR (n:EveNode) REQUIRE n.id IS UNIQUE",
  "CREATE CONSTRAINT eve_copy_name IF NOT EXISTS FOR (c:EveCopy) REQUIRE c.name IS UNIQUE",
  "CREATE INDEX eve_node_key IF NOT EXISTS FOR (n:EveNode) ON (n.tenant_id, n.kind, n.key)",
  "CREATE INDEX eve_node_sync IF NOT EXISTS FOR (n:EveNode) ON (n.eve_sync)",
];

/**
 * What begins each statement that writes: it locks the one node that remembers the newest token, and goes on only for that or a newer one.
 * So what an earlier writer sent, and was held up on its way, is not written over what a later one wrote.
 */
const FENCED = `MERGE (c:EveCopy {name: 'graph'}) ON CREATE SET c.token = 0 SET c.locked = true
WITH c WHERE c.token <= $token SET c.token = $token WITH c`;

/** Nodes as they stand; of those in `touched` all edges, the others are only led to. One row: it was written. */
const WRITE = `${FENCED}
FOREACH (id IN $gone | MERGE (n:EveNode {id: id}) DETACH DELETE n)
${
  NODE_KINDS.map((kind) =>
    `FOREACH (one IN [n IN $nodes WHERE n.kind = '${kind}'] | MERGE (n:EveNode {id: one.id}) SET n:${kind}, n = one.values, n.eve_sync = $sync)`
  ).join("\n")
}
${
  EDGE_KINDS.map((kind) =>
    `FOREACH (one IN [e IN $edges WHERE e.kind = '${kind}'] | MERGE (a:EveNode {id: one.from}) MERGE (b:EveNode {id: one.to}) MERGE (a)-[e:${kind}]->(b) SET e = one.values)`
  ).join("\n")
}
WITH c
CALL {
  UNWIND $touched AS one
  MATCH (a:EveNode {id: one.id})-[e]->(b:EveNode)
  WHERE NOT type(e) + ' ' + b.id IN one.edges
  DELETE e
  RETURN count(*) AS gone
}
RETURN gone`;

/** What a full copy has not come by is not in the graph any more. */
const SWEEP = `${FENCED}
CALL {
  MATCH (n:EveNode) WHERE n.eve_sync < $sync
  WITH n LIMIT 1000
  DETACH DELETE n
  RETURN count(*) AS gone
}
RETURN gone`;

/** Some hundred kilobytes of JSON, and milliseconds there. */
const NODES_AT_ONCE = 100;
/** Time for one piece of work, the database and Neo4j included. With less left, the rest is for the next run. */
const TIME_FOR_ONE_MS = 20_000;
/** So long nothing more is tried when Neo4j cannot be reached or lets nobody in; its own tries are not used up meanwhile. */
const REST_MS = 60_000;

/** A later writer is at it. */
class Fenced extends Error {}

export interface CopyCounts {
  /** Nodes written or removed. */
  written: number;
  delivered: number;
  failed: number;
  /** Time ran out, or another writer is at it. */
  more: boolean;
  /** The last failure; null: none. */
  error: string | null;
}

/** Until nothing is due or the time is up. Any number may run at once: one writes, the others find it busy. */
export async function copyGraph(
  books: SinkBooks,
  run: RunStatement,
  leftMs: () => number,
): Promise<CopyCounts> {
  const counts: CopyCounts = { written: 0, delivered: 0, failed: 0, more: false, error: null };
  for (;;) {
    if (leftMs() < TIME_FOR_ONE_MS) return { ...counts, more: true };
    const work = await books.take();
    if (work === null) return counts;
    if (work === "busy") return { ...counts, more: true };
    try {
      if (work.schema_version < SCHEMA_VERSION) {
        for (const statement of SCHEMA) await run(statement);
      }
      const noted = work.sync === null
        ? await deliver(books, run, work, counts)
        : await sync(books, run, work, work.sync, counts, leftMs);
      if (!noted) return { ...counts, more: true };
    } catch (thrown) {
      if (thrown instanceof Fenced) return { ...counts, more: true };
      if (!(thrown instanceof Neo4jError)) throw thrown;
      const { message } = thrown;
      await books.done(work.token, {
        deliveries: work.deliveries.map(({ delivery_id, lease }) => ({
          delivery_id,
          lease,
          result: "failed",
          error: message,
        })),
        error: message,
        restMs: REST_MS,
      });
      return { ...counts, failed: counts.failed + work.deliveries.length, error: message, more: false };
    }
  }
}

async function deliver(
  books: SinkBooks,
  run: RunStatement,
  work: SinkWork,
  counts: CopyCounts,
): Promise<boolean> {
  const nodes = [...new Set(work.deliveries.flatMap((delivery) => delivery.nodes))];
  const refused = await writeAll(books, run, work, nodes);
  const deliveries = work.deliveries.map(({ delivery_id, lease, nodes }) => {
    const error = nodes.map((node) => refused.get(node)).find((why) => why !== undefined) ?? null;
    return { delivery_id, lease, result: error === null ? "delivered" as const : "failed" as const, error };
  });
  const failed = deliveries.filter(({ result }) => result === "failed").length;
  counts.written += nodes.length - refused.size;
  counts.failed += failed;
  counts.delivered += deliveries.length - failed;
  counts.error = deliveries.find(({ error }) => error !== null)?.error ?? counts.error;
  return await books.done(work.token, {
    deliveries,
    written: nodes.length - refused.size,
    schemaVersion: SCHEMA_VERSION,
    error: counts.error,
  });
}

async function sync(
  books: SinkBooks,
  run: RunStatement,
  work: SinkWork,
  page: NonNullable<SinkWork["sync"]>,
  counts: CopyCounts,
  leftMs: () => number,
): Promise<boolean> {
  const refused = await writeAll(books, run, work, page.nodes);
  let syncEnded = page.is_last;
  if (page.is_last) {
    let gone: number;
    do {
      const [row] = await run(SWEEP, { token: work.token, sync: work.sync_no });
      if (row === undefined) throw new Fenced();
      gone = Number(row[0]);
      if (gone > 0 && leftMs() < TIME_FOR_ONE_MS / 2) {
        syncEnded = false;
        break;
      }
    } while (gone > 0);
  }
  counts.written += page.nodes.length - refused.size;
  counts.error = [...refused.values()][0] ?? counts.error;
  return await books.done(work.token, {
    written: page.nodes.length - refused.size,
    skipped: refused.size,
    syncAfter: page.after,
    syncEnded,
    schemaVersion: SCHEMA_VERSION,
    error: counts.error,
  });
}

/** Writes how nodes stand, and answers which were refused and why. @throws Neo4jError where it is not about the nodes; Fenced */
async function writeAll(
  books: SinkBooks,
  run: RunStatement,
  work: SinkWork,
  nodes: readonly string[],
): Promise<Map<string, string>> {
  const refused = new Map<string, string>();
  const write = async (some: readonly string[]): Promise<void> => {
    if (some.length === 0) return;
    try {
      const rows = await run(WRITE, {
        ...parametersOf(await books.read(some), some),
        token: work.token,
        sync: work.sync_no,
      });
      if (rows.length === 0) throw new Fenced();
    } catch (thrown) {
      if (!(thrown instanceof Neo4jError && thrown.isStatements)) throw thrown;
      if (some.length === 1) {
        refused.set(some[0]!, thrown.message);
        return;
      }
      // One of them holds up no other.
      const half = some.length >> 1;
      await write(some.slice(0, half));
      await write(some.slice(half));
    }
  };
  for (let at = 0; at < nodes.length; at += NODES_AT_ONCE) await write(nodes.slice(at, at + NODES_AT_ONCE));
  return refused;
}

function parametersOf({ nodes, edges, gone }: Standing, asked: readonly string[]): Record<string, unknown> {
  const there = new Set(gone);
  return {
    gone,
    nodes: nodes.map(({ id, tenant_id, kind, key, properties, trace_id, at }) => ({
      id,
      kind,
      values: { ...properties, id, tenant_id, kind, key, trace_id, at },
    })),
    edges: edges.map(({ kind, from, to, properties, trace_id, at }) => ({
      kind,
      from,
      to,
      values: { ...properties, trace_id, at },
    })),
    touched: asked.filter((id) => !there.has(id)).map((id) => ({
      id,
      edges: edges.filter(({ from }) => from === id).map(({ kind, to }) => `${kind} ${to}`),
    })),
  };
}
