/** What the environment says about the local stack. Every name is in docs/settings.md. */
import { STAGE_VARIABLES } from "../shared/stages/provider_definitions.ts";
import { storedSecrets } from "./stored_secrets.ts";
import { CHECKOUT } from "./paths.ts";
import { StartError } from "./start_error.ts";
import { DEFAULT_PORT, type StackOptions } from "./stack.ts";

/** The three ports in a row must all exist. */
const HIGHEST_PORT = 65_533;

/** Variables that functions see: keys of Google's, the user's own included, where files are kept, and the gateway's settings. */
const FUNCTION_VARIABLES = /^(GOOGLE_API_KEY|EVE_|S3_|MAX_FILE_SIZE_MB$)/;
/** What fills stages that nobody has set up, and opens the keys of those that somebody has. */
const forStages = ["ADMIN_SECRET_KEY", "GIGACHAT_CA_CERT", ...STAGE_VARIABLES];
/** What looks at pictures, and reads them. */
const FOR_VISION = ["GIGACHAT_VISION_MODEL", "YANDEX_OCR_API_KEY", "YANDEX_OCR_BASE_URL"];
/** Where its copy goes. */
const FOR_GRAPH = ["NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD", "NEO4J_DATABASE"];
/** They are about the stack, not about the gateway. */
const STACK_VARIABLES = ["EVE_PORT", "EVE_DATA_DIR"];

/** EVE_DATA_DIR as an absolute path, or the checkout's `.local`. */
export function dataDirFromEnvironment(): string {
  const path = Deno.env.get("EVE_DATA_DIR");
  if (!path) return `${CHECKOUT}/.local`;
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

/** Names of secrets that were set with `keys set`, and of which the environment has others: those are used. */
export function overriddenSecrets(): string[] {
  return Object.entries(storedSecrets(dataDirFromEnvironment()))
    .filter(([name, kept]) => (Deno.env.get(name) ?? kept) !== kept)
    .map(([name]) => name);
}

/**
 * Reads the variables, and those that `keys set` has kept where the environment has none. Throws {@link StartError} for one
 * that makes no sense.
 */
export function settingsFromEnvironment(): StackOptions {
  const kept = storedSecrets(dataDirFromEnvironment());
  const variables: Record<string, string> = { ...kept, ...Deno.env.toObject() };
  const secret = variables.GOOGLE_API_KEY;
  const alias = variables.GOOGLE_API_LOCALNAME || "local";
  const baseUrl = variables.GOOGLE_API_BASE_URL;
  if (baseUrl && !URL.canParse(baseUrl)) {
    throw new StartError(
      `GOOGLE_API_BASE_URL is not a URL: ${baseUrl}. Give it as https://host, or unset it.`,
    );
  }
  return {
    dataDir: dataDirFromEnvironment(),
    port: port(variables.EVE_PORT),
    googleApiKey: secret ? { secret, alias } : undefined,
    googleApiBaseUrl: baseUrl?.replace(/\/+$/, "") || undefined,
    env: Object.fromEntries(
      Object.entries(variables).filter(([name]) =>
        (FUNCTION_VARIABLES.test(name) && !STACK_VARIABLES.includes(name)) || forStages.includes(name) ||
        FOR_VISION.includes(name) || FOR_GRAPH.includes(name) || name in kept
      ),
    ),
  };
}

function port(text: string | undefined): number {
  if (!text) return DEFAULT_PORT;
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= HIGHEST_PORT) return number;
  throw new StartError(
    `EVE_PORT is not a port: ${text}. Give a number from 1 to ${HIGHEST_PORT}, e.g. 54321.`,
  );
}
