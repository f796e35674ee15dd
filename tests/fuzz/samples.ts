/** Requests and answers as they should be, with as many fields as there are: what is spoilt starts here. */

const SCHEMA = {
  type: "object",
  properties: {
    title: { type: "string", pattern: "^\\w+$", minLength: 1 },
    when: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }] },
    tags: { type: "array", items: { $ref: "#/$defs/tag" }, maxItems: 3, uniqueItems: true },
    price: { type: "number", minimum: 0, multipleOf: 0.5 },
  },
  required: ["title"],
  additionalProperties: false,
  $defs: { tag: { enum: ["a", "b"] } },
};
const GEMINI_SCHEMA = {
  type: "OBJECT",
  properties: { title: { type: "STRING", nullable: true }, room: { type: "INTEGER", enum: ["1", "2"] } },
  propertyOrdering: ["title"],
};
const MODEL = "gemma-4-31b-it";
const PNG = "iVBORw0KGgo=";
const DECLARATION = { name: "find", description: "Finds.", parameters: SCHEMA };

export const NATIVE = [
  { model: MODEL, prompt: "Hello" },
  { model: [MODEL, "other"], prompt: "Hello", response_schema: SCHEMA, schema_repair: true, mode: "no_wait" },
  {
    model: MODEL,
    messages: [{ role: "system", content: "Be brief." }, {
      role: "user",
      content: [{ text: "Hello" }, { inline_data: { mime_type: "image/png", data: PNG } }],
    }],
    generation: {
      temperature: 0.5,
      top_p: 0.9,
      top_k: 3,
      max_output_tokens: 9,
      stop: ["#"],
      seed: 1,
      thinking_level: "LOW",
      responseJsonSchema: SCHEMA,
    },
    tools: [{ functionDeclarations: [DECLARATION] }],
    tool_config: { functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["find"] } },
    max_wait_ms: 100,
    class: "batch",
    request_id: "id-1",
    capture: true,
    metadata: { a: 1 },
  },
  {
    model: MODEL,
    contents: [{ role: "user", parts: [{ text: "Hello" }] }],
    system: "Be brief.",
    stream: true,
  },
  { stage: "POEM", prompt: "Hello" },
];

export const CHAT = [
  { model: MODEL, messages: [{ role: "user", content: "Hello" }] },
  {
    model: MODEL,
    messages: [
      { role: "developer", content: "Be brief." },
      {
        role: "user",
        name: "ann",
        content: [{ type: "text", text: "Hello" }, {
          type: "image_url",
          image_url: { url: `data:image/png;base64,${PNG}`, detail: "low" },
        }, { type: "image_url", image_url: { url: "https://example.com/a.png" } }],
      },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ id: "call_1", type: "function", function: { name: "find", arguments: '{"a":1}' } }],
      },
      { role: "tool", tool_call_id: "call_1", content: "{}" },
    ],
    tools: [{ type: "function", function: { ...DECLARATION, strict: true } }],
    tool_choice: { type: "function", function: { name: "find" } },
    parallel_tool_calls: false,
    response_format: { type: "json_schema", json_schema: { name: "event", strict: true, schema: SCHEMA } },
    temperature: 1,
    top_p: 1,
    n: 1,
    stop: "#",
    seed: 1,
    max_completion_tokens: 9,
    reasoning_effort: "low",
    user: "u",
    metadata: { a: "b" },
  },
  {
    model: MODEL,
    messages: [{ role: "user", content: "Hello" }],
    stream: true,
    stream_options: { include_usage: true },
    response_format: { type: "json_object" },
    extra_body: { google: { thinking_config: { thinking_budget: 1, include_thoughts: true } } },
  },
];

export const RESPONSES = [
  { model: MODEL, input: "Hello" },
  {
    model: MODEL,
    instructions: "Be brief.",
    input: [
      {
        role: "user",
        content: [{ type: "input_text", text: "Hello" }, {
          type: "input_image",
          image_url: `data:image/png;base64,${PNG}`,
        }],
      },
      { type: "function_call", call_id: "c", name: "find", arguments: "{}" },
      { type: "function_call_output", call_id: "c", output: "{}" },
      { type: "reasoning", id: "r" },
    ],
    tools: [{ type: "function", ...DECLARATION, strict: true }],
    tool_choice: "auto",
    text: { format: { type: "json_schema", name: "event", strict: true, schema: SCHEMA } },
    reasoning: { effort: "low" },
    max_output_tokens: 9,
    store: false,
  },
  { model: MODEL, input: "Hello", stream: true },
];

