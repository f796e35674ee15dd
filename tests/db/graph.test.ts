/** The graph of posts and pictures: written from events in any order, read by depth, path and what is shared, each tenant's own. */
import * as fc from "fast-check";
import postgres from "postgres";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freezeClock, type TestClock } from "../harness/admission.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { clearWorld, type Graph, graphOf, linkPages, step, World } from "../harness/graph.ts";
import { addConsumer } from "../harness/jobs.ts";
import { type Answer, PROJECT, shaOf } from "../harness/media.ts";

let database: TestDatabase;
let sql: postgres.Sql;
let clock: TestClock;
const USER = "a0000000-0000-4000-8000-000000000001";

beforeAll(async () => {
  database = await cloneDatabase();
  sql = postgres(database.url, { max: 4, onnotice: () => {} });
  clock = await freezeClock(sql);
  await World.pictures(sql);
  await sql`insert into eve.tenants (id) values ('other')`;
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await database?.drop();
});
beforeEach(() => clearWorld(sql));

const only = async (query: postgres.PendingQuery<postgres.Row[]>): Promise<Answer> =>
  (await query)[0]!.answer;
const deliver = () => only(sql`select public.eve_graph_deliver() as answer`);
const neighbours = (kind: string, key: string, depth = 1, atMost = 100, actor: unknown = PROJECT) =>
  only(sql`
    select public.eve_graph_neighbours(
      ${sql.json(actor as postgres.JSONValue)}, ${kind}, ${key}, depth => ${depth}, at_most => ${atMost}
    ) as answer`);
const path = (from: string[], to: string[], depth = 4) =>
  only(sql`
    select public.eve_graph_path(
      ${sql.json(PROJECT)}, ${from[0]!}, ${from[1]!}, ${to[0]!}, ${to[1]!}, depth => ${depth}
    ) as answer`);

/** How many nodes and edges of each kind a graph has, as they are counted. */
function countsOf({ nodes, edges }: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind } of [...nodes, ...edges]) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

