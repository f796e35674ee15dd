import type { z } from "zod";
import {
  type graphNode,
  type graphPath,
  type graphStats,
  type graphSync,
  type neighbours,
  NODE_KINDS,
  type relatedPosts,
} from "../../../shared/database/posts/graph.ts";
import type { Command, CommandDependencies, Given, Option, Outcome } from "../command.ts";
import type { Connection } from "../connection.ts";
import { misuse } from "../failure.ts";
import { postToApi, readFromApi } from "../storage/api.ts";
import { bold, count, counted, instant, pairs, shortened, table } from "../table.ts";
import { readNumber } from "../values.ts";
import { runOperation } from "./maintenance.ts";

const tenantOption: Option = { value: "ID", help: "whose; the default tenant's by default" };
type Node = z.output<typeof graphNode>;
type Sync = z.output<typeof graphSync>;

/** A run says that there is more at the end of its time; so many of them are hours of work. */
const MOST_RUNS = 200;

export const graphCommands: Command[] = [
  {
    name: "graph neighbours",
    summary: "what hangs together with a post, picture, article, label, channel or domain",
    about: `KIND is one of ${
      NODE_KINDS.join(", ")
    }. KEY: a post's id, a picture's SHA-256, a URL, a label, a source, a host.`,
    arguments: ["KIND", "KEY"],
    options: {
      depth: { value: "N", help: "so many edges away, 1 to 3; 1 by default" },
      limit: { value: "N", help: "at most so many nodes; 100 by default" },
      edges: { value: "KINDS", help: "only over these, with commas between them, such as HAS_LABEL" },
      "tenant-id": tenantOption,
    },
    examples: ["graph neighbours Label concert --depth 2", "graph neighbours Channel telegram:city --json"],
    async run(given, { connect, signal, width }) {
      const [kind, key] = given.arguments;
      const found = await readFromApi<z.output<typeof neighbours>>(connect(), "graph/neighbours", {
        kind,
        key,
        depth: readNumber(given, "depth"),
        limit: readNumber(given, "limit"),
        edges: given.option("edges"),
        tenant_id: given.option("tenant-id"),
      }, signal);
      const lines = table(
        ["away>", "kind", "key", ""],
        found.nodes.map((
          node,
        ) => [String(node.depth), node.kind, node.key, shortened(factsOf(node), width - 60)]),
      );
      return {
        json: found,
        text: `${lines}\n\n${counted(found.edges.length, "edge")}${
          found.truncated ? "; there is more: --limit" : ""
        }`,
      };
    },
  },
  {
    name: "graph path",
    summary: "how two things are connected: a shortest path",
    arguments: ["KIND", "KEY", "TO_KIND", "TO_KEY"],
    options: {
      depth: { value: "N", help: "at most so many edges long, 1 to 8; 4 by default" },
      "tenant-id": tenantOption,
    },
    examples: ["graph path Label concert Channel telegram:city"],
    async run(given, { connect, signal }) {
      const [from_kind, from_key, to_kind, to_key] = given.arguments;
      const found = await readFromApi<z.output<typeof graphPath>>(connect(), "graph/path", {
        from_kind,
        from_key,
        to_kind,
        to_key,
        depth: readNumber(given, "depth"),
        tenant_id: given.option("tenant-id"),
      }, signal);
      const text = found.length === null
        ? "There is no path of that length."
        : found.nodes.map(({ kind, key }, nr) => {
          const edge = found.edges[nr - 1];
          return `${edge === undefined ? "" : `  ${edge.kind}\n`}${bold(kind)} ${key}`;
        }).join("\n");
      return { json: found, text };
    },
  },
  {
    name: "graph related",
    summary: "posts that share pictures, links or labels with a post",
    arguments: ["POST_ID"],
    options: { limit: { value: "N", help: "at most so many; 20 by default" }, "tenant-id": tenantOption },
    examples: ["graph related 5f0c4c0e-8d0a-4b52-9a53-6d1f3f0f1a11"],
    async run(given, { connect, signal, width }) {
      const found = await readFromApi<z.output<typeof relatedPosts>>(connect(), "graph/related", {
        post_id: given.arguments[0],
        limit: readNumber(given, "limit"),
        tenant_id: given.option("tenant-id"),
      }, signal);
      return {
        json: found,
        text: found.posts.length === 0 ? "No post shares anything with it." : table(
          ["post", "score>", "shared"],
          found.posts.map(({ node, score, shared }) => [
            node.key,
            score.toFixed(2),
            shortened(shared.map(({ kind, key }) => `${kind} ${key}`).join(", "), Math.max(20, width - 50)),
          ]),
        ),
      };
    },
  },
  {
    name: "graph stats",
    summary: "how large a tenant's graph is, what waits to be written, how copies stand",
    arguments: [],
    options: { "tenant-id": tenantOption },
    examples: ["graph stats"],
    async run(given, { connect, signal }) {
      const stats = await statsOf(connect(), given, signal);
      const sinks = stats.sinks.map(({ name, written, waiting, dead_letters, last_error, sync }) =>
        pairs([
          ["copy", name],
          ["nodes written", count(written)],
          ["events waiting", count(waiting)],
          ["dead letters", count(dead_letters)],
          [
            "full copy",
            sync.under_way ? "under way" : sync.synced_at === null ? "never" : instant(sync.synced_at),
          ],
          ...(last_error === null ? [] : [["last error", last_error] as [string, string]]),
        ])
      );
      const parts = [
        pairs([
          ...[...Object.entries(stats.nodes), ...Object.entries(stats.edges)].map(
            ([kind, total]): [string, string] => [kind, count(total)],
          ),
          ["events waiting", count(stats.waiting)],
          ["dead letters", count(stats.dead_letters)],
        ]),
        ...sinks,
      ];
      return { json: stats, text: parts.join("\n\n") };
    },
  },
  {
    name: "graph sync",
    summary: "write the graph again: from the tables, or all of it to its copy in Neo4j",
    about:
      "With --to neo4j the function maintenance is asked until all is copied; NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD\n" +
      "have to be among its secrets.",
    arguments: [],
    options: { to: { value: "PLACE", help: "postgres (by default) or neo4j" }, "tenant-id": tenantOption },
    examples: ["graph sync", "graph sync --to neo4j"],
    run(given, around) {
      const to = given.option("to") ?? "postgres";
      if (to !== "postgres" && to !== "neo4j") throw misuse("--to is postgres or neo4j.");
      return to === "postgres" ? rebuild(given, around) : copy(given, around);
    },
  },
];

