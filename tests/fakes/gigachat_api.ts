/** GigaChat's API and its OAuth server as Sber's reference documents them; they refuse what the real ones refuse. */
import { bodyOf, eventStream, type Handler } from "./fake_api.ts";

export interface FakeGigachat {
  /** Authorisation keys, and the scope that each is for. */
  credentials: Map<string, string>;
  models: string[];
  /** How long a token lives, in ms. */
  tokenLifeMs: number;
  /** Milliseconds since 1970. */
  now: () => number;
  tokensIssued: number;
  /** Tokens that are refused though they have not ended. */
  revoked: Set<string>;
  limited: boolean;
  seen: Record<string, unknown>[];
  next: Record<string, unknown>[];
  handler: Handler;
}

const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;
const ROLES = ["system", "user", "assistant", "function"];

export function fakeGigachat(): FakeGigachat {
  const tokens = new Map<string, number>();
  const fake: FakeGigachat = {
    credentials: new Map([["Z2lnYTpjaGF0", "GIGACHAT_API_PERS"]]),
    models: ["GigaChat-2", "GigaChat-2-Pro", "Embeddings"],
    tokenLifeMs: 1_800_000,
    now: Date.now,
    tokensIssued: 0,
    revoked: new Set(),
    limited: false,
    seen: [],
    next: [],
    handler: async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/api/v2/oauth") return await oauth(request);
      const token = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
      const endsAt = tokens.get(token);
      if (endsAt === undefined || endsAt <= fake.now() || fake.revoked.has(token)) {
        return Response.json({ status: 401, message: "Token has expired" }, { status: 401 });
      }
      if (pathname === "/api/v1/models") {
        const data = fake.models.map((id) => ({ id, object: "model", owned_by: "salutedevices" }));
        return Response.json({ object: "list", data });
      }
      if (fake.limited) {
        return Response.json({ status: 429, message: "Too many requests" }, { status: 429 });
      }
      if (pathname === "/api/v1/chat/completions" && request.method === "POST") {
        return completion(fake, await bodyOf(request));
      }
      return Response.json({ status: 404, message: "Not Found" }, { status: 404 });
    },
  };

  async function oauth(request: Request): Promise<Response> {
    const errorResponse = (status: number, code: number, message: string) =>
      Response.json({ code, message }, { status });
    if (!UUID4.test(request.headers.get("rquid") ?? "")) {
      return errorResponse(400, 1, "RqUID header is not valid");
    }
    const credentials = /^Basic (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
    if (credentials === undefined || !/^[\w+/-]+=*$/.test(credentials)) {
      return errorResponse(400, 4, "Can't decode 'Authorization' header");
    }
    const scope = fake.credentials.get(credentials);
    if (scope === undefined) return errorResponse(401, 6, "credentials doesn't match db data");
    const asked = new URLSearchParams(await request.text()).get("scope");
    if (asked === null || asked === "") return errorResponse(400, 5, "scope is empty");
    if (asked !== scope) return errorResponse(400, 7, "scope from db not fully includes consumed scope");
    fake.tokensIssued++;
    const token = `eyJ.token-${fake.tokensIssued}`;
    const endsAt = fake.now() + fake.tokenLifeMs;
    tokens.set(token, endsAt);
    return Response.json({ access_token: token, expires_at: endsAt });
  }
  return fake;
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function completion(fake: FakeGigachat, body: any): Response {
  const invalid = (message: string, status = 422) => Response.json({ status, message }, { status });
  if (body === null) return invalid("Bad request", 400);
  fake.seen.push(body);
  if (!fake.models.includes(body.model)) return invalid("No such model", 404);
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    return invalid("Invalid params: messages must not be empty");
  }
  for (const [place, message] of body.messages.entries()) {
    if (!ROLES.includes(message.role)) return invalid(`Invalid params: unknown role ${message.role}`);
    if (message.role === "system" && place > 0) {
      return invalid("Invalid params: system message must be the first message");
    }
    if (typeof message.content !== "string") return invalid("Invalid params: content must be a string");
    if (message.role === "function") {
      try {
        JSON.parse(message.content);
      } catch {
        return invalid("Invalid params: function result is not valid json");
      }
      if (body.messages[place - 1]?.function_call === undefined) {
        return invalid("Invalid params: function result without function call");
      }
    }
  }
  if ("tools" in body || "response_format" in body) return invalid("Invalid params: unknown field");
  const usage = { prompt_tokens: 21, completion_tokens: 8, total_tokens: 29, precached_prompt_tokens: 0 };
  const choice = fake.next.shift() ??
    {
      message: { role: "assistant", content: `Вы сказали: ${body.messages.at(-1).content}` },
      finish_reason: "stop",
    };
  const head = { created: 1_760_000_000, model: `${body.model}:2.0.28.2` };
  if (body.stream !== true) {
    return Response.json({ ...head, object: "chat.completion", choices: [{ index: 0, ...choice }], usage });
  }
  const { content, ...rest } = choice.message as { content: string };
  const pieces = content.match(/.{1,6}/gs) ?? [""];
  return eventStream([
    ...pieces.map((piece) =>
      JSON.stringify({
        ...head,
        object: "chat.completion",
        choices: [{ index: 0, delta: { content: piece, role: "assistant" } }],
      })
    ),
    JSON.stringify({
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, delta: { ...rest, content: "" }, finish_reason: choice.finish_reason }],
      usage,
    }),
    "[DONE]",
  ]);
}