describe("writing", () => {
  test("whatever happens to posts, and in whatever order events arrive and come again, the graph is that of the posts", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 3, maxLength: 25 }),
        fc.nat(),
        async (steps, seed) => {
          await clearWorld(sql);
          const world = new World(sql, clock);
          for (const one of steps) await world.take(one);
          // All of them, once more and in another order; then what is still to be delivered.
          await sql`
            select eve.graph_apply(eve.event_json(e))
            from (select e.* from eve.events e order by md5(e.id::text || ${seed})) e`;
          const wanted = world.graph();
          expect(await graphOf(sql)).toEqual(wanted);
          while ((await deliver()).delivered > 0);
          expect(await graphOf(sql)).toEqual(wanted);
          const counted = await sql`select kind, total::int from eve.graph_counts where total <> 0`;
          expect(Object.fromEntries(counted.map(({ kind, total }) => [kind, total]))).toEqual(
            countsOf(wanted),
          );
          expect(await only(sql`select eve.graph_rebuild('default') as answer`)).toMatchObject({
            changed: 0,
          });
        },
      ),
      { numRuns: 25, endOnFailure: true },
    );
  });

  test("what was there before the graph is written by a rebuild, and what should not be there goes", async () => {
    const world = new World(sql, clock);
    for (let post = 0; post < 3; post++) {
      await world.take({ do: "add", post, source: 0, pictures: [1, 2] });
      await world.take({ do: "found", post, picture: 1, labels: [0, 1], sameAs: 3 });
    }
    await sql`delete from eve.events`;
    await sql`insert into public.graph_nodes (tenant_id, kind, key, at) values ('default', 'Label', 'stray', now())`;
    let after: postgres.JSONValue = null;
    do {
      ({ next_after: after } = await only(
        sql`select eve.graph_rebuild('default', ${sql.json(after)}, 2) as answer`,
      ));
    } while (after !== null);
    expect(await graphOf(sql)).toEqual(world.graph());
  });

  test("pages that posts lead to are articles with their domains, and go with the last post unless they were read for themselves", async () => {
    const world = new World(sql, clock);
    await world.take({ do: "add", post: 0, source: 0, pictures: [] });
    await world.take({ do: "add", post: 1, source: 0, pictures: [] });
    const trace_id = "b".repeat(32);
    await linkPages(sql, [world.posts.get(0)!.id, world.posts.get(1)!.id], trace_id);
    await deliver();
    const articles = async () =>
      (await graphOf(sql)).nodes.filter(({ kind }) => kind === "Article" || kind === "Domain").map(
        ({ key, properties, trace_id }) => [key, properties.title ?? null, trace_id],
      );
    const first = world.posts.get(0)!.trace;
    expect(await articles()).toEqual([
      ["https://example.org/linked", null, first],
      ["https://example.org/read", "Festival", trace_id],
      ["example.org", null, trace_id],
    ]);
    expect((await path(["Post", world.posts.get(0)!.id], ["Domain", "example.org"])).length).toBe(2);
    const related = await only(sql`
      select public.eve_graph_related(${sql.json(PROJECT)}, ${world.posts.get(0)!.id}) as answer`);
    expect(related.posts[0].shared).toHaveLength(2);
    for (const post of [0, 1]) await world.take({ do: "delete", post });
    await deliver();
    expect((await articles()).map(([key]) => key)).toEqual(["https://example.org/read", "example.org"]);
    await sql`delete from public.crawl_pages`;
  });

  test("an event that cannot be written holds up no other, is tried again and ends among the dead letters", async () => {
    await clock.set("2026-11-18T12:00:00Z");
    await sql`select eve.emit_event('/x', 'post.saved.v1', 'x', '{"tenant_id": "default", "post_id": "no uuid"}')`;
    const world = new World(sql, clock);
    await world.take({ do: "add", post: 0, source: 0, pictures: [1] });
    expect(await deliver()).toMatchObject({ failed: 1 });
    expect(await graphOf(sql)).toEqual(world.graph());
    for (let n = 0; n < 5; n++) {
      await sql`update eve.event_deliveries set next_try_at = eve.clock() where state = 'pending'`;
      await deliver();
    }
    expect(await sql`select consumer, error from eve.dead_letters`).toMatchObject([
      { consumer: "graph", error: expect.stringContaining("uuid") },
    ]);
    await sql`select public.eve_dead_letters_drop()`;
  });

  test("a run that is broken off has written nothing, and the next one writes all of it", async () => {
    const world = new World(sql, clock);
    await world.take({ do: "add", post: 0, source: 0, pictures: [1, 2] });
    await expect(sql.begin(async (sql) => {
      expect((await sql`select public.eve_graph_deliver() as answer`)[0]!.answer.changed).toBeGreaterThan(0);
      throw new Error("broken off");
    })).rejects.toThrow("broken off");
    expect(await graphOf(sql)).toEqual({ nodes: [], edges: [] });
    await sql`select eve.graph_tick()`;
    expect(await graphOf(sql)).toEqual(world.graph());
    const changes = await sql`select data from eve.events where type = 'eve.graph.changed.v1'`;
    expect(changes).toHaveLength(0);
  });
});

