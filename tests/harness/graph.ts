/** A small world of posts and pictures that changes step by step, and the graph that it should have: the model of the graph's tests. */
import * as fc from "fast-check";
import type postgres from "postgres";
import { PROJECT, shaOf } from "./media.ts";
import type { TestClock } from "./admission.ts";

export const PICTURES = 4;
export const POSTS = 5;
const LABELS = ["афиша", "concert", "cat/dog", "море"];

const pictures = fc.uniqueArray(fc.integer({ min: 1, max: PICTURES }), { maxLength: 3 });
const post = fc.nat(POSTS - 1);

/** What may happen, in the tables or with events. */
export type Step =
  /** Adds a post, or pictures to one that is there. */
  | { do: "add"; post: number; source: number; pictures: number[] }
  | { do: "found"; post: number; picture: number; labels: number[]; sameAs: number | null }
  | { do: "edit"; post: number; text: number }
  | { do: "take out"; post: number; picture: number }
  | { do: "delete"; post: number }
  /** Some events that are due are delivered; or some, be they old or new, once more. */
  | { do: "deliver"; most: number }
  | { do: "repeat"; seed: number };

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("add" as const), post, source: fc.nat(1), pictures }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("found" as const),
      post,
      picture: fc.integer({ min: 1, max: PICTURES }),
      labels: fc.uniqueArray(fc.nat(LABELS.length - 1)),
      sameAs: fc.option(fc.integer({ min: 1, max: PICTURES }), { freq: 2 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("edit" as const), post, text: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("take out" as const),
      post,
      picture: fc.integer({ min: 1, max: PICTURES }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("delete" as const), post }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("deliver" as const), most: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("repeat" as const), seed: fc.nat() }) },
);

interface Found {
  trace: string;
  at: string;
  foundAt: string | null;
  labels: string[];
  sameAs: string | null;
  description: string | null;
}
interface Post {
  id: string;
  source: string;
  text: string;
  at: string;
  trace: string;
  /** By picture, its place. */
  media: Map<string, number>;
  found: Map<string, Found>;
}

export interface GraphNode {
  kind: string;
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
  trace_id: string | null;
  at: string;
}
export interface Graph {
  nodes: GraphNode[];
  edges: GraphEdge[];
}

const nameOf = ({ kind, key }: { kind: string; key: string }) => `${kind}/${key}`;
const before = (a: { at: string; trace_id: string | null }, b: { at: string; trace_id: string | null }) =>
  a.at < b.at || a.at === b.at && (a.trace_id ?? "~") < (b.trace_id ?? "~");

export function sorted({ nodes, edges }: Graph): Graph {
  const by = <T>(name: (one: T) => string) => (a: T, b: T) =>
    name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0;
  return {
    nodes: nodes.toSorted(by(nameOf)),
    edges: edges.toSorted(by(({ from, kind, to }) => `${from} ${kind} ${to}`)),
  };
}

/** Posts and pictures of the tenant `default`, in a database whose clock stands still. */
export class World {
  readonly posts = new Map<number, Post>();
  /** Each step is so far from the one before that leases of a minute have ended. */
  #seconds = 0;
  readonly #sql: postgres.Sql;
  readonly #clock: TestClock;

  constructor(sql: postgres.Sql, clock: TestClock) {
    this.#sql = sql;
    this.#clock = clock;
  }

  /** Rows of pictures, once for a database. */
  static async pictures(sql: postgres.Sql): Promise<void> {
    for (let number = 1; number <= PICTURES; number++) {
      await sql`
        insert into public.media_objects (tenant_id, file_sha256, size_bytes, mime_type, state, counts_as, s3_key)
        values ('default', ${shaOf(number)}, 1000, 'image/jpeg', 'verified', 'used', ${`k/${number}`})
        on conflict do nothing`;
    }
  }

