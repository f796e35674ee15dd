/** OpenAI's API as its reference documents it, as far as the gateway uses it; it refuses what the real one refuses. */
import { bodyOf, eventStream, type Handler } from "./fake_api.ts";

export interface FakeOpenAi {
  keys: Map<string, "good" | "no_credit" | "limited" | "elsewhere">;
  models: string[];
  /** Every request that came, newest last. */
  seen: { path: string; key: string; body: Record<string, unknown> | null }[];
  /** What the next completion says; otherwise it repeats what it was told. */
  next: {
    choice?: Record<string, unknown>;
    status?: number;
    body?: unknown;
    headers?: Record<string, string>;
  }[];
  handler: Handler;
}

/** The fields of a request for a chat completion. The API refuses every other one. */
const FIELDS = new Set([
  "model",
  "messages",
  "temperature",
  "top_p",
  "max_completion_tokens",
  "max_tokens",
  "stop",
  "seed",
  "presence_penalty",
  "frequency_penalty",
  "n",
  "response_format",
  "reasoning_effort",
  "tools",
  "tool_choice",
  "stream",
  "stream_options",
]);

export function fakeOpenAi(): FakeOpenAi {
  const fake: FakeOpenAi = {
    keys: new Map([["sk-good", "good"]]),
    models: ["gpt-5-mini", "gpt-5", "text-embedding-3-small"],
    seen: [],
    next: [],
    handler: (request) => answer(fake, request),
  };
  return fake;
}

async function answer(fake: FakeOpenAi, request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  const path = pathname.replace(/^\/v1/, "");
  const key = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
  const body = request.method === "POST" ? await bodyOf(request) : null;
  fake.seen.push({ path, key, body });
  const kind = fake.keys.get(key);
  if (kind === undefined) {
    return errorResponse(
      401,
      `Incorrect API key provided: ${
        key.slice(0, 3)
      }***. You can find your API key at https://platform.openai.com/account/api-keys.`,
      "invalid_request_error",
      "invalid_api_key",
    );
  }
  if (kind === "elsewhere") {
    return errorResponse(
      403,
      "Country, region, or territory not supported",
      "request_forbidden",
      "unsupported_country_region_territory",
    );
  }
  if (path === "/models" && request.method === "GET") {
    const data = fake.models.map((id) => ({
      id,
      object: "model",
      created: 1_700_000_000,
      owned_by: "system",
    }));
    return Response.json({ object: "list", data });
  }
  if (kind === "no_credit") {
    return errorResponse(
      429,
      "You exceeded your current quota, please check your plan and billing details.",
      "insufficient_quota",
      "insufficient_quota",
    );
  }
  if (kind === "limited") {
    return errorResponse(
      429,
      `Rate limit reached for ${body?.model} on requests per min (RPM): Limit 3, Used 3, Requested 1.`,
      "requests",
      "rate_limit_exceeded",
      { "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s" },
    );
  }
  const planned = fake.next.shift();
  if (planned?.status !== undefined) {
    return Response.json(planned.body ?? {}, { status: planned.status, headers: planned.headers });
  }
  if (path === "/embeddings") return embeddings(fake, body);
  if (path !== "/chat/completions" || request.method !== "POST") {
    return errorResponse(404, `Invalid URL (${request.method} ${pathname})`, "invalid_request_error", null);
  }
  return completion(fake, body, planned?.choice);
}

function completion(
  fake: FakeOpenAi,
  // deno-lint-ignore no-explicit-any -- whatever was sent.
  body: any,
  choice: Record<string, unknown> | undefined,
): Response {
  const fault = faultOf(fake, body);
  if (fault !== null) return fault;
  const last = body.messages.at(-1);
  const asked = typeof last.content === "string"
    ? last.content
    : (last.content ?? []).map((part: { text?: string }) => part.text ?? "").join("");
  const said = choice ??
    { message: { role: "assistant", content: `You said: ${asked}`, refusal: null }, finish_reason: "stop" };
  const usage = {
    prompt_tokens: 19,
    completion_tokens: 10,
    total_tokens: 29,
    prompt_tokens_details: { cached_tokens: 4, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 3, audio_tokens: 0 },
  };
  const head = { id: "chatcmpl-123", created: 1_700_000_000, model: `${body.model}-2026-01-01` };
  if (body.stream !== true) {
    return Response.json({ ...head, object: "chat.completion", choices: [{ index: 0, ...said }], usage });
  }
  const message = said.message as { content?: string | null; tool_calls?: Record<string, unknown>[] };
  const frame = (delta: unknown, finish_reason: unknown = null) =>
    JSON.stringify({
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, finish_reason }],
      ...(body.stream_options?.include_usage && { usage: null }),
    });
  return eventStream([
    frame({ role: "assistant", content: "" }),
    ...(message.content ?? "").match(/.{1,5}/gs)?.map((content) => frame({ content })) ?? [],
    ...(message.tool_calls ?? []).flatMap((call, index) => toolCallDeltas(call, index)).map((delta) =>
      frame(delta)
    ),
    frame({}, said.finish_reason),
    ...(body.stream_options?.include_usage
      ? [JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [], usage })]
      : []),
    "[DONE]",
  ]);
}

