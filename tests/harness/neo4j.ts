/** A real Neo4j for tests, put there by `tests/graph/install`. Tests skip without it, never in CI. */
import { CHECKOUT } from "../../local/paths.ts";
import { startProcess } from "./background_process.ts";
import { makeTestFolder } from "./folders.ts";
import { until } from "./patience.ts";
import { freePorts } from "./ports.ts";
import { type Graph, sorted } from "./graph.ts";

const FOLDER = `${CHECKOUT}/tests/graph/.neo4j`;

/** Where its jars are; null: it is not installed. */
export const NEO4J_JARS = (() => {
  try {
    for (const { name } of Deno.readDirSync(FOLDER)) {
      const place = `${FOLDER}/${name}`;
      if (name !== "unfinished" && Deno.statSync(place).isDirectory && Deno.statSync(`${place}/complete`)) {
        return `${place}/jars`;
      }
    }
  } catch { /* It is not there. */ }
  return null;
})();
export const withoutNeo4j = NEO4J_JARS === null && !Deno.env.get("CI");

export interface Neo4jUnderTest {
  /** Variables of the gateway's environment. */
  variables: Record<string, string>;
  query(statement: string, parameters?: Record<string, unknown>): Promise<unknown[][]>;
  /** All that the copy has. */
  graph(): Promise<Graph>;
  stop(): Promise<void>;
}

const PASSWORD = "s3cret-of-neo4j";

export async function startNeo4j(): Promise<Neo4jUnderTest> {
  const folder = await makeTestFolder();
  const [http, bolt] = freePorts(2);
  await Deno.mkdir(`${folder.path}/conf`);
  await Deno.writeTextFile(
    `${folder.path}/conf/neo4j.conf`,
    [
      "server.default_listen_address=127.0.0.1",
      `server.http.listen_address=127.0.0.1:${http}`,
      // The Query API goes through it, inside the process.
      `server.bolt.listen_address=127.0.0.1:${bolt}`,
      "server.https.enabled=false",
      "server.http_enabled_modules=QUERY_API_ENDPOINTS",
      "server.memory.pagecache.size=16m",
      "db.tx_log.rotation.size=8m",
      "db.tx_log.preallocate=false",
      "dbms.usage_report.enabled=false",
      "",
    ].join("\n"),
  );
  const opens = ["nio", "io", "util.concurrent"].map((name) =>
    `--add-opens=java.base/java.${name}=ALL-UNNAMED`
  );
  const program = await startProcess([
    "java",
    "-Xmx384m",
    // It lives for half a minute: what takes long to compile does not pay.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    `${NEO4J_JARS}/*`,
    ...opens,
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "org.neo4j.server.CommunityEntryPoint",
    `--home-dir=${folder.path}`,
    `--config-dir=${folder.path}/conf`,
  ]);
  const stop = async () => {
    await program.kill();
    await folder.remove();
  };
  const uri = `http://127.0.0.1:${http}`;
  const ask = async (database: string, password: string, statement: string, parameters: unknown) => {
    const response = await fetch(`${uri}/db/${database}/query/v2`, {
      method: "POST",
      headers: {
        authorization: `Basic ${btoa(`neo4j:${password}`)}`,
        "content-type": "application/json",
        accept: "application/json",
      },
      body: JSON.stringify({ statement, parameters }),
    });
    const body = await response.json();
    if (body.errors?.length) throw new Error(JSON.stringify(body.errors));
    return body.data.values as unknown[][];
  };
  try {
    let code: number | undefined;
    program.ended.then((ended) => code = ended);
    await until(async () => {
      if (code !== undefined) throw new Error(`Neo4j ended with ${code}: ${program.said()}`);
      try {
        await ask("system", "neo4j", `ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO '${PASSWORD}'`, {});
        return true;
      } catch {
        return false;
      }
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const query = (statement: string, parameters: Record<string, unknown> = {}) =>
    ask("neo4j", PASSWORD, statement, parameters);
  // As properties they all stand beside each other.
  // deno-lint-ignore no-explicit-any
  const parted = ({ kind, key, id: _, tenant_id: __, trace_id, at, eve_sync: ___, ...properties }: any) => ({
    kind,
    key,
    properties,
    trace_id: trace_id ?? null,
    at: new Date(at).toISOString(),
  });
  return {
    variables: { NEO4J_URI: uri, NEO4J_USER: "neo4j", NEO4J_PASSWORD: PASSWORD },
    query,
    async graph() {
      const nodes = await query("MATCH (n:EveNode) RETURN properties(n), labels(n)");
      const edges = await query(
        "MATCH (a:EveNode)-[e]->(b:EveNode) RETURN type(e), a.kind + '/' + a.key, b.kind + '/' + b.key, properties(e)",
      );
      return sorted({
        nodes: nodes.map(([values, labels]) => {
          const node = parted(values);
          if (!(labels as string[]).includes(node.kind)) {
            throw new Error(`${node.kind} is labelled ${labels}`);
          }
          return node;
        }),
        edges: edges.map(([kind, from, to, values]) => {
          const { properties, trace_id, at } = parted(values);
          return { kind: kind as string, from: from as string, to: to as string, properties, trace_id, at };
        }),
      });
    },
    stop,
  };
}
