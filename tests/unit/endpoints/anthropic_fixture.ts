import { systemClock } from "../../../shared/runtime/clock.ts";
import type { Gateway } from "../../../shared/contract/gateway.ts";
import {
  anthropicEndpoint,
  type AnthropicEndpointOptions,
} from "../../../shared/endpoints/anthropic/endpoint.ts";
import { NOW } from "./openai_fixture.ts";
import { askUnder, RESULT, testRouter } from "./router_fixture.ts";

/** The router with the Anthropic endpoint alone, and a gateway behind it that does what the test says. */
export function testAnthropic(
  behind: Partial<Gateway> = {},
  fetching: typeof fetch = () => Promise.reject(),
  options: Partial<AnthropicEndpointOptions> = {},
) {
  let ids = 0;
  const endpoint = anthropicEndpoint({
    maxWaitMs: 100_000,
    clock: systemClock,
    fetch: fetching,
    now: () => NOW,
    newId: () => `id${++ids}`,
    ...options,
  });
  const { receive, asked, logged } = testRouter(undefined, { endpoints: [endpoint] }, behind);
  const ask = askUnder("/llm-invoke/anthropic/v1", receive);
  return {
    asked,
    logged,
    ask,
    messages: (more: Record<string, unknown> = {}, headers: Record<string, string> = {}) =>
      ask(
        "/messages",
        { model: RESULT.model, max_tokens: 100, messages: [{ role: "user", content: "?" }], ...more },
        headers,
      ),
  };
}

/** A stream's events, each with the name before its data. */
export async function eventsOf(response: Response): Promise<Record<string, unknown>[]> {
  const frames = (await response.text()).split("\n\n").filter((text) => text !== "");
  return frames.map((text) => {
    const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(text) ?? [];
    const json = JSON.parse(data ?? "null");
    if (json?.type !== name) throw new Error(`no event: ${text}`);
    return json;
  });
}
