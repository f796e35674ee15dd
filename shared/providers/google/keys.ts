import { GOOGLE_ERROR_MAPPING } from "./failure.ts";
import { GOOGLE_ORIGIN } from "./fetch.ts";
import type { GoogleOptions } from "./provider.ts";
import { type KeyInquiry, type KeyInspector, MAX_LISTED_MODELS } from "../key_inspector.ts";
import { connectionFailed, jsonFromUpstream, recordsIn } from "../upstream.ts";

/** The longest page that Google gives. */
const PAGE_SIZE = 1_000;
/** Google names models so. */
const PREFIX = "models/";

/**
 * Asks Google about keys through its list of models, which is free of charge and counts against no limit of a model. A key
 * without credits passes it: only a call would show.
 */
export function googleKeyInspector(options: GoogleOptions & { fetch?: typeof fetch } = {}): KeyInspector {
  const page = async ({ secret, signal }: KeyInquiry, query: Record<string, string>) => {
    const url = `${options.baseUrl ?? GOOGLE_ORIGIN}/v1beta/models?${new URLSearchParams(query)}`;
    return await jsonFromUpstream({
      url,
      headers: { "x-goog-api-key": secret },
      secret,
      signal,
      // Read when it is needed, not before: a test, or a wrapper, may have replaced it.
      fetch: options.fetch ?? fetch,
      errorMapping: GOOGLE_ERROR_MAPPING,
    });
  };
  return {
    async checkKey(inquiry) {
      await page(inquiry, { pageSize: "1" });
    },
    async listModels(inquiry) {
      const models = new Set<string>();
      let pageToken = "";
      do {
        const answer = await page(inquiry, { pageSize: String(PAGE_SIZE), ...(pageToken && { pageToken }) });
        const names = recordsIn(answer.models).map((model) => model.name).filter(isName);
        if (names.length === 0) throw connectionFailed("a list without models", inquiry.secret);
        for (const name of names) models.add(name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name);
        pageToken = typeof answer.nextPageToken === "string" ? answer.nextPageToken : "";
      } while (pageToken !== "" && models.size < MAX_LISTED_MODELS);
      return [...models].slice(0, MAX_LISTED_MODELS);
    },
  };
}

const isName = (name: unknown): name is string => typeof name === "string" && name !== "";
