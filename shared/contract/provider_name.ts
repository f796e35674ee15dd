/** OpenTelemetry's names for providers (https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/). */
const NAMES: Readonly<Record<string, string>> = { google: "gcp.gemini", openai: "openai" };

/** What OpenTelemetry calls a provider (`gen_ai.provider.name`); one that it does not know keeps its own name. */
export function providerName(provider: string): string {
  return NAMES[provider] ?? provider;
}
