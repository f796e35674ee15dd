/** Other addresses and other names of what is served. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalPath } from "../../../shared/endpoints/aliases.ts";
import { anthropicEndpoint } from "../../../shared/endpoints/anthropic/endpoint.ts";
import { geminiEndpoint } from "../../../shared/endpoints/gemini/endpoint.ts";
import { geminiRoute } from "../../../shared/endpoints/gemini/route.ts";
import { modelNamed, plainModel, withPlainNames } from "../../../shared/endpoints/model_name.ts";
import { openaiEndpoint } from "../../../shared/endpoints/openai/endpoint.ts";
import { systemClock } from "../../../shared/runtime/clock.ts";
import { modelsAlone, testRouter } from "./router_fixture.ts";

const OPENAI = { "x-stainless-lang": "python", "authorization": "Bearer x" };
const ANTHROPIC = { "anthropic-version": "2023-06-01" };
const GOOGLE = { "x-goog-api-key": "x", "x-stainless-lang": "js" };

/** Where a request is served that goes to another address. */
const ALIASES: [string, string, ("GET" | "POST")?, Record<string, string>?][] = [
  ["/v1beta/openai/chat/completions", "/openai/v1/chat/completions"],
  ["/v1beta/openai/models/gemini-3.5-flash", "/openai/v1/models/gemini-3.5-flash"],
  ["/v1alpha/openai/embeddings", "/openai/v1/embeddings"],
  ["/v1/openai/responses", "/openai/v1/responses"],
  ["/v1/chat/completions", "/openai/v1/chat/completions"],
  ["/chat/completions", "/openai/v1/chat/completions"],
  ["/openai/chat/completions", "/openai/v1/chat/completions"],
  ["/openai/v1/v1/chat/completions", "/openai/v1/chat/completions"],
  ["/v1/responses/resp_1/cancel", "/openai/v1/responses/resp_1/cancel"],
  ["/v1/uploads/upload_1/parts", "/openai/v1/uploads/upload_1/parts"],
  ["/openai/models", "/openai/v1/models"],
  ["/models", "/openai/v1/models"],
  ["/files/file-1/content", "/openai/v1/files/file-1/content"],
  ["/v1/models", "/openai/v1/models", "GET", OPENAI],
  ["/v1/files", "/openai/v1/files", "GET", OPENAI],
  ["/v1/files", "/openai/v1/files", "POST"],
  ["/v1/batches", "/openai/v1/batches", "POST"],
  ["/v1/batches/batch_1/cancel", "/openai/v1/batches/batch_1/cancel", "POST"],
  ["/anthropic/messages", "/anthropic/v1/messages"],
  ["/anthropic/v1/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens"],
  ["/v1/messages", "/anthropic/v1/messages"],
  ["/messages/batches/msgbatch_1", "/anthropic/v1/messages/batches/msgbatch_1"],
  ["/v1/models", "/anthropic/v1/models", "GET", ANTHROPIC],
  ["/v1/models/gemma", "/anthropic/v1/models/gemma", "GET", { ...OPENAI, ...ANTHROPIC }],
  ["/v1alpha/models/gemma:generateContent", "/v1beta/models/gemma:generateContent"],
  ["/upload/v1alpha/files", "/upload/v1beta/files"],
];

/** Addresses that are their own. */
const OWN: typeof ALIASES = [
  "/",
  "/jobs",
  "/jobs/1/content",
  "/openai/v1/chat/completions",
  "/openai/v2/chat",
  "/anthropic/v1/messages",
  "/v1/models",
  "/v1/models/gemma:generateContent",
  "/v1beta/models",
  "/v1beta/files/1",
  "/upload/v1/files",
  "/chat",
  "/v1/chat/completionsx",
  "/v1betax/openai/models",
].map((path) => [path, path]);
OWN.push(["/v1/models", "/v1/models", "GET", GOOGLE], ["/v1/files", "/v1/files", "GET"]);
OWN.push(["/v1/models/gemma:countTokens", "/v1/models/gemma:countTokens", "POST", {
  ...OPENAI,
  ...ANTHROPIC,
}]);
OWN.push(["/v1/models/gemma:generateContent", "/v1/models/gemma:generateContent", "POST"]);