  async take(one: Step): Promise<void> {
    const sql = this.#sql;
    const at = new Date(Date.parse("2026-11-18T12:00:00Z") + 100_000 * ++this.#seconds).toISOString();
    await this.#clock.set(at);
    const trace = (0x1000 + this.#seconds).toString(16).padStart(32, "a");
    const post = "post" in one ? this.posts.get(one.post) : undefined;
    switch (one.do) {
      case "add": {
        const media = one.pictures.map(shaOf);
        const given = { source: post?.source ?? `telegram:${one.source}`, external_id: `${one.post}`, media };
        const [row] = await sql`
          select public.eve_post_add(${sql.json(PROJECT)}, ${sql.json(given)}, ${trace}) as answer`;
        const known = post ??
          {
            id: row!.answer.post.id as string,
            source: given.source,
            text: "",
            at,
            trace,
            media: new Map(),
            found: new Map(),
          };
        this.posts.set(one.post, known);
        media.forEach((sha, place) => {
          if (!known.media.has(sha)) known.media.set(sha, place);
          if (!known.found.has(sha)) {
            const nothing = { foundAt: null, labels: [], sameAs: null, description: null };
            known.found.set(sha, { trace, at, ...nothing });
          }
        });
        return;
      }
      case "found": {
        const sha = shaOf(one.picture);
        const found = post?.found.get(sha);
        if (post === undefined || found === undefined) return;
        found.foundAt = at;
        found.labels = one.labels.map((label) => LABELS[label]!);
        found.sameAs = one.sameAs === null ? null : shaOf(one.sameAs);
        found.description = `seen at ${at}`;
        await sql.begin(async (sql) => {
          const [row] = await sql`
            update public.post_enrichment
            set status = 'done', labels = ${found.labels}, same_as = ${found.sameAs},
              vision_description = ${found.description}, analyzed_at = ${at}
            where post_id = ${post.id} and file_sha256 = ${sha} returning id`;
          await sql`select eve.vision_emit(${row!.id})`;
        });
        return;
      }
      case "edit":
        if (post === undefined) return;
        post.text = one.text === 0 ? "" : `text ${one.text}`;
        await sql`update public.posts set text = ${post.text} where id = ${post.id}`;
        return;
      case "take out":
        if (post === undefined) return;
        post.media.delete(shaOf(one.picture));
        await sql`
          delete from public.post_media_map where post_id = ${post.id} and file_sha256 = ${
          shaOf(one.picture)
        }`;
        return;
      case "delete":
        if (post === undefined) return;
        this.posts.delete(one.post);
        await sql`delete from public.posts where id = ${post.id}`;
        return;
      case "deliver":
        await sql`select public.eve_graph_deliver(${one.most})`;
        return;
      case "repeat":
        await sql`
          select eve.graph_apply(eve.event_json(e))
          from (select e.* from eve.events e where e.source <> '/graph' order by md5(e.id::text || ${one.seed}) limit 3) e`;
        return;
    }
  }

  /** The graph that these posts should have. */
  graph(): Graph {
    const nodes = new Map<string, GraphNode>();
    const edges = new Map<string, GraphEdge>();
    const own = new Set<string>();
    const connect = (
      from: string,
      kind: string,
      to: { kind: string; key: string },
      rest: Pick<GraphEdge, "properties" | "trace_id" | "at">,
    ) => {
      const name = `${from} ${kind} ${nameOf(to)}`;
      const there = edges.get(name);
      if (there === undefined || before(rest, there)) {
        edges.set(name, { kind, from, to: nameOf(to), ...rest });
      }
      if (!nodes.has(nameOf(to))) nodes.set(nameOf(to), { ...to, properties: {}, trace_id: null, at: "" });
    };
    for (const post of this.posts.values()) {
      const { id, source, text, at, trace } = post;
      const external_id = [...this.posts].find(([, one]) => one === post)![0].toString();
      const name = `Post/${id}`;
      own.add(name);
      nodes.set(name, {
        kind: "Post",
        key: id,
        properties: { source, external_id, ...(text !== "" && { text }) },
        trace_id: trace,
        at,
      });
      connect(name, "PUBLISHED_IN", { kind: "Channel", key: source }, {
        properties: {},
        trace_id: trace,
        at,
      });
      for (const [sha, place] of post.media) {
        connect(name, "HAS_IMAGE", { kind: "ImageContent", key: sha }, {
          properties: { place },
          trace_id: trace,
          at,
        });
        const found = post.found.get(sha)!;
        const rest = { properties: {}, trace_id: found.trace, at: found.at };
        for (const key of found.labels) {
          connect(`ImageContent/${sha}`, "HAS_LABEL", { kind: "Label", key }, rest);
        }
        if (found.sameAs !== null && found.sameAs !== sha) {
          connect(
            `ImageContent/${sha}`,
            "NEAR_DUPLICATE_OF",
            { kind: "ImageContent", key: found.sameAs },
            rest,
          );
        }
      }
    }
    for (const [name, node] of nodes) {
      if (node.kind === "ImageContent") {
        const latest = [...this.posts.values()]
          .filter(({ media }) => media.has(node.key))
          .map(({ found }) => found.get(node.key)!)
          .filter(({ foundAt }) => foundAt !== null)
          .toSorted((a, b) => a.foundAt! < b.foundAt! ? 1 : -1)[0];
        node.properties = { mime_type: "image/jpeg", ...(latest && { description: latest.description }) };
      }
      if (own.has(name)) continue;
      const first = [...edges.values()].filter(({ to }) => to === name).reduce((a, b) =>
        before(b, a) ? b : a
      );
      node.trace_id = first.trace_id;
      node.at = first.at;
    }
    return sorted({ nodes: [...nodes.values()], edges: [...edges.values()] });
  }
}

/** The graph that a database has. */
export async function graphOf(sql: postgres.Sql): Promise<Graph> {
  const nodes = await sql<(GraphNode & { at: Date })[]>`
    select kind, key, properties, trace_id, at from public.graph_nodes`;
  const edges = await sql<(GraphEdge & { at: Date })[]>`
    select e.kind, a.kind || '/' || a.key as from, b.kind || '/' || b.key as to, e.properties, e.trace_id, e.at
    from public.graph_edges e
    join public.graph_nodes a on a.id = e.from_id
    join public.graph_nodes b on b.id = e.to_id`;
  return sorted({
    nodes: nodes.map((node) => ({ ...node, at: (node.at as unknown as Date).toISOString() })),
    edges: edges.map((edge) => ({ ...edge, at: (edge.at as unknown as Date).toISOString() })),
  });
}

/** Empties what a world has written. */
export async function clearWorld(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(
    "delete from public.posts; delete from eve.jobs; delete from eve.vision_decisions; delete from eve.graph_sinks;" +
      "delete from eve.events; delete from public.graph_edges; delete from public.graph_nodes; delete from eve.graph_counts;",
  ).simple();
}

/** Two pages that all these posts lead to, one of them read (an article of that trace), with their events. */
export async function linkPages(
  sql: postgres.Sql,
  posts: readonly string[],
  trace: string,
): Promise<void> {
  for (const [place, path] of ["read", "linked"].entries()) {
    const url = `https://example.org/${path}`;
    const [page] = await sql`
      insert into public.crawl_pages (tenant_id, url, canonical_url, domain, created_at)
      values ('default', ${url}, ${url}, 'example.org', eve.clock()) returning id`;
    for (const post of posts) {
      await sql`
        insert into public.post_links (post_id, page_id, tenant_id, place)
        values (${post}, ${page!.id}, 'default', ${place})`;
      await sql`select eve.emit_event('/crawl', 'post.linked.v1', ${post}, ${
        sql.json({ tenant_id: "default", post_id: post, links: [] })
      })`;
    }
    if (path !== "read") continue;
    await sql`
      insert into public.articles (tenant_id, page_id, title, trace_id, created_at)
      values ('default', ${page!.id}, 'Festival', ${trace}, eve.clock())`;
    await sql`select eve.emit_event('/crawl', 'article.extracted.v1', 'x', ${
      sql.json({ tenant_id: "default", canonical_url: url, trace_id: trace })
    })`;
  }
}