/** A call of a tool arrives with its name first, and then its arguments in pieces. */
// deno-lint-ignore no-explicit-any -- as it was planned.
function toolCallDeltas({ id, function: called }: any, index: number): unknown[] {
  const pieces: string[] = called.arguments.match(/.{1,4}/gs) ?? [];
  return [
    { tool_calls: [{ index, id, type: "function", function: { name: called.name, arguments: "" } }] },
    ...pieces.map((text) => ({ tool_calls: [{ index, function: { arguments: text } }] })),
  ];
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function faultOf(fake: FakeOpenAi, body: any): Response | null {
  const invalid = (message: string, code: string | null = null) =>
    errorResponse(400, message, "invalid_request_error", code);
  if (body === null) return invalid("We could not parse the JSON body of your request.");
  const unknown = Object.keys(body).find((field) => !FIELDS.has(field));
  if (unknown !== undefined) {
    return invalid(`Unrecognized request argument supplied: ${unknown}`, "unknown_parameter");
  }
  if (!fake.models.includes(body.model)) {
    return errorResponse(
      404,
      `The model \`${body.model}\` does not exist or you do not have access to it.`,
      "invalid_request_error",
      "model_not_found",
    );
  }
  if (body.temperature !== undefined && !(body.temperature >= 0 && body.temperature <= 2)) {
    return invalid("Invalid value for 'temperature': must be between 0 and 2.", "decimal_above_max_value");
  }
  if (
    body.response_format?.type === "json_schema" &&
    !/^[\w-]{1,64}$/.test(body.response_format.json_schema?.name)
  ) {
    return invalid(
      "Missing required parameter: 'response_format.json_schema.name'.",
      "missing_required_parameter",
    );
  }
  for (const tool of body.tools ?? []) {
    if (tool.type !== "function" || !/^[\w-]{1,64}$/.test(tool.function?.name)) {
      return invalid("Invalid 'tools[0].function.name': string does not match pattern.", "invalid_value");
    }
    const type = tool.function.parameters?.type;
    if (type !== undefined && type !== "object") {
      return invalid(
        `Invalid schema for function '${tool.function.name}': schema must be a JSON Schema of 'type: "object"', got 'type: "${type}"'.`,
        "invalid_function_parameters",
      );
    }
  }
  if (!Array.isArray(body.messages) || body.messages.length === 0) {
    return invalid(
      "Invalid 'messages': empty array. Expected an array with minimum length 1.",
      "empty_array",
    );
  }
  let open = new Set<string>();
  for (const message of body.messages) {
    if (message.role === "tool") {
      if (!open.delete(message.tool_call_id)) {
        return invalid(
          "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
        );
      }
      continue;
    }
    if (open.size > 0) {
      return invalid(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
      );
    }
    if (!["system", "developer", "user", "assistant"].includes(message.role)) {
      return invalid(`Invalid value: '${message.role}'.`, "invalid_value");
    }
    if (message.role !== "assistant" && message.content == null) {
      return invalid("Invalid value for 'content': expected a string, got null.");
    }
    open = new Set((message.tool_calls ?? []).map(({ id }: { id: string }) => id));
  }
  return null;
}

// deno-lint-ignore no-explicit-any -- whatever was sent.
function embeddings(fake: FakeOpenAi, body: any): Response {
  if (!fake.models.includes(body?.model)) {
    return errorResponse(
      404,
      `The model \`${body?.model}\` does not exist.`,
      "invalid_request_error",
      "model_not_found",
    );
  }
  return Response.json({
    object: "list",
    data: [{ object: "embedding", index: 0, embedding: [0.1, -0.2, 0.3] }],
    model: body.model,
    usage: { prompt_tokens: 5, total_tokens: 5 },
  });
}

function errorResponse(
  status: number,
  message: string,
  type: string,
  code: string | null,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ error: { message, type, param: null, code } }, { status, headers });
}
