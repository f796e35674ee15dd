import type { Content } from "./content.ts";
import type { Limits } from "./limits.ts";
import type { Asked } from "./request.ts";

/** One text to embed: the body of `embedContent`, without its model. Open, like all of the API's own shapes. */
export interface EmbedItem {
  content: Content;
  taskType?: string;
  title?: string;
  outputDimensionality?: number;
  [field: string]: unknown;
}

/** A call of an embedding model, for one text or several. Admitted like any other call. */
export interface EmbedRequest extends Asked {
  /** At least one. */
  items: EmbedItem[];
}

export interface Embedding {
  values: number[];
  [field: string]: unknown;
}

export interface EmbedResult {
  requestId: string;
  /** The model that served. */
  model: string;
  requestedModel: string;
  replaced: boolean;
  /** In the order of the items. */
  embeddings: Embedding[];
  usage: {
    inputTokens: number;
    /** True: counted by us; most embedding models report nothing. */
    estimated: boolean;
  };
  keyAlias: string;
  attempts: number;
  waitMs: number;
  limits: Limits | null;
}

/** Google's embedding models all say so in their names, and no other model does. */
export function isEmbeddingModel(model: string): boolean {
  return /embed/i.test(model);
}
