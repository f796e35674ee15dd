import type { ReadVariable } from "../runtime/settings.ts";
import { gigachatProvider } from "./gigachat/provider.ts";
import { googleProvider } from "./google/provider.ts";
import { googleKeyInspector } from "./google/keys.ts";
import type { KeyInspector } from "./key_inspector.ts";
import { openaiProvider } from "./openai/provider.ts";
import { pikaProvider } from "./pika.ts";
import type { Provider } from "./provider.ts";
import { speechKitProvider } from "./yandex/speechkit.ts";
import { sunoProvider } from "./suno.ts";
import { type CreateClient, trustingFetch } from "./trusting_fetch.ts";
import type { Log } from "../runtime/log.ts";
import { yandexGptProvider } from "./yandex/yandexgpt.ts";

/** PEM text of the root certificates that GigaChat's servers use. */
export const GIGACHAT_ROOTS_VARIABLE = "GIGACHAT_CA_CERT";

export type ProviderName = "google" | "openai" | "yandexgpt" | "gigachat" | "speechkit" | "suno" | "pika";

export interface RegistryOptions {
  /** Where Google's API is; undefined: at Google. */
  googleBaseUrl: string | undefined;
  /** Reads one variable of the environment. */
  read: ReadVariable;
  /** `Deno.createHttpClient`. */
  createClient: CreateClient;
  /** Absent: nothing is said of pictures that were left at a provider. */
  log?: Log;
}

/**
 * Every provider that this version knows, by the name in a key's `provider`. What the environment says of them is where they
 * are and what their calls need; a stage's own settings go before it.
 */
export function providerRegistry(
  { googleBaseUrl, read, createClient, log }: RegistryOptions,
): Record<ProviderName, Provider & KeyInspector> {
  const value = (name: string) => read(name)?.trim() || undefined;
  const google = { baseUrl: googleBaseUrl };
  return {
    google: { ...googleProvider(google), ...googleKeyInspector(google) },
    openai: openaiProvider({ baseUrl: value("OPENAI_BASE_URL") }),
    yandexgpt: yandexGptProvider({
      baseUrl: value("YANDEX_BASE_URL"),
      folderId: value("YANDEX_FOLDER_ID"),
    }),
    gigachat: gigachatProvider({
      baseUrl: value("GIGACHAT_BASE_URL"),
      authUrl: value("GIGACHAT_AUTH_URL"),
      scope: value("GIGACHAT_SCOPE"),
      fetch: trustingFetch(value(GIGACHAT_ROOTS_VARIABLE), createClient),
      onLeftBehind: (files, detail) =>
        log?.("warn", "files_left_at_provider", { provider: "gigachat", files, detail }),
    }),
    speechkit: speechKitProvider({ baseUrl: value("SPEECHKIT_BASE_URL") }),
    suno: sunoProvider({ baseUrl: value("SUNO_BASE_URL") }),
    pika: pikaProvider({ baseUrl: value("FAL_BASE_URL") }),
  };
}