export const MESSAGES = [
  { model: MODEL, max_tokens: 9, messages: [{ role: "user", content: "Hello" }] },
  {
    model: MODEL,
    max_tokens: 9_000,
    system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "Hello" },
          {
            type: "image",
            source: { type: "base64", media_type: "image/png", data: PNG },
          },
          { type: "image", source: { type: "url", url: "https://example.com/a.png" } },
          {
            type: "document",
            title: "Programme",
            source: { type: "content", content: [{ type: "text", text: "Noon" }] },
          },
        ],
      },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "Hm", signature: "eve_AAAA" },
          { type: "tool_use", id: "toolu_1", name: "find", input: { a: 1 } },
        ],
      },
      {
        role: "user",
        content: [{
          type: "tool_result",
          tool_use_id: "toolu_1",
          is_error: true,
          content: [{ type: "text", text: "{}" }],
        }],
      },
    ],
    tools: [{ name: "find", description: "Finds.", input_schema: SCHEMA, strict: true }],
    tool_choice: { type: "tool", name: "find", disable_parallel_tool_use: true },
    thinking: { type: "enabled", budget_tokens: 1_024 },
    output_config: { effort: "low", format: { type: "json_schema", schema: SCHEMA } },
    metadata: { user_id: "u" },
    stop_sequences: ["#"],
  },
  { model: MODEL, max_tokens: 9, messages: [{ role: "user", content: "Hello" }], stream: true },
];

export const OPENAI_EMBEDDINGS = [
  { model: "gemini-embedding-001", input: "Hello", encoding_format: "base64", dimensions: 8 },
  { model: "gemini-embedding-001", input: ["a", "b"], user: "u" },
];

const CONTENTS = [{
  role: "user",
  parts: [{ text: "Hello" }, { inlineData: { mimeType: "image/png", data: PNG } }],
}];
export const GENERATE = [
  { contents: CONTENTS },
  {
    contents: { role: "user", parts: { text: "Hello" } },
    system_instruction: { parts: [{ text: "Be brief." }] },
    tools: { function_declarations: [DECLARATION] },
    tool_config: { function_calling_config: { mode: "ANY" } },
    safety_settings: [{ category: "HARM_CATEGORY_HARASSMENT", threshold: "BLOCK_NONE" }],
    generation_config: {
      response_mime_type: "application/json",
      response_schema: GEMINI_SCHEMA,
      thinking_config: { thinking_level: "LOW" },
    },
  },
  {
    contents: CONTENTS,
    generationConfig: { responseMimeType: "application/json", responseJsonSchema: SCHEMA },
  },
  { generateContentRequest: { model: `models/${MODEL}`, contents: CONTENTS } },
];

export const GEMINI_EMBEDDINGS = [
  { content: { parts: [{ text: "Hello" }] }, taskType: "RETRIEVAL_QUERY", outputDimensionality: 8 },
  { requests: [{ model: "models/gemini-embedding-001", content: { parts: [{ text: "Hello" }] } }] },
];

export const TOKEN_REQUESTS = [
  {
    grant_type: "client_credentials",
    client_secret: "sb_secret_fuzz_0123456789",
    client_id: "notes",
    scope: `model:${MODEL} class:batch requests:5`,
  },
];

const USAGE = { promptTokenCount: 5, candidatesTokenCount: 2, thoughtsTokenCount: 1, totalTokenCount: 8 };
/** Whole answers of Google's, and chunks of its streams. */
export const GOOGLE_ANSWERS = [
  {
    candidates: [{
      content: {
        role: "model",
        parts: [{ text: "Hm", thought: true }, { text: '{"title":"a"}', thoughtSignature: "AA==" }],
      },
      finishReason: "STOP",
      index: 0,
      safetyRatings: [{ category: "HARM_CATEGORY_HARASSMENT", probability: "LOW" }],
    }],
    usageMetadata: USAGE,
    modelVersion: MODEL,
  },
  {
    candidates: [{
      content: { parts: [{ functionCall: { name: "find", args: { a: 1 }, id: "c" } }] },
      finishReason: "STOP",
    }],
  },
  { candidates: [{ finishReason: "MAX_TOKENS" }], usageMetadata: USAGE },
  { promptFeedback: { blockReason: "SAFETY" } },
  { candidates: [] },
  { embedding: { values: [1, 0] }, embeddings: [{ values: [1] }], totalTokens: 3, usageMetadata: USAGE },
];

