/**
 * What the function `api` answers, as the console reads it: names and units are those of docs/graph.md, docs/storage.md and
 * docs/vision.md. Times are ISO 8601.
 *
 * Types alone, and no import of a package, since the console shares this file: a route that answers something else is a type error
 * there (shared/api/route.ts), a page that reads something else is one in the page. Answers that no page reads are not listed.
 */

/** By method and path. */
export interface ApiAnswers {
  "GET /v1/graph/nodes": { nodes: GraphNode[] };
  "GET /v1/graph/neighbours": Neighbours;
  "GET /v1/graph/related": RelatedPosts;
  "POST /v1/media/{name}/url": FileAddress;
  "GET /v1/storage/stats": StorageStats;
  "GET /v1/storage/growth": StorageGrowth;
  "POST /v1/storage/cleanup": StorageCleanup;
  "GET /v1/vision/pictures": { pictures: SeenPicture[] };
  "GET /v1/vision/budgets": VisionBudgets;
  "POST /v1/vision/requeue": { queued: number };
}

export type NodeKind = "Post" | "ImageContent" | "Article" | "Label" | "Channel" | "Domain";

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

export interface FileAddress {
  url: string;
  expires_at: string;
}

export type FileKind = "media" | "vision" | "crawl";

/** In bytes. */
export interface StorageCounter {
  limit_bytes: number;
  used_bytes: number;
  reserved_bytes: number;
  free_bytes: number;
  objects: number;
}

export interface StorageStats {
  total: StorageCounter;
  kinds: Record<FileKind, StorageCounter>;
  spool: StorageCounter;
  emergency_threshold_bytes: number;
  tenants: ({ tenant_id: string } & StorageCounter)[];
}

export interface StorageGrowth {
  /** Of files that are there, by the UTC day on which they came; days on which none came are absent. */
  days: { day: string; kind: FileKind; objects: number; bytes: number }[];
}

export interface StorageCleanup {
  status: "not_needed" | "done" | "more" | "not_enough";
  dry_run: boolean;
  used_bytes_after: number;
  target_bytes: number;
  freed_bytes: number;
  deleted_objects: number;
  steps: { what: FileKind | "multipart"; min_age_days: number; objects: number; bytes: number }[];
}

export interface SeenPicture {
  id: string;
  tenant_id: string;
  post_id: string;
  file_sha256: string | null;
  status: "waiting" | "done" | "skipped" | "invalid" | "failed";
  reason: string | null;
  analyst: string | null;
  vision_description: string | null;
  labels: string[];
  ocr_text: string | null;
  tokens: number;
  from_cache: boolean;
  same_as: string | null;
  updated_at: string;
  decision: { action: string; reason: string; detail: Record<string, unknown> } | null;
}

export interface VisionBudgets {
  budgets: {
    provider: string;
    period: string;
    unit: string;
    most: number;
    used: number;
    reserved: number;
    ends_at: string;
  }[];
}
