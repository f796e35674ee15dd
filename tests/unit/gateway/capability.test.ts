/** What a provider lacks is refused in words, and settled like any other refusal of the caller's request. */
import { describe, expect, test } from "vitest";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { GatewayRequest } from "../../../shared/contract/request.ts";
import { createGateway } from "../../../shared/gateway/invoke.ts";
import type { Provider } from "../../../shared/providers/provider.ts";
import { providerRegistry } from "../../../shared/providers/registry.ts";
import { grant, REQUEST, scriptedGateway } from "./gateway_fixture.ts";

const registry: Record<string, Provider> = providerRegistry({
  googleBaseUrl: undefined,
  read: () => undefined,
  createClient: () => undefined,
});

/** The gateway with all providers, of whom one is granted. */
function withProvider(provider: string) {
  const key = {
    id: "key-a",
    alias: "demo-a",
    source: { kind: "environment" as const, name: "KEY_A" },
    provider,
  };
  const set = scriptedGateway({ reservations: [grant({ key })] });
  const gateway = createGateway({ ...set.parts, providers: registry });
  return { ...set, gateway };
}

const errorOf = async (promise: Promise<unknown>): Promise<GatewayError> => {
  const thrown = await promise.then(() => null, (error) => error);
  expect(thrown).toBeInstanceOf(GatewayError);
  return thrown;
};

const request: GatewayRequest = { ...REQUEST, models: ["served-by-it"] };
const noText = (name: string) => `The model refused the request: ${name} makes no text: ask for its stage`;
const noVectors = (name: string) =>
  `The model refused the request: the gateway asks ${name} for no embeddings`;

test("the providers, and what they can do", () => {
  expect(
    Object.fromEntries(
      Object.entries(registry).map((
        [kind, { text, embeddings, jobs }],
      ) => [kind, Object.entries({ text, embeddings, jobs }).flatMap(([name, has]) => has ? [name] : [])]),
    ),
  ).toEqual({
    google: ["text", "embeddings"],
    openai: ["text", "embeddings"],
    yandexgpt: ["text"],
    gigachat: ["text"],
    speechkit: ["jobs"],
    suno: ["jobs"],
    pika: ["jobs"],
  });
});

describe.each([["speechkit", "SpeechKit"], ["suno", "Suno"], ["pika", "Pika"]])("%s", (kind, name) => {
  test("gives no answer", async () => {
    const { gateway, context, settlements, background } = withProvider(kind);
    expect(await errorOf(gateway.invoke(request, context()))).toMatchObject({
      code: "unsupported_feature",
      publicMessage: noText(name),
    });
    await Promise.all(background);
    expect(settlements).toMatchObject([{ outcome: "failed", final: true, errorCode: "unsupported_feature" }]);
  });

  test("and no stream of one", async () => {
    const { gateway, context } = withProvider(kind);
    const events = gateway.stream(request, context())[Symbol.asyncIterator]();
    expect(await events.next()).toMatchObject({ value: { type: "started" } });
    expect(await errorOf(events.next())).toMatchObject({
      code: "unsupported_feature",
      publicMessage: noText(name),
    });
  });
});

test.each([
  ["speechkit", noText("SpeechKit")],
  ["yandexgpt", noVectors("YandexGPT")],
  ["gigachat", noVectors("GigaChat")],
])("%s embeds nothing", async (kind, publicMessage) => {
  const { gateway, context } = withProvider(kind);
  const items = [{ content: { parts: [{ text: "a" }] } }];
  expect(await errorOf(gateway.embed({ ...REQUEST, models: ["an-embedding"], items }, context())))
    .toMatchObject({ code: "unsupported_feature", publicMessage });
});
