import { isPublicHost } from "../http/outgoing/public_address.ts";
import { GIGACHAT_BASE_URL } from "../providers/gigachat/provider.ts";
import { GIGACHAT_AUTH_URL } from "../providers/gigachat/token.ts";
import { OPENAI_BASE_URL } from "../providers/openai/provider.ts";
import { FAL_BASE_URL } from "../providers/pika.ts";
import { SPEECHKIT_BASE_URL } from "../providers/yandex/speechkit.ts";
import { SUNO_BASE_URL } from "../providers/suno.ts";
import { YANDEX_BASE_URL } from "../providers/yandex/yandexgpt.ts";

/** `true`: base URLs may lead into a private network, and without TLS. The local stack sets it, for servers of one's own. */
export const ALLOW_PRIVATE_VARIABLE = "EVE_ALLOW_PRIVATE_UPSTREAMS";

/** One thing that a provider's calls need beside the key. */
export interface SettingRule {
  /** The variable that holds it in the environment. */
  variable: string;
  /** Of a setting that says where calls go: where they go without it. Absent: the setting is no address. */
  ownAddress?: string;
  required: boolean;
  /** What is wrong with a value; null: nothing. */
  problem(value: string, terms: SettingTerms): string | null;
}

export interface SettingTerms {
  /** Whether a base URL may lead into a private network, and without TLS: on one's own machine. */
  allowPrivate: boolean;
}

/** What is known of a kind of provider without asking it; what it may serve is the database's to say. */
export interface ProviderDefinition {
  /** As in a key's `provider`, and among the gateway's providers. */
  provider: string;
  /** Variables that may hold its key; the first that is set does. */
  keyVariables: readonly string[];
  /** The variable that chooses the model where nobody has chosen. */
  modelVariable: string;
  /** And the model where that is not set either. */
  defaultModel: string;
  /** False: the list of models is ours, and the provider may have more. */
  listsAll: boolean;
  settings: Readonly<Record<string, SettingRule>>;
}

const address = (variable: string, ownAddress: string): SettingRule => ({
  variable,
  ownAddress,
  required: false,
  problem(value, { allowPrivate }) {
    if (!URL.canParse(value)) return "must be a URL such as https://host/v1";
    const url = new URL(value);
    if (url.username !== "" || url.password !== "") return "must not carry credentials";
    if (url.search !== "" || url.hash !== "") return "must end with its path";
    if (allowPrivate) return /^https?:$/.test(url.protocol) ? null : "must be http or https";
    if (url.protocol !== "https:") return "must be https: the key travels along";
    return isPublicHost(url.hostname) ? null : "must lead to a public host";
  },
});

const plain = (variable: string, required: boolean, form: RegExp, says: string): SettingRule => ({
  variable,
  required,
  problem: (value) => form.test(value) ? null : says,
});

const folder = (required: boolean) =>
  plain("YANDEX_FOLDER_ID", required, /^[\w-]{1,50}$/, "must be a folder's id, such as b1g...");

export const PROVIDER_DEFINITIONS: Readonly<Record<string, ProviderDefinition>> = {
  gemini: {
    provider: "google",
    keyVariables: ["GEMINI_API_KEY"],
    modelVariable: "GEMINI_MODEL",
    defaultModel: "gemini-3.5-flash",
    listsAll: true,
    settings: {},
  },
  openai: {
    provider: "openai",
    keyVariables: ["OPENAI_API_KEY"],
    modelVariable: "OPENAI_MODEL",
    defaultModel: "gpt-5-mini",
    listsAll: true,
    settings: { base_url: address("OPENAI_BASE_URL", OPENAI_BASE_URL) },
  },
  yandexgpt: {
    provider: "yandexgpt",
    keyVariables: ["YANDEX_API_KEY"],
    modelVariable: "YANDEX_MODEL",
    defaultModel: "yandexgpt-lite",
    listsAll: false,
    settings: { folder_id: folder(true), base_url: address("YANDEX_BASE_URL", YANDEX_BASE_URL) },
  },
  gigachat: {
    provider: "gigachat",
    keyVariables: ["GIGACHAT_CREDENTIALS"],
    modelVariable: "GIGACHAT_MODEL",
    defaultModel: "GigaChat-2",
    listsAll: true,
    settings: {
      scope: plain(
        "GIGACHAT_SCOPE",
        false,
        /^GIGACHAT_API_(PERS|B2B|CORP)$/,
        "must be GIGACHAT_API_PERS, GIGACHAT_API_B2B or GIGACHAT_API_CORP",
      ),
      base_url: address("GIGACHAT_BASE_URL", GIGACHAT_BASE_URL),
      auth_url: address("GIGACHAT_AUTH_URL", GIGACHAT_AUTH_URL),
    },
  },
  speechkit: {
    provider: "speechkit",
    keyVariables: ["SPEECHKIT_API_KEY", "YANDEX_API_KEY"],
    modelVariable: "SPEECHKIT_VOICE",
    defaultModel: "alena",
    listsAll: false,
    settings: { folder_id: folder(false), base_url: address("SPEECHKIT_BASE_URL", SPEECHKIT_BASE_URL) },
  },
  suno: {
    provider: "suno",
    keyVariables: ["SUNO_API_KEY"],
    modelVariable: "SUNO_MODEL",
    defaultModel: "V4_5",
    listsAll: false,
    settings: { base_url: address("SUNO_BASE_URL", SUNO_BASE_URL) },
  },
  pika: {
    provider: "pika",
    keyVariables: ["FAL_KEY"],
    modelVariable: "PIKA_MODEL",
    defaultModel: "fal-ai/pika/v2.2/text-to-video",
    listsAll: false,
    settings: { base_url: address("FAL_BASE_URL", FAL_BASE_URL) },
  },
};

/** Every variable of the environment that stages may be filled from: what a local stack hands on to its functions. */
export const STAGE_VARIABLES: readonly string[] = [
  ...new Set(
    Object.values(PROVIDER_DEFINITIONS).flatMap(({ keyVariables, modelVariable, settings }) => [
      ...keyVariables,
      modelVariable,
      ...Object.values(settings).map(({ variable }) => variable),
    ]),
  ),
].sort();