const statsOf = (connection: Connection, given: Given, signal: AbortSignal) =>
  readFromApi<z.output<typeof graphStats>>(
    connection,
    "graph/stats",
    { tenant_id: given.option("tenant-id") },
    signal,
  );

async function rebuild(given: Given, { connect, progress, signal }: CommandDependencies): Promise<Outcome> {
  const connection = connect();
  let written = 0;
  let changed = 0;
  let after: Sync["next_after"] = null;
  do {
    const page: Sync = await postToApi<Sync>(connection, "graph/sync", {
      tenant_id: given.option("tenant-id"),
      to: "postgres",
      ...(after !== null && { after }),
    }, { signal });
    written += page.written;
    changed += page.changed;
    after = page.next_after;
    progress(`${count(written)} read, ${count(changed)} nodes changed ...`);
  } while (after !== null && !signal.aborted);
  return { json: { read: written, changed }, text: `${counted(changed, "node")} changed.` };
}

async function copy(given: Given, around: CommandDependencies): Promise<Outcome> {
  const connection = around.connect();
  // The first run sets the copy up, and copies all of it.
  const isSetUp = (await statsOf(connection, given, around.signal)).sinks.some(({ name }) =>
    name === "neo4j"
  );
  if (isSetUp) await postToApi(connection, "graph/sync", { to: "neo4j" }, { signal: around.signal });
  return await runOperation(connection, "neo4j", MOST_RUNS, around);
}

function factsOf({ properties }: Node): string {
  const said = properties.text ?? properties.title ?? properties.description ?? properties.mime_type;
  return typeof said === "string" ? said.replaceAll(/\s+/g, " ") : "";
}
