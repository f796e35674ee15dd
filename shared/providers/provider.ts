import type { Block, Capability } from "../contract/block.ts";
import type { CachedContent } from "../contract/cached_content.ts";
import type { Answer, Prompt } from "../contract/content.ts";
import type { Embedding, EmbedItem } from "../contract/embedding.ts";
import type { ErrorCode } from "../contract/errors.ts";
import type { AnswerVerdict } from "../contract/result.ts";
import type { TokenUsage } from "../contract/usage.ts";

/** What a provider's calls need beside a key: `base_url`, `folder_id`, `scope`, `voice`. No secret. */
export type ProviderSettings = Readonly<Record<string, string>>;

/** One call of one model with one key. */
export interface ProviderCall {
  model: string;
  /** The key itself. It goes into a header and nowhere else. */
  secret: string;
  /** Absent: as the environment says. */
  settings?: ProviderSettings;
  prompt: Prompt;
  /** Ends the call: the client has gone, or time is up. */
  signal: AbortSignal;
}

/** What a model gave back, success or not, with upstream's own words sorted out. */
export interface ProviderAnswer {
  answer: Answer;
  verdict: AnswerVerdict;
  finishReason: string | null;
  /** Null: upstream reported none. */
  usage: TokenUsage | null;
}

/** A piece of a streamed answer. */
export interface ProviderChunk {
  answer: Answer;
  /** The call's usage up to here; null: this chunk says nothing about it. */
  usage: TokenUsage | null;
}

/** What is known when a stream has come to its end. */
export type ProviderEnd = Omit<ProviderAnswer, "answer">;

export interface ProviderEmbedCall extends Omit<ProviderCall, "prompt"> {
  item: EmbedItem;
}

export interface ProviderEmbedding {
  embedding: Embedding;
  /** Null: upstream reported none, as embedding models mostly do. */
  usage: TokenUsage | null;
}

/**
 * The interface to an upstream: contract in, contract out. Nothing outside this folder knows an upstream's URLs, headers or errors.
 * What it cannot do is absent.
 */
export interface Provider {
  /** As people know it, for messages. */
  name: string;
  text?: TextProvider;
  embeddings?: EmbeddingProvider;
  jobs?: JobProvider;
  caches?: CacheProvider;
}

/** A thing that some upstreams can do. */
export type ProviderCapability = Exclude<keyof Provider, "name">;

/** A provider that has these capabilities for certain. */
export type ProviderOf<Has extends ProviderCapability> = Provider & Required<Pick<Provider, Has>>;

/** An upstream that answers prompts. */
export interface TextProvider {
  /**
   * @throws ProviderFailure for everything upstream refused or broke off
   * @throws the signal's reason when it aborts
   */
  generate(call: ProviderCall): Promise<ProviderAnswer>;
  /**
   * The same, chunk by chunk, each with the new parts only; read no faster than it is pulled. What is thrown before the
   * first chunk and after it is of the same kinds.
   */
  stream(call: ProviderCall): AsyncGenerator<ProviderChunk, ProviderEnd, void>;
  /**
   * Input tokens of a prompt, as upstream itself counts them, at no cost to the model's limits; throws as `generate` does.
   * Absent: this upstream does not count for free.
   */
  countTokens?(call: ProviderCall): Promise<number>;
}

export interface EmbeddingProvider {
  /** One text as a vector; throws as `TextProvider.generate` does. */
  embed(call: ProviderEmbedCall): Promise<ProviderEmbedding>;
  /** 2 to 100 texts in one call, their vectors in their order. Absent: each is a call of its own. */
  embedMany?(
    call: Omit<ProviderEmbedCall, "item"> & { items: EmbedItem[] },
  ): Promise<{ embeddings: Embedding[]; usage: TokenUsage | null }>;
}

export type CacheCall = Omit<ProviderCall, "model" | "prompt">;

/** An upstream that keeps contents for prompts to name. All of it throws as `TextProvider.generate` does. */
export interface CacheProvider {
  /** @param call.content the body of `cachedContents.create`, without its model */
  create(call: CacheCall & { model: string; content: Record<string, unknown> }): Promise<CachedContent>;
  /** @param call.name `cachedContents/{id}` @param call.expiration `ttl` or `expireTime`, as the API has them */
  update(call: CacheCall & { name: string; expiration: Record<string, string> }): Promise<CachedContent>;
  remove(call: CacheCall & { name: string }): Promise<void>;
}

/** A file that a provider has made. */
export interface MadeFile {
  /** Where it is; null: it is in `content`. */
  url: string | null;
  mimeType: string;
  title?: string;
  /** Seconds. */
  durationS?: number;
  content?: Uint8Array;
}

/** The state of a job. */
export type JobProgress =
  | { state: "running"; upstreamId: string }
  | {
    state: "succeeded";
    files: MadeFile[];
    /** Milliseconds since 1970; null: not known. */
    expiresAt: number | null;
  }
  | { state: "failed"; code: Extract<ErrorCode, "content_blocked" | "answer_unusable">; reason: string };

export interface JobSubmission {
  model: string;
  secret: string;
  settings?: ProviderSettings;
  /** What is to be said, sung or shown. */
  text: string;
  /** The provider's own settings of the job: voice, style, length. Those that it does not know are left out. */
  options: Readonly<Record<string, unknown>>;
  /** For upstreams that require one; what arrives there is not trusted. */
  callbackUrl: string;
  signal: AbortSignal;
}

export interface JobInquiry extends Omit<JobSubmission, "text" | "options" | "callbackUrl"> {
  upstreamId: string;
}

/** An upstream whose work takes longer than a call. */
export interface JobProvider {
  /** @throws ProviderFailure, and the signal's reason when it aborts */
  submit(submission: JobSubmission): Promise<JobProgress>;
  /** @throws as `submit`: the job's state is then unknown */
  poll(inquiry: JobInquiry): Promise<JobProgress>;
}

/** What a failure is the fault of, which decides what is not used from now on. */
export type Fault = "key" | "key_model" | "lane" | "nobody" | "caller" | "region";

/** What a failure means. */
export interface Diagnosis {
  fault: Fault;
  /** Whether another attempt, perhaps with another key, may succeed. */
  retryable: boolean;
  block: Block | null;
  code: ErrorCode;
  /** The feature that the model refused, where it said so. */
  capability?: Capability;
}

export class ProviderFailure extends Error {
  readonly diagnosis: Diagnosis;
  /** HTTP status; null if there was no answer. */
  readonly upstreamStatus: number | null;

  /** @param message what upstream said, without the key */
  constructor(diagnosis: Diagnosis, message: string, upstreamStatus: number | null) {
    super(message);
    this.name = "ProviderFailure";
    this.diagnosis = diagnosis;
    this.upstreamStatus = upstreamStatus;
  }
}
