import type { Caller } from "./caller.ts";
import type { EmbedRequest, EmbedResult } from "./embedding.ts";
import type { GatewayEvent } from "./events.ts";
import type { ModelInfo } from "./model_info.ts";
import type { GatewayRequest, InvokeContext } from "./request.ts";
import type { GatewayResult } from "./result.ts";

/** The length of a prompt. */
export interface TokenCount {
  totalTokens: number;
  /** True: by our own weights; false: upstream counted. */
  estimated: boolean;
}

/** What every endpoint calls. All of it throws GatewayErrors and nothing else. */
export interface Gateway {
  invoke(request: GatewayRequest, context: InvokeContext): Promise<GatewayResult>;
  /**
   * The same as a stream of events: `queued`, `started`, `delta`s, and `done` at the end.
   *
   * It throws where the request fails, be it before the first `delta` or after. Nothing runs ahead of its reader: upstream
   * is read as the iteration is pulled. Leaving the iteration (`return()`) ends the call upstream and settles.
   */
  stream(request: GatewayRequest, context: InvokeContext): AsyncIterable<GatewayEvent>;
  embed(request: EmbedRequest, context: InvokeContext): Promise<EmbedResult>;
  /** Costs no quota and calls nobody: the gateway's own estimate. */
  countTokens(request: Pick<GatewayRequest, "prompt">, caller: Caller): Promise<TokenCount>;
  /** The models that the caller may use. */
  models(caller: Caller): Promise<ModelInfo[]>;
}
