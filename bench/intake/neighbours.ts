/**
 * What hangs together with a node of the graph, two edges away, in 1,000,000 edges: the function of the database as the API calls it,
 * against a bare join over the same indexes that answers with the same number of nodes. One question at a time, in turns. Goal: the slowest
 * hundredth of the questions takes at most three times as long.
 */
import postgres from "postgres";
import { withFilledCluster } from "../filled_cluster.ts";
import type { Part } from "./part.ts";
import { median, percentile } from "../statistics.ts";

const ASKED = 4_000;
const DEPTH = 2;
const MOST = 100;
const ACTOR = { kind: "project" };

/** @param posts five edges each: to its channel, two pictures and an article, and a label of its own pictures */
export function neighbours(posts = 200_000): Promise<Part> {
  return withFilledCluster((url) => fill(url, posts), measured);
}

async function fill(url: string, posts: number): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  // Articles and labels as they are: some that many lead to, most that few do.
  await sql.unsafe(`
    alter table public.graph_nodes disable trigger user;
    alter table public.graph_edges disable trigger user;
    insert into public.graph_nodes (tenant_id, kind, key, properties, trace_id, at)
    select 'default', 'Post', md5('post' || n)::uuid::text, jsonb_build_object('text', 'Concert tonight number ' || n, 'source', 'telegram:' || n % 50),
      md5(n::text), now() - n * interval '1 second'
    from generate_series(1, ${posts}) n
    union all
    select 'default', 'Channel', 'telegram:' || n, '{}', null, now() from generate_series(0, 49) n
    union all
    select 'default', 'ImageContent', md5('image' || n) || md5('content' || n), '{"mime_type": "image/jpeg", "width": 1280, "height": 960}', md5(n::text), now()
    from generate_series(1, ${posts}) n
    union all
    select 'default', 'Article', 'https://example.com/' || n, jsonb_build_object('title', 'News number ' || n), md5(n::text), now()
    from generate_series(1, ${posts} / 4) n
    union all
    select 'default', 'Label', 'label ' || n, '{}', null, now() from generate_series(1, 5000) n;
    insert into public.graph_edges (tenant_id, kind, from_id, to_id, properties, trace_id, at)
    select 'default', e.kind, f.id, t.id, '{}', md5(e.n::text), now() - e.n * interval '1 second'
    from (
      select n, 'PUBLISHED_IN' as kind, 'Post' as from_kind, md5('post' || n)::uuid::text as from_key, 'Channel' as to_kind, 'telegram:' || n % 50 as to_key
      from generate_series(1, ${posts}) n
      union all
      select n, 'HAS_IMAGE', 'Post', md5('post' || n)::uuid::text, 'ImageContent', md5('image' || i) || md5('content' || i)
      from generate_series(1, ${posts}) n
      cross join lateral (select n as i union select 1 + (n::bigint * 7919) % ${posts}) i
      union all
      select n, 'LINKS_TO', 'Post', md5('post' || n)::uuid::text, 'Article',
        'https://example.com/' || 1 + floor(${posts} / 4 * power(abs(hashint4(n)::float8 / 2147483648), 2))::integer % (${posts} / 4)
      from generate_series(1, ${posts}) n
      union all
      select n, 'HAS_LABEL', 'ImageContent', md5('image' || n) || md5('content' || n), 'Label',
        'label ' || 1 + floor(5000 * power(abs(hashint4(n + 1)::float8 / 2147483648), 3))::integer % 5000
      from generate_series(1, ${posts}) n
    ) e
    join public.graph_nodes f on f.tenant_id = 'default' and f.kind = e.from_kind and f.key = e.from_key
    join public.graph_nodes t on t.tenant_id = 'default' and t.kind = e.to_kind and t.key = e.to_key;
    alter table public.graph_nodes enable trigger user;
    alter table public.graph_edges enable trigger user;
  `).simple();
  await sql`vacuum analyze`;
  await sql.end();
}

async function measured(url: string): Promise<Part> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    const [{ edges }] = await sql`select count(*)::int as edges from public.graph_edges` as unknown as [
      { edges: number },
    ];
    // As people ask: most for posts, some for what many lead to.
    const asked = await sql<{ id: string; kind: string; key: string }[]>`
      (select id, kind, key from public.graph_nodes where kind = 'Post' order by md5(key) limit ${ASKED / 2})
      union all
      (select id, kind, key from public.graph_nodes where kind = 'ImageContent' order by md5(key) limit ${
      ASKED / 5
    })
      union all
      (select id, kind, key from public.graph_nodes where kind = 'Article' order by md5(key) limit ${
      ASKED / 5
    })
      union all
      (select id, kind, key from public.graph_nodes where kind = 'Label' order by md5(key) limit ${
      ASKED / 10
    })`;
    const ask = async (run: (node: { id: string; kind: string; key: string }) => Promise<unknown>) => {
      const took: number[] = [];
      for (const node of asked) {
        const began = performance.now();
        await run(node);
        took.push(performance.now() - began);
      }
      return took;
    };
    const ours = ({ kind, key }: { kind: string; key: string }) =>
      sql`select public.eve_graph_neighbours(${
        sql.json(ACTOR)
      }, ${kind}, ${key}, depth => ${DEPTH}, at_most => ${MOST}) as answer`;
    const bare = ({ id }: { id: string }) =>
      sql`
      with one as (
        select e.to_id as id from public.graph_edges e where e.from_id = ${id}
        union
        (select e.from_id from public.graph_edges e where e.to_id = ${id} order by e.at desc limit ${MOST})
      ), two as (
        select e.to_id as id from one join public.graph_edges e on e.from_id = one.id
        union
        select e.from_id from one
        cross join lateral (select i.from_id from public.graph_edges i where i.to_id = one.id order by i.at desc limit ${MOST}) e
      )
      select n.id, n.kind, n.key, n.properties, n.trace_id, n.at
      from (select id from one union select id from two limit ${MOST}) found
      join public.graph_nodes n on n.id = found.id`;
    const took = { ours: [] as number[], bare: [] as number[] };
    for (const run of [bare, ours]) await ask(run);
    for (let turn = 0; turn < 3; turn++) {
      took.bare.push(...await ask(bare));
      took.ours.push(...await ask(ours));
    }
    const round = (ms: number) => Math.round(ms * 100) / 100;
    const [p99, bareP99] = [percentile(took.ours, 0.99), percentile(took.bare, 0.99)];
    return {
      figures: {
        edges,
        asked: took.ours.length,
        depth: DEPTH,
        nodes_at_most: MOST,
        neighbours_p50_ms: round(median(took.ours)),
        neighbours_p99_ms: round(p99),
        bare_join_p50_ms: round(median(took.bare)),
        bare_join_p99_ms: round(bareP99),
      },
      ratios: { neighbours_p99_to_bare_join: round(p99 / bareP99) },
      goals: { neighbours_p99_to_bare_join: { most: 3 } },
    };
  } finally {
    await sql.end();
  }
}
