import { expect } from "vitest";
import { systemClock } from "../../../shared/runtime/clock.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayRequest, InvokeContext } from "../../../shared/contract/request.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import type { ResolveTarget } from "../../../shared/contract/target.ts";
import { createRouter, type RouterDependencies } from "../../../shared/endpoints/router.ts";
import { nativeEndpoint } from "../../../shared/endpoints/native/endpoint.ts";

export const RESULT: GatewayResult = {
  requestId: "r1",
  model: "gemma-4-31b-it",
  requestedModel: "gemma-4-31b-it",
  replaced: false,
  answer: {
    candidates: [{
      content: {
        role: "model",
        parts: [{ text: "Hmm", thought: true }, { text: "Концерт", thoughtSignature: "AA==" }],
      },
      finishReason: "STOP",
    }],
  },
  verdict: { ok: true },
  finishReason: "STOP",
  usage: {
    inputTokens: 9,
    outputTokens: 3,
    thoughtsTokens: 2,
    cachedTokens: null,
    totalTokens: 14,
    estimated: false,
  },
  keyAlias: "demo-a",
  attempts: 1,
  waitMs: 0,
  limits: {
    requests: { limit: 30, remaining: 29, resetMs: 60_000 },
    tokens: { limit: 16_000, remaining: 15_990, resetMs: 60_000 },
    requestsDay: { limit: null, remaining: null, resetMs: null },
  },
  replayed: false,
};

export const ID = "00000000-0000-4000-8000-000000000000";

/** Where there are no stages. */
export const modelsAlone: ResolveTarget = (target) =>
  target.kind === "models"
    ? Promise.resolve({ models: target.models, excludeKeys: [], stage: null })
    : Promise.reject(new GatewayError("unknown_stage"));

/** The router with its native endpoint, and a gateway behind it that answers what the test says. */
export function testRouter(
  answer: (request: GatewayRequest, context: InvokeContext) => Promise<GatewayResult> = (request) =>
    Promise.resolve({ ...RESULT, requestId: request.id }),
  dependencies: Partial<RouterDependencies> = {},
  behind: Partial<Gateway> = {},
) {
  const asked: GatewayRequest[] = [];
  const logged: [string, Record<string, unknown>][] = [];
  const receive = createRouter({
    functionName: "llm-invoke",
    clock: systemClock,
    newId: () => ID,
    log: (_level, event, fields) => void logged.push([event, fields]),
    open: () => ({
      endpoints: [nativeEndpoint({ maxWaitMs: 100_000 })],
      identify: () => Promise.resolve({ kind: "project", consumerId: null, tokenId: null, name: "default" }),
      resolve: modelsAlone,
      gateway: {
        invoke: (request, context) => {
          asked.push(request);
          return answer(request, context);
        },
        stream: () => expect.unreachable("the endpoint streamed"),
        embed: () => expect.unreachable("the endpoint embedded"),
        countTokens: () => expect.unreachable("the endpoint counted tokens"),
        models: () => expect.unreachable("the endpoint listed models"),
        ...behind,
      },
      maxBodyBytes: 100_000,
      ...dependencies,
    }),
  });
  return {
    asked,
    logged,
    receive,
    /** Posts a body, as it is if it is a text, else as JSON. */
    post: (body: unknown, path = "/llm-invoke") =>
      receive(
        new Request(`http://gateway${path}`, {
          method: "POST",
          body: typeof body === "string" ? body : JSON.stringify(body),
        }),
      ),
  };
}

/** Asks an endpoint under its address: GET without a body, which goes as it is if it is a text, else as JSON. */
export function askUnder(address: string, receive: (request: Request) => Promise<Response>) {
  return (path: string, body?: unknown, headers: Record<string, string> = {}) =>
    receive(
      new Request(`http://gateway${address}${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers,
        ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
      }),
    );
}
