/** Yandex Cloud's Foundation Models API as its reference documents it; it refuses what the real one refuses. */
import { bodyOf, type Handler } from "./fake_api.ts";

export interface FakeYandex {
  /** API keys, and the folder that each may use. */
  keys: Map<string, string>;
  /** Names with their versions. Null: the folder has no list. */
  models: string[] | null;
  limited: boolean;
  seen: { path: string; folder: string | null; body: Record<string, unknown> | null }[];
  next: Record<string, unknown>[];
  handler: Handler;
}

export function fakeYandex(): FakeYandex {
  const fake: FakeYandex = {
    keys: new Map([["AQVN-good", "b1gfolder"]]),
    models: ["yandexgpt-lite/latest", "yandexgpt/latest", "yandexgpt/rc"],
    limited: false,
    seen: [],
    next: [],
    handler: (request) => answer(fake, request),
  };
  return fake;
}

function errorResponse(httpCode: number, grpcCode: number, message: string): Response {
  const httpStatus = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
  }[httpCode];
  return Response.json({ error: { grpcCode, httpCode, message, httpStatus, details: [] } }, {
    status: httpCode,
  });
}

async function answer(fake: FakeYandex, request: Request): Promise<Response> {
  const { pathname: path } = new URL(request.url);
  const key = /^Api-Key (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const body = request.method === "POST" ? await bodyOf(request) : null;
  const folder = request.headers.get("x-folder-id");
  fake.seen.push({ path, folder, body });
  const own = fake.keys.get(key);
  if (own === undefined) return errorResponse(401, 16, "Unknown api key 'AQVN****'");
  if (folder !== null && folder !== own) {
    return errorResponse(
      403,
      7,
      `Specified folder ID '${folder}' does not match with service account folder ID '${own}'`,
    );
  }
  if (path === "/v1/models") {
    if (fake.models === null) return errorResponse(404, 5, "Not Found");
    const data = [...fake.models.map((name) => `gpt://${own}/${name}`), `emb://${own}/text-search-doc/latest`]
      .map((id) => ({ id, object: "model", created: 0, owned_by: "yandex" }));
    return Response.json({ object: "list", data });
  }
  if (fake.limited) {
    return errorResponse(
      429,
      8,
      "ai.textGenerationCompletionSessionsCount.count gen folder quota limit exceed",
    );
  }
  const fault = faultOf(fake, own, body);
  if (path === "/foundationModels/v1/tokenizeCompletion") {
    return fault ??
      Response.json({ tokens: [{ id: "1", text: "?", special: false }], modelVersion: "23.10.2024" });
  }
  if (path !== "/foundationModels/v1/completion") return errorResponse(404, 5, "Not Found");
  return fault ?? completion(fake, body);
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function faultOf(fake: FakeYandex, folder: string, body: any): Response | null {
  if (body === null) return errorResponse(400, 3, "Error in request body");
  const [, uriFolder, name] = /^gpt:\/\/([^/]+)\/(.+)$/.exec(String(body.modelUri)) ?? [];
  if (uriFolder === undefined) return errorResponse(400, 3, "Invalid model_uri");
  if (uriFolder !== folder) {
    return errorResponse(
      403,
      7,
      `Specified folder ID '${uriFolder}' does not match with service account folder ID '${folder}'`,
    );
  }
  if (!(fake.models ?? ["yandexgpt-lite/latest"]).includes(name!)) {
    return errorResponse(400, 3, `Failed to get model: gpt://${uriFolder}/${name}`);
  }
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    return errorResponse(400, 3, "empty message text");
  }
  const { temperature, maxTokens } = body.completionOptions ?? {};
  if (temperature !== undefined && !(temperature >= 0 && temperature <= 1)) {
    return errorResponse(400, 3, `invalid temperature: ${temperature}`);
  }
  if (maxTokens !== undefined && typeof maxTokens !== "string" && typeof maxTokens !== "number") {
    return errorResponse(400, 3, "invalid max_tokens");
  }
  for (const message of body.messages) {
    if (!["system", "user", "assistant"].includes(message.role)) {
      return errorResponse(400, 3, `invalid role: ${message.role}`);
    }
    const contents = ["text", "toolCallList", "toolResultList"].filter((field) =>
      message[field] !== undefined
    );
    if (contents.length !== 1 || message.text === "") return errorResponse(400, 3, "empty message text");
  }
  return null;
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function completion(fake: FakeYandex, body: any): Response {
  const asked = body.messages.at(-1).text ?? "?";
  const last = fake.next.shift() ??
    { message: { role: "assistant", text: `Вы сказали: ${asked}` }, status: "ALTERNATIVE_STATUS_FINAL" };
  const usage = {
    inputTextTokens: "17",
    completionTokens: "9",
    totalTokens: "26",
    completionTokensDetails: { reasoningTokens: "0" },
  };
  const result = (alternative: unknown) => ({
    result: { alternatives: [alternative], usage, modelVersion: "23.10.2024" },
  });
  if (body.completionOptions?.stream !== true) return Response.json(result(last));
  const { text = "" } = last.message as { text?: string };
  const pieces = text.match(/.{1,7}/gs) ?? [];
  const lines = pieces.slice(0, -1).map((_, place) =>
    result({
      message: { role: "assistant", text: pieces.slice(0, place + 1).join("") },
      status: "ALTERNATIVE_STATUS_PARTIAL",
    })
  );
  const whole = [...lines, result(last)].map((line) => `${JSON.stringify(line)}\n`).join("");
  return new Response(whole, { headers: { "content-type": "application/json" } });
}
