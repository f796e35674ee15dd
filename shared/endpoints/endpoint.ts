import type { Caller } from "../contract/caller.ts";
import type { EmbedRequest, EmbedResult } from "../contract/embedding.ts";
import type { GatewayEvent } from "../contract/events.ts";
import type { TokenCount } from "../contract/gateway.ts";
import type { GatewayError } from "../contract/gateway_error.ts";
import type { ModelInfo } from "../contract/model_info.ts";
import type { EndpointName, GatewayRequest } from "../contract/request.ts";
import type { GatewayResult } from "../contract/result.ts";
import type { ServedBy, Target } from "../contract/target.ts";

/**
 * How long a start may lie ahead for callers who say nothing. With a usual answer on top it stays under the 60 s after
 * which most HTTP clients give up (Google's own have no limit unless they are given one), and a person waits no longer.
 */
export const DEFAULT_WAIT_MS = 30_000;

/** One request at an endpoint, its caller already known. */
export interface RequestContext {
  request: Request;
  /** Below the function's own: `/` or `/openai/v1/models`. */
  path: string;
  /** A part of the path that the route's pattern names, decoded as far as it can be; empty where there is none. */
  param(name: string): string;
  caller: Caller;
  /** The job that this is the run of; null: a client asks by itself. */
  jobId: string | null;
  /** Made by us; until the client names its own with `adoptRequestId`. */
  requestId: string;
  /** From here on the request goes by the client's id, in its errors too. */
  adoptRequestId(id: string): void;
  /** The body as JSON, capped. Throws GatewayError. */
  readJson(): Promise<unknown>;
  /** The body as a multipart form, capped. Throws GatewayError. */
  readForm(): Promise<FormData>;
  /** The body's bytes, capped. Throws GatewayError. */
  readBytes(): Promise<Uint8Array<ArrayBuffer>>;
  /** Takes memory, in bytes, for what the request brings in from elsewhere. Throws GatewayError `gateway_busy`. */
  takeMemory(bytes: number): void;
  /**
   * Makes sure that the caller may still call, where the credential alone does not show it: once per request, and
   * before any work that costs more than the question. Throws GatewayError.
   */
  confirmCaller(): Promise<void>;
  /** Looks up what serves the call; once, before it goes to the gateway. Throws GatewayError. */
  resolve(target: Target): Promise<ServedBy>;
  /** Hands the request to the gateway. @param as who is charged for it, if not the caller. Throws GatewayError. */
  invoke(request: GatewayRequest, as?: Caller): Promise<GatewayResult>;
  /** The same as a stream of events; see `Gateway.stream`. Its iteration throws GatewayErrors. */
  stream(request: GatewayRequest, as?: Caller): AsyncIterable<GatewayEvent>;
  embed(request: EmbedRequest): Promise<EmbedResult>;
  countTokens(request: Pick<GatewayRequest, "prompt">): Promise<TokenCount>;
  /** The models that this caller may use. */
  models(): Promise<ModelInfo[]>;
}

/** One address of an endpoint. */
export interface EndpointRoute {
  /** Hono's pattern for paths below the function's own; where several fit, the first serves. */
  path: string;
  /** Those that there are at a path; the others are refused before anybody asks who calls. */
  methods: readonly string[] | ((path: string) => readonly string[]);
  /**
   * Who sent a request whose address was signed for them: it stands for their credential, which clients do not send there. Null: it is no
   * such address. Throws GatewayError `credential_invalid`.
   */
  callerOfAddress?(request: Request): Promise<Caller | null>;
  /** Throws GatewayError; whatever it throws is answered by `errorResponse`. */
  serve(context: RequestContext): Promise<Response>;
}

/** One client wire format, translated to the contract and back. */
export interface Endpoint {
  name: EndpointName;
  routes: readonly EndpointRoute[];
  /** An error as this endpoint's clients expect it. */
  errorResponse(error: GatewayError, requestId: string): Response;
}
