/** The copy of the graph in a real Neo4j: equal to the database's after kills, repeats, delays and refusals. */
import * as fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { directTransport } from "../../shared/database/transport/direct_transport.ts";
import { neo4jSettings } from "../../shared/graph/neo4j.ts";
import { neo4jOperation } from "../../shared/maintenance/neo4j.ts";
import type { OperationContext, OperationReport } from "../../shared/maintenance/operation.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { startProcess } from "../harness/background_process.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { clearWorld, type Graph, graphOf, linkPages, step, World } from "../harness/graph.ts";
import { PROJECT, shaOf } from "../harness/media.ts";
import { type Neo4jUnderTest, startNeo4j, withoutNeo4j } from "../harness/neo4j.ts";
import { until } from "../harness/patience.ts";

describe.skipIf(withoutNeo4j)("a copy in Neo4j", () => {
  let database: TestDatabase;
  let sql: postgres.Sql;
  let clock: TestClock;
  let neo4j: Neo4jUnderTest;
  let direct: ReturnType<typeof directTransport>;

  beforeAll(async () => {
    [neo4j, database] = await Promise.all([startNeo4j(), cloneDatabase()]);
    sql = postgres(database.url, { max: 4, onnotice: () => {} });
    direct = directTransport({ url: database.url, connections: 4, pooler: false });
    clock = await freezeClock(sql);
    await World.pictures(sql);
  });
  afterAll(async () => {
    await direct?.close();
    await sql?.end({ timeout: 5 });
    await database?.drop();
    await neo4j?.stop();
  });
  beforeEach(async () => {
    await clearWorld(sql);
    await sql`delete from eve.event_consumers where name = 'neo4j'`;
    await neo4j.query("MATCH (n) DETACH DELETE n");
    await clock.set("2026-11-18T12:00:00Z");
  });

  /** The operation, as the schedule runs it. */
  const copy = (
    call: typeof fetch = fetch,
    variables: Record<string, string> = neo4j.variables,
  ): Promise<OperationReport> =>
    neo4jOperation(() => neo4jSettings((name) => variables[name])).run({
      call: direct.call,
      fetch: call,
      deadline: { signal: new AbortController().signal, leftMs: () => 600_000 },
    } as unknown as OperationContext);
  const deliver = async () => {
    while ((await sql`select public.eve_graph_deliver() as answer`)[0]!.answer.delivered > 0);
  };
  const expectEqual = async (world: World) => {
    expect(await graphOf(sql)).toEqual(world.graph());
    expect(await neo4j.graph()).toEqual(world.graph());
  };
  const pass = (world: World) => world.take({ do: "repeat", seed: 1 });

  /** A writer in a process of its own, killed there: "before 2" that many statements, or after them. */
  const killed = async (kill: string) => {
    const writer = await startProcess([
      Deno.execPath(),
      "run",
      "-A",
      `${CHECKOUT}/tests/graph/copy_process.ts`,
      database.url,
      JSON.stringify(neo4j.variables),
      ...kill.split(" "),
    ]);
    await until(() => Promise.resolve(/^(stopped|done)$/m.test(writer.said())));
    expect(writer.said(), kill).toMatch(/^stopped$/m);
    await writer.kill();
  };

  test("both graphs are equal, though writers are killed before and after they have written, and events come twice", async () => {
    const world = new World(sql, clock);
    const steps = fc.sample(step, { numRuns: 90, seed: 19 });
    // The first copy is of what is there: the schema, a page, and the sweep.
    const kills = ["before 2", "before 5", "after 5", "after 6", "before 1", "after 1"];
    const parts = kills.length + 1;
    for (let part = 0; part < parts; part++) {
      for (const one of steps.filter((_, nr) => nr % parts === part)) await world.take(one);
      await deliver();
      const kill = kills[part];
      if (kill === undefined) break;
      await killed(kill);
      // While its lease lasts, nobody else is let in.
      expect(await copy()).toMatchObject({ count: 0, more: true });
      await pass(world);
    }
    await pass(world);
    expect((await copy()).count).toBeGreaterThan(0);
    await expectEqual(world);
    // All events again, also those that were told long ago.
    await sql`
      update eve.event_deliveries set state = 'pending', ended_at = null, next_try_at = eve.clock() where consumer = 'neo4j'`;
    await copy();
    await expectEqual(world);
    expect(await sql`select from eve.dead_letters`).toEqual([]);
    expect(await neo4j.query("SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name")).toEqual([
      ["eve_copy_name"],
      ["eve_node_id"],
    ]);
  });

  test("articles, links and domains are there too, though a writer was killed, and go with what led to them", async () => {
    const world = new World(sql, clock);
    for (const post of [0, 1]) await world.take({ do: "add", post, source: 0, pictures: [1] });
    await linkPages(sql, [world.posts.get(0)!.id, world.posts.get(1)!.id], "b".repeat(32));
    await deliver();
    await killed("after 2");
    await pass(world);
    await copy();
    const kinds = (graph: Graph) => [...new Set(graph.nodes.map(({ kind }) => kind))].sort();
    expect(kinds(await neo4j.graph())).toEqual(["Article", "Channel", "Domain", "ImageContent", "Post"]);
    expect(await neo4j.graph()).toEqual(await graphOf(sql));
    for (const post of [0, 1]) await world.take({ do: "delete", post });
    await deliver();
    await copy();
    expect(kinds(await neo4j.graph())).toEqual(["Article", "Domain"]);
    expect(await neo4j.graph()).toEqual(await graphOf(sql));
    await sql`delete from public.crawl_pages`;
  });

  test("what an earlier writer sent and was held up is not written over what a later one wrote", async () => {
    const world = new World(sql, clock);
    await world.take({ do: "add", post: 0, source: 0, pictures: [1] });
    await deliver();
    await copy();
    await world.take({ do: "add", post: 1, source: 1, pictures: [2] });
    await deliver();
    const held = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    const late = copy(async (input, init) => {
      began.resolve();
      await held.promise;
      return await fetch(input, init);
    });
    await began.promise;
    await world.take({ do: "delete", post: 1 });
    await deliver();
    await copy();
    await expectEqual(world);
    held.resolve();
    expect(await late).toMatchObject({ count: 0, more: true });
    await expectEqual(world);
  });

  test("a node that Neo4j refuses ends among the dead letters, and everything else is copied", async () => {
    const world = new World(sql, clock);
    await copy();
    await world.take({ do: "add", post: 0, source: 0, pictures: [1, 2] });
    await deliver();
    await sql`
      insert into public.graph_nodes (tenant_id, kind, key, properties, at)
      values ('default', 'Label', 'nested', '{"a": {"b": 1}}', eve.clock())`;
    await sql`select eve.graph_tell_change('default', '{Label/nested}', null)`;
    expect((await copy()).details).toMatchObject({ delivered: 1, failed: 1 });
    expect(await neo4j.graph()).toEqual(world.graph());
    for (let n = 0; n < 7; n++) {
      await sql`update eve.event_deliveries set next_try_at = eve.clock() where state = 'pending'`;
      await copy().catch(() => {});
    }
    expect(await sql`select consumer, error from eve.dead_letters`).toMatchObject([
      { consumer: "neo4j", error: expect.stringMatching(/^Neo4j: Neo\.ClientError\.Statement\./) },
    ]);
  });

  test("a full copy is made again when asked for, and takes away what is not in the graph", async () => {
    const world = new World(sql, clock);
    for (let post = 0; post < 3; post++) {
      await world.take({ do: "add", post, source: 0, pictures: [1 + post] });
    }
    await deliver();
    const sync = () => sql`select public.eve_graph_sync(${sql.json(PROJECT)}, 'neo4j') as answer`;
    expect((await sync())[0]!.answer.code).toBe("graph_sink_off");
    await copy();
    await neo4j.query("MATCH (n:EveNode {key: $key}) DETACH DELETE n", { key: shaOf(2) });
    await neo4j.query("CREATE (:EveNode {id: 'default/Label/stray', eve_sync: 1}), (:SomebodyElses)");
    expect((await sync())[0]!.answer.status).toBe("requested");
    await copy();
    await expectEqual(world);
    expect(await neo4j.query("MATCH (n:SomebodyElses) RETURN count(n)")).toEqual([[1]]);
  });

  test("credentials that are refused use up no tries: it rests, says so, and goes on; without them the copy is given up", async () => {
    const world = new World(sql, clock);
    await copy();
    await world.take({ do: "add", post: 0, source: 0, pictures: [1] });
    await deliver();
    const wrong = { ...neo4j.variables, NEO4J_PASSWORD: "wrong" };
    await expect(copy(fetch, wrong)).rejects.toMatchObject({
      detail: expect.stringContaining("Neo.ClientError.Security.Unauthorized"),
    });
    expect(await copy()).toMatchObject({ count: 0 });
    await pass(world);
    await copy();
    await expectEqual(world);
    await copy(fetch, {});
    expect(await sql`select from eve.event_consumers where name = 'neo4j'`).toEqual([]);
  });
});