describe("reading", () => {
  /** Posts 0 and 1 share picture 1; 1 and 2 the label море; 3 stands alone. */
  async function four(): Promise<string[]> {
    const world = new World(sql, clock);
    await world.take({ do: "add", post: 0, source: 0, pictures: [1] });
    await world.take({ do: "add", post: 1, source: 1, pictures: [1, 2] });
    await world.take({ do: "add", post: 2, source: 0, pictures: [3] });
    await world.take({ do: "add", post: 3, source: 0, pictures: [] });
    await world.take({ do: "found", post: 1, picture: 2, labels: [3], sameAs: null });
    await world.take({ do: "found", post: 2, picture: 3, labels: [3], sameAs: null });
    await deliver();
    return [0, 1, 2, 3].map((post) => world.posts.get(post)!.id);
  }

  test("neighbours come by depth, with the edges between them, and say when there are more", async () => {
    const posts = await four();
    const near = await neighbours("Post", posts[0]!);
    expect(near.nodes[0]).toMatchObject({ id: `Post/${posts[0]}`, depth: 0 });
    expect(near.nodes.slice(1).map(({ id, depth }: Answer) => `${depth} ${id}`).toSorted()).toEqual([
      "1 Channel/telegram:0",
      `1 ImageContent/${shaOf(1)}`,
    ]);
    expect(near.edges).toHaveLength(2);
    expect(near.truncated).toBe(false);
    const two = await neighbours("Post", posts[0]!, 2);
    expect(two.nodes.filter(({ depth }: Answer) => depth === 2).map(({ id }: Answer) => id).toSorted())
      .toEqual(
        [1, 2, 3].map((post) => `Post/${posts[post]}`).toSorted(),
      );
    expect(await neighbours("Channel", "telegram:0", 3, 2)).toMatchObject({
      truncated: true,
      nodes: { length: 3 },
    });
  });

  test("a path is a shortest one, whichever way its edges point, and none is longer than asked for", async () => {
    const posts = await four();
    const found = await path(["Post", posts[0]!], ["Label", "море"]);
    expect(found.length).toBe(4);
    expect(found.nodes.map(({ kind }: Answer) => kind)).toEqual([
      "Post",
      "ImageContent",
      "Post",
      "ImageContent",
      "Label",
    ]);
    expect(found.edges.map(({ kind }: Answer) => kind)).toEqual([
      "HAS_IMAGE",
      "HAS_IMAGE",
      "HAS_IMAGE",
      "HAS_LABEL",
    ]);
    expect((await path(["Post", posts[0]!], ["Post", posts[3]!])).length).toBe(2);
    expect(await path(["Post", posts[0]!], ["Label", "море"], 3)).toMatchObject({ length: null, nodes: [] });
    expect(await path(["Post", posts[0]!], ["Post", posts[0]!])).toMatchObject({
      length: 0,
      nodes: { length: 1 },
    });
  });

  test("related are those that share pictures or labels, what is rarer counting more", async () => {
    const posts = await four();
    const related = await only(sql`
      select public.eve_graph_related(${sql.json(PROJECT)}, ${posts[1]!}) as answer`);
    expect(related.posts.map(({ node }: Answer) => node.key)).toEqual([posts[0], posts[2]]);
    expect(related.posts[1].shared).toMatchObject([{ kind: "Label", key: "море" }]);
  });

  test("nodes are listed by kind in pages, or by how their keys begin", async () => {
    const posts = await four();
    const list = (more: Record<string, unknown>) =>
      only(sql`
        select public.eve_graph_nodes(
          ${sql.json(PROJECT)}, ${more.kind as string}, prefix => ${(more.prefix ?? null) as string | null},
          before => ${(more.before ?? null) as number | null}, at_most => 3
        ) as answer`);
    const first = await list({ kind: "Post" });
    expect(first.nodes).toHaveLength(3);
    const rest = await list({ kind: "Post", before: first.next_before });
    expect([...first.nodes, ...rest.nodes].map(({ key }: Answer) => key).toSorted()).toEqual(
      posts.toSorted(),
    );
    expect(rest.next_before).toBeNull();
    expect((await list({ kind: "Channel", prefix: "telegram:" })).nodes.map(({ key }: Answer) => key))
      .toEqual([
        "telegram:0",
        "telegram:1",
      ]);
    expect((await list({ kind: "Channel", prefix: "x" })).nodes).toEqual([]);
  });

  test("each tenant's graph is its own: for the API, and for signed-in members", async () => {
    const posts = await four();
    await sql`insert into eve.tenant_members (tenant_id, user_id) values ('other', ${USER}) on conflict do nothing`;
    const user = { kind: "user", user_id: USER };
    expect(await neighbours("Post", posts[0]!, 1, 100, user)).toMatchObject({
      status: "refused",
      code: "graph_node_not_found",
    });
    const consumer = { kind: "consumer", consumer_id: await addConsumer(sql, "no-scope"), token_id: null };
    expect(await neighbours("Post", posts[0]!, 1, 100, consumer)).toMatchObject({
      code: "credential_insufficient",
    });
    const seen = (tenant: string) =>
      sql.begin(async (sql) => {
        await sql`delete from eve.tenant_members`;
        await sql`insert into eve.tenant_members (tenant_id, user_id) values (${tenant}, ${USER})`;
        await sql`select set_config('request.jwt.claims', ${
          JSON.stringify({ sub: USER, role: "authenticated" })
        }, true)`;
        await sql`set local role authenticated`;
        const [row] = await sql`
          select (select count(*)::int from public.graph_nodes) as nodes, (select count(*)::int from public.graph_edges) as edges`;
        return row;
      });
    expect(await seen("other")).toEqual({ nodes: 0, edges: 0 });
    expect(await seen("default")).toEqual({ nodes: 10, edges: 10 });
  });
});
