import { type KeyInquiry, type KeyInspector, MAX_LISTED_MODELS } from "../key_inspector.ts";
import { connectionFailed, recordsIn } from "../upstream.ts";
import { type GoogleDestination, jsonFromGoogle } from "./fetch.ts";

/** The longest page that Google gives. */
const PAGE_SIZE = 1_000;
/** Google names models so. */
const PREFIX = "models/";

/**
 * Asks Google about keys through its list of models, which is free of charge and counts against no limit of a model. A key
 * without credits passes it: only a call would show.
 */
export function googleKeyInspector(
  { baseUrl, fetch }: Pick<GoogleDestination, "baseUrl" | "fetch"> = {},
): KeyInspector {
  const page = ({ secret, signal }: KeyInquiry, query: Record<string, string>) =>
    jsonFromGoogle({ baseUrl, fetch, path: `models?${new URLSearchParams(query)}`, secret, signal });
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