const at = (path: string, method = "GET", headers: Record<string, string> = {}) =>
  canonicalPath(path, new Request(`http://gateway/llm-invoke${path}`, { method, headers }));

describe("addresses", () => {
  test.each([...ALIASES, ...OWN])("%s is %s %s", (path, canonical, method, headers) => {
    expect(at(path, method, headers)).toBe(canonical);
  });

  test("lead to the same place however often they are looked up, and no segment of a path is lost", () => {
    const segment = fc.constantFrom(
      ...["v1", "v1beta", "v1alpha", "openai", "anthropic", "models", "files", "batches", "messages", "chat"],
      ...["completions", "upload", "jobs", "gemma:generateContent", "x"],
    );
    const headers = fc.constantFrom({}, OPENAI, ANTHROPIC, GOOGLE);
    fc.assert(fc.property(fc.array(segment, { maxLength: 6 }), headers, fc.boolean(), (path, sent, posts) => {
      const [asked, method] = [`/${path.join("/")}`, posts ? "POST" : "GET"];
      const once = at(asked, method, sent);
      expect(at(once, method, sent)).toBe(once);
      const named = (text: string) =>
        text.split("/").filter((part) => !/^(v1|v1beta|v1alpha|openai|anthropic)?$/.test(part));
      expect(named(once)).toEqual(named(asked));
    }));
  });

  test("each is answered by its endpoint, to strangers too", async () => {
    const terms = { maxWaitMs: 1, clock: systemClock, fetch, now: () => 0, newId: () => "id" };
    const endpoints = [geminiEndpoint({ maxWaitMs: 1 }), openaiEndpoint(terms), anthropicEndpoint(terms)];
    const { receive, logged } = testRouter(undefined, { endpoints });
    for (const [path, canonical, method = "PUT", headers = {}] of ALIASES) {
      await (await receive(new Request(`http://gateway/llm-invoke${path}`, { method, headers }))).text();
      const endpoint = canonical.startsWith("/v1beta") || canonical.startsWith("/upload")
        ? "gemini"
        : canonical.split("/")[1];
      expect.soft(logged.at(-1)![1]["eve.endpoint"], path).toBe(endpoint);
    }
  });
});

describe("names of models", () => {
  const CALLER = { kind: "project", consumerId: null, tokenId: null, name: "default" } as const;
  const KNOWN = [{ model: "gemma-4" }, { model: "google/gemma-3" }, { model: "gemma-3" }];

  test.each([
    ["gemma-4", "gemma-4"],
    ["models/gemma-4", "gemma-4"],
    ["google/gemma-4", "gemma-4"],
    ["gemini/gemma-4", "gemma-4"],
    ["models/google/gemma-4", "gemma-4"],
    // A provider's own name, which has a row.
    ["google/gemma-3", "google/gemma-3"],
    ["openai/gpt", "openai/gpt"],
    ["google/unheard-of", "unheard-of"],
  ])("%s is %s", async (asked, served) => {
    const resolve = withPlainNames(modelsAlone, () => Promise.resolve(KNOWN));
    expect((await resolve({ kind: "models", models: [asked] }, CALLER)).models).toEqual([served]);
    if (KNOWN.some(({ model }) => model === served)) expect(modelNamed(KNOWN, asked)?.model).toBe(served);
  });

  test("without anything before them cost no look at the database", async () => {
    const resolve = withPlainNames(modelsAlone, () => expect.unreachable());
    expect((await resolve({ kind: "models", models: ["a", "openai/b"] }, CALLER)).models).toEqual([
      "a",
      "openai/b",
    ]);
  });

  test("may stand so in Gemini's addresses, too", () => {
    const route = { kind: "call", model: "google/gemma-4", method: "generateContent" };
    expect(geminiRoute("/v1beta/models/google/gemma-4:generateContent")).toEqual(route);
    expect(geminiRoute("/v1beta/models/other/gemma-4:generateContent")).toEqual({ kind: "unknown" });
    expect(plainModel("gemini-3")).toBe("gemini-3");
  });
});
