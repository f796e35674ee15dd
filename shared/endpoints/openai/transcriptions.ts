import * as z from "zod";
import { textOf } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { answerHeaders } from "../../http/answer_headers.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { toBase64 } from "../../runtime/base64.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { RequestContext } from "../endpoint.ts";
import { knownFields } from "../fields.ts";
import { invalidRequest, validated } from "../validated.ts";
import { resultHeaders } from "./chat/answer.ts";
import { askedOf, type CallOptions, ignoredBy } from "./asked.ts";
import { usageJson } from "./usage.ts";

/** Of recordings, by the ends of their names: clients send `application/octet-stream` for many. */
const TYPES: Readonly<Record<string, string>> = {
  aac: "audio/aac",
  aiff: "audio/aiff",
  flac: "audio/flac",
  m4a: "audio/mp4",
  mp3: "audio/mp3",
  mp4: "audio/mp4",
  mpeg: "audio/mp3",
  mpga: "audio/mp3",
  ogg: "audio/ogg",
  wav: "audio/wav",
  webm: "audio/webm",
};

const NO_TIMES = "the models hear words and tell no times";
const body = knownFields("", {
  file: z.instanceof(File, { error: "must be a recording" }).refine(({ size }) => size > 0, "is empty"),
  model: z.string({ error: "must be the name of a model" }).min(1).max(200),
  language: z.string().max(100).optional(),
  prompt: z.string().max(10_000).optional(),
  response_format: z.enum(["json", "text"], { error: `must be json or text: ${NO_TIMES}` }).default("json"),
  temperature: z.coerce.number().min(0).max(1).optional(),
  stream: z.enum(["false"], { error: "must be false: transcripts come whole" }).optional(),
  "timestamp_granularities[]": z.undefined({ error: `is not supported here: ${NO_TIMES}` }).optional(),
});

/** What is said in a recording, by a model that hears. */
export async function transcribe(context: RequestContext, options: CallOptions): Promise<Response> {
  const asked = askedOf(context, options);
  const ignored = ignoredBy(options);
  const form = Object.fromEntries(await context.readForm());
  const { file, model, language, prompt, response_format: format, temperature } = validated(
    body,
    form,
    ignored,
  );
  const instruction = [
    "Write down what is said in this recording, word for word, in the language in which it is said.",
    "Answer with the transcript alone, and with nothing if nobody speaks.",
    ...(language === undefined ? [] : [`The language is ${language}.`]),
    ...(prompt === undefined ? [] : [`Words that may occur in it, or what was said before: ${prompt}`]),
  ].join(" ");
  context.takeMemory(file.size);
  const data = toBase64(new Uint8Array(await file.arrayBuffer()));
  const result = await context.invoke({
    ...asked,
    ...await context.resolve(targetOf([model])),
    prompt: {
      contents: [{
        role: "user",
        parts: [{ inlineData: { mimeType: typeOf(file), data } }, { text: instruction }],
      }],
      generationConfig: { temperature: temperature ?? 0 },
    },
    metadata: {},
  });
  const { verdict } = result;
  const silent = !verdict.ok && verdict.code === "empty_answer" && verdict.reason === "STOP";
  if (!verdict.ok && !silent) {
    throw new GatewayError(verdict.code, { details: { reason: verdict.reason }, limits: result.limits });
  }
  const text = textOf(result.answer).trim();
  const { prompt_tokens, completion_tokens, total_tokens } = usageJson(result.usage);
  const usage = {
    type: "tokens",
    input_tokens: prompt_tokens,
    output_tokens: completion_tokens,
    total_tokens,
  };
  const headers = resultHeaders(result);
  const response = format === "text"
    ? new Response(`${text}\n`, {
      headers: answerHeaders("text/plain; charset=utf-8", result.requestId, headers),
    })
    : jsonResponse(200, { text, usage }, result.requestId, headers);
  return ignored?.namedIn(response) ?? response;
}

function typeOf(file: File): string {
  if (/^(audio|video)\//.test(file.type)) return file.type.split(";")[0]!;
  const type = TYPES[/\.(\w+)$/.exec(file.name)?.[1]?.toLowerCase() ?? ""];
  if (type !== undefined) return type;
  throw invalidRequest([{
    field: "file",
    problem: `must be a recording: its name ends in none of ${Object.keys(TYPES).join(", ")}`,
  }]);
}
