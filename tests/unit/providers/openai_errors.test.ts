/** Errors of OpenAI's API, by the bodies that its reference and compatible servers give. */
import { expect, test } from "vitest";
import { diagnoseOpenAiError, OPENAI_ERROR_MAPPING } from "../../../shared/providers/openai/errors.ts";
import { diagnoseYandexError, YANDEX_ERROR_MAPPING } from "../../../shared/providers/yandex/errors.ts";

const openai = (
  status: number,
  error: Record<string, unknown> | string,
  headers: Record<string, string> = {},
) => {
  const body = { error };
  return diagnoseOpenAiError({
    status,
    body,
    message: OPENAI_ERROR_MAPPING.messageIn(body) ?? "",
    headers: new Headers(headers),
  });
};

test.each([
  [
    "a wrong key",
    401,
    { code: "invalid_api_key", message: "Incorrect API key provided" },
    "key",
    "key_rejected",
  ],
  [
    "an unpaid account",
    429,
    { code: "insufficient_quota", type: "insufficient_quota", message: "You exceeded your current quota" },
    "key",
    "key_rejected",
  ],
  ["DeepSeek's empty account", 402, { message: "Insufficient Balance" }, "key", "key_rejected"],
  [
    "a country",
    403,
    { code: "unsupported_country_region_territory", message: "Country, region, or territory not supported" },
    "region",
    "upstream_region",
  ],
  [
    "a model of another project",
    403,
    { message: "Project does not have access to model" },
    "key_model",
    "model_unavailable",
  ],
  [
    "no such model",
    404,
    { code: "model_not_found", message: "The model does not exist" },
    "key_model",
    "model_unavailable",
  ],
  [
    "too long a prompt",
    400,
    { code: "context_length_exceeded", message: "maximum context length is 8192" },
    "caller",
    "prompt_too_large",
  ],
  [
    "a compatible server's word for it",
    400,
    "This model's maximum context length is 8192 tokens",
    "caller",
    "prompt_too_large",
  ],
  [
    "a bad parameter",
    400,
    { message: "Invalid value for temperature" },
    "caller",
    "upstream_invalid_request",
  ],
  ["an overload", 503, { message: "The engine is currently overloaded" }, "nobody", "upstream_unavailable"],
  ["an error of its own", 500, { message: "The server had an error" }, "nobody", "upstream_unavailable"],
  ["a slow model", 504, {}, "nobody", "upstream_timeout"],
  ["a redirect", 302, {}, "nobody", "upstream_unavailable"],
])("OpenAI: %s", (_, status, error, fault, code) => {
  expect(openai(status, error)).toMatchObject({ fault, code });
});

test.each([
  ["json", "response_format is not supported by this model"],
  ["tools", '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'],
  ["tools", "registry.ollama.ai/library/gemma3:1b does not support tools"],
  ["system", "Unsupported value: 'messages[0].role' does not support 'system' with this model."],
])("a feature that the model lacks: %s (%s)", (capability, message) => {
  expect(openai(400, { message })).toMatchObject({ code: "unsupported_feature", capability });
});

test.each([
  [{ "retry-after": "7" }, 7_000],
  [{ "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30.5s" }, 90_500],
  [{
    "x-ratelimit-remaining-requests": "5",
    "x-ratelimit-reset-requests": "1h",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "200ms",
  }, 1_000],
  [{}, 60_000],
])("a limit pauses for as long as the headers say: %j", (headers, forMs) => {
  expect(
    openai(
      429,
      { code: "rate_limit_exceeded", message: "Rate limit reached" },
      headers as Record<string, string>,
    ),
  )
    .toMatchObject({ fault: "lane", block: { scope: "lane", lasts: { forMs } } });
});

const yandex = (status: number, body: unknown) =>
  diagnoseYandexError({
    status,
    body,
    message: YANDEX_ERROR_MAPPING.messageIn(body) ?? "",
    headers: new Headers(),
  });

test.each([
  [
    "an unknown key",
    401,
    { error: { grpcCode: 16, httpCode: 401, message: "Unknown api key" } },
    "key",
    "key_rejected",
  ],
  [
    "SpeechKit's word for it",
    401,
    { error_code: "UNAUTHORIZED", error_message: "Unknown api key 'AQVN****'" },
    "key",
    "key_rejected",
  ],
  [
    "another folder",
    403,
    { error: { httpCode: 403, message: "Specified folder ID does not match" } },
    "key_model",
    "model_unavailable",
  ],
  [
    "an unpaid account",
    403,
    { code: 7, message: "The billing account is not active" },
    "key",
    "key_rejected",
  ],
  [
    "no such model",
    400,
    { error: { httpCode: 400, message: "Failed to get model: gpt://b1g/nope/latest" } },
    "key_model",
    "model_unavailable",
  ],
  [
    "a quota",
    429,
    {
      error: {
        httpCode: 429,
        message: "ai.textGenerationCompletionSessionsCount.count gen folder quota limit",
      },
    },
    "lane",
    "upstream_rate_limited",
  ],
  [
    "too long a prompt",
    400,
    { error: { message: "number of input tokens must be no more than 7400, got 9000" } },
    "caller",
    "prompt_too_large",
  ],
  [
    "a bad parameter",
    400,
    { error: { message: "invalid temperature: 3" } },
    "caller",
    "upstream_invalid_request",
  ],
  ["an error of its own", 500, { error: "internal" }, "nobody", "upstream_unavailable"],
])("Yandex: %s", (_, status, body, fault, code) => {
  expect(yandex(status, body)).toMatchObject({ fault, code });
});
