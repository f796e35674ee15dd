import { systemClock } from "../../../shared/runtime/clock.ts";
import type { Answer } from "../../../shared/contract/content.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import type { GatewayEvent } from "../../../shared/contract/events.ts";
import type { GatewayResult } from "../../../shared/contract/result.ts";
import { openaiEndpoint, type OpenaiEndpointOptions } from "../../../shared/endpoints/openai/endpoint.ts";
import { askUnder, ID, RESULT, testRouter } from "./router_fixture.ts";

export const NOW = Date.UTC(2026, 10, 21);

/** The router with the OpenAI endpoint alone, and a gateway behind it that does what the test says. */
export function testOpenai(
  behind: Partial<Gateway> = {},
  fetching: typeof fetch = () => Promise.reject(),
  more: Partial<OpenaiEndpointOptions> = {},
) {
  let ids = 0;
  const endpoint = openaiEndpoint({
    maxWaitMs: 100_000,
    clock: systemClock,
    fetch: fetching,
    now: () => NOW,
    newId: () => `id${++ids}`,
    ...more,
  });
  const { receive, asked, logged } = testRouter(undefined, { endpoints: [endpoint] }, behind);
  const ask = askUnder("/llm-invoke/openai/v1", receive);
  return {
    asked,
    logged,
    receive,
    ask,
    chat: (more: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
      ask(
        "/chat/completions",
        { model: RESULT.model, messages: [{ role: "user", content: "?" }], ...more },
        headers,
      ),
  };
}

/** A gateway's result with these candidates. */
export function resultOf(candidates: Answer["candidates"], more: Partial<GatewayResult> = {}): GatewayResult {
  return {
    ...RESULT,
    requestId: ID,
    answer: { candidates },
    finishReason: candidates?.[0]?.finishReason ?? null,
    ...more,
  };
}

/** A gateway that streams these chunks and ends with the result, or with an error. */
export function streaming(
  chunks: Answer["candidates"][],
  end: GatewayResult | Error,
): Pick<Gateway, "stream"> & { pulled: () => number; left: () => boolean } {
  let pulled = 0;
  let left = false;
  return {
    pulled: () => pulled,
    left: () => left,
    async *stream(): AsyncGenerator<GatewayEvent> {
      let over = false;
      try {
        yield { type: "queued", attempt: 1, model: RESULT.model, waitMs: 5 };
        yield { type: "started", attempt: 1, model: RESULT.model, keyAlias: "demo-a", limits: RESULT.limits };
        for (const candidates of chunks) {
          pulled++;
          yield { type: "delta", chunk: { candidates } };
        }
        over = true;
        if (end instanceof Error) throw end;
        yield { type: "done", result: end };
      } finally {
        left = !over;
      }
    },
  };
}

/** The `data:` frames of a stream, parsed; `[DONE]` as it is. */
export async function framesOf(response: Response): Promise<unknown[]> {
  const frames = (await response.text()).split("\n\n").filter((text) => text !== "");
  return frames.map((text) => {
    const data = text.replace(/^data: /, "");
    return data === "[DONE]" ? data : JSON.parse(data);
  });
}