export const OPENAI_ANSWERS = [
  {
    choices: [{
      index: 0,
      message: {
        role: "assistant",
        content: "Hello",
        reasoning_content: "Hm",
        tool_calls: [{ id: "c", type: "function", function: { name: "find", arguments: "{}" } }],
      },
      delta: {
        role: "assistant",
        content: "Hello",
        tool_calls: [{ index: 0, id: "c", function: { name: "find", arguments: "{" } }],
      },
      finish_reason: "stop",
    }],
    usage: {
      prompt_tokens: 5,
      completion_tokens: 2,
      total_tokens: 7,
      completion_tokens_details: { reasoning_tokens: 1 },
    },
  },
  {
    choices: [{
      index: 0,
      delta: { function_call: { name: "find", arguments: { a: 1 } } },
      message: { refusal: "No." },
      finish_reason: "function_call",
    }],
  },
  { choices: [{ index: 0, delta: {}, finish_reason: "content_filter" }] },
  { access_token: "access", expires_at: 9e15, data: [{ id: "m", embedding: [1, 0] }] },
];

export const YANDEX_ANSWERS = [
  {
    result: {
      alternatives: [{
        message: {
          role: "assistant",
          text: "Hello",
          toolCallList: { toolCalls: [{ functionCall: { name: "find", arguments: { a: 1 } } }] },
        },
        status: "ALTERNATIVE_STATUS_FINAL",
      }],
      usage: {
        inputTextTokens: "5",
        completionTokens: "2",
        totalTokens: "7",
        completionTokensDetails: { reasoningTokens: "1" },
      },
      modelVersion: "1",
    },
  },
  { result: { alternatives: [{ message: { text: "" }, status: "ALTERNATIVE_STATUS_CONTENT_FILTER" }] } },
];

/** Errors of upstreams. */
export const ERROR_BODIES = [
  {
    error: {
      code: 429,
      message: "Quota exceeded",
      status: "RESOURCE_EXHAUSTED",
      details: [{
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        violations: [{ quotaId: "GenerateRequestsPerDayPerProjectPerModel", quotaValue: "5" }],
      }, { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "3s" }],
    },
  },
  { error: { message: "Invalid", type: "invalid_request_error", param: null, code: "invalid_api_key" } },
  { error: { grpcCode: 16, httpCode: 401, message: "no", httpStatus: "Unauthorized" } },
  [{ error: { code: 400, message: "API key not valid", status: "INVALID_ARGUMENT" } }],
  { message: "no", status: 401 },
];

const ID = "00000000-0000-4000-8000-000000000000";
const SHA256 = "0".repeat(64);

/** Bodies of the function `api`, by address. */
export const API: Record<string, readonly unknown[]> = {
  "post /v1/media/uploads": [{
    sha256: SHA256,
    size_bytes: 5,
    content_type: "text/plain",
    kind: "media",
    key: "a/b.txt",
    metadata: { a: [1, { b: null }] },
    ref_kind: "message",
    ref_id: "1",
  }],
  "post /v1/media/{name}/url": [{ expires_in: 60 }],
  "post /v1/intake/posts": [{
    tenant_id: "default",
    source: "telegram:city",
    external_id: "1",
    text: "Hello",
    published_at: "2026-11-25T00:00:00Z",
    metadata: { links: ["https://a.example/"] },
    media: [SHA256],
    class: "batch",
    replace: true,
  }],
  "post /v1/vision/analyze": [{ sha256: SHA256, mode: "queue", wait_ms: 1 }],
  "post /v1/vision/requeue": [{ post_id: ID, sha256: SHA256, status: "failed", class: "batch" }],
  "put /v1/vision/budgets": [{
    tenant_id: "default",
    budgets: [{ provider: "*", period: "day", unit: "tokens", most: 5 }],
  }],
  "put /v1/vision/policy": [{ tenant_id: "default", policy: null }, { policy: {} }],
  "post /v1/chats": [{
    id: ID,
    title: "A",
    user_id: "ann",
    description: "B",
    metadata: { a: 1 },
    expires_at: "2027-01-01T00:00:00Z",
  }],
  "patch /v1/chats/{id}": [{ title: "A", archived: true, deleted: false, expires_at: null }],
  "post /v1/chats/{id}/messages": [{
    id: ID,
    role: "user",
    content: "Hello",
    message_type: "text",
    parts: [{ type: "text", text: "Hello" }],
    client_id: "1",
    request_id: "r",
    usage: { input_tokens: 1 },
    parent_id: null,
  }, { content: "Hello", edits: ID }],
  "post /v1/chats/{id}/answer": [{ model: MODEL, prompt: "Hello", client_id: "1", history_tokens: 5 }],
  "post /v1/messages/{id}/images": [{
    id: ID,
    image_name: "a.png",
    sha256: SHA256,
    s3_url: "https://a.example/a.png",
    width: 1,
    height: 1,
    file_size: 1,
  }],
  "post /v1/chats/{id}/search-results": [
    { id: ID, message_id: null, block_id: "b", page_number: 1, block_text: "t", coords_norm: [0, 1] },
    { results: [{ block_text: "t" }, { coords_px: { x: 1 } }] },
  ],
  "post /v1/chats/{id}/shares": [{ expires_in: 60 }],
  "post /v1/crawl": [{ url: "https://a.example/b?c=d", mode: "read_only", wait: false, wait_ms: 0 }],
  "post /v1/crawl/pages/{id}/summary": [{ model: MODEL, prompt: "Shorter.", again: true }],
  "post /v1/graph/sync": [{ to: "postgres", after: { step: "posts", last: "a" } }],
  "post /v1/storage/cleanup": [{
    force: true,
    target_free_gb: 1,
    what: "auto",
    max_age_days: 1,
    dry_run: true,
  }],
  "post /v1/storage/quota/check": [{ size_bytes: 1, content_type: "media" }],
};
export const ANY_API: readonly unknown[] = Object.values(API).flat();

const TEXT_MESSAGE = {
  message_id: 7,
  date: 1_790_000_000,
  edit_date: 1_790_000_100,
  chat: { id: -1001234567890, type: "channel", title: "City", username: "city" },
  text: "See a.example and more",
  entities: [
    { type: "url", offset: 4, length: 9 },
    { type: "text_link", offset: 18, length: 4, url: "https://b.example/" },
  ],
  forward_origin: { type: "channel", chat: { id: -1, title: "Other" } },
  reply_to_message: { message_id: 6 },
  author_signature: "Ann",
};
const PHOTO = { file_id: "f", file_unique_id: "u", width: 90, height: 60, file_size: 1_000 };
/** Updates of Telegram's. */
export const UPDATES: readonly unknown[] = [
  { update_id: 1, channel_post: TEXT_MESSAGE },
  { update_id: 2, edited_channel_post: { ...TEXT_MESSAGE, text: undefined, caption: "A", photo: [PHOTO] } },
  {
    update_id: 3,
    message: {
      ...TEXT_MESSAGE,
      media_group_id: "album",
      document: {
        file_id: "d",
        file_unique_id: "v",
        file_name: "a.png",
        mime_type: "image/png",
        file_size: 5,
      },
    },
  },
  {
    update_id: 4,
    message: { ...TEXT_MESSAGE, video: { ...PHOTO, thumbnail: PHOTO, mime_type: "video/mp4" } },
  },
  { update_id: 5, deleted_business_messages: { chat: { id: 1 }, message_ids: [1, 2] } },
];

/** Lines of batches, as their APIs have them. */
export const OPENAI_LINES: readonly unknown[] = [
  {
    custom_id: "a",
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: MODEL, messages: [{ role: "user", content: "Hello" }], stream: false },
  },
  {
    custom_id: "b",
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: MODEL, metadata: { a: "\u0000" } },
  },
];
export const GEMINI_LINES: readonly unknown[] = [
  { key: "a", request: { model: `models/${MODEL}`, contents: [{ parts: [{ text: "Hello" }] }] } },
  { request: { contents: [] }, metadata: { a: 1 } },
];
export const ANTHROPIC_LINES: readonly unknown[] = [
  { custom_id: "a", params: { model: MODEL, max_tokens: 9, messages: [{ role: "user", content: "Hello" }] } },
];
