import * as z from "zod";
import { partsOf } from "../../contract/content.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import { jsonResponse } from "../../http/json_response.ts";
import { targetOf } from "../../stages/stage_name.ts";
import type { RequestContext } from "../endpoint.ts";
import { knownFields } from "../fields.ts";
import { invalidRequest, validated } from "../validated.ts";
import { resultHeaders } from "./chat/answer.ts";
import { askedOf, type CallOptions, createdAt, ignoredBy } from "./asked.ts";
import { usageJson } from "./usage.ts";

/** Width to height, as Gemini's models make them. */
const RATIOS = ["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"];

const body = knownFields("", {
  model: z.string({ error: "must be the name of a model that makes pictures" }).min(1).max(200),
  prompt: z.string().min(1).max(32_000),
  n: z.literal(1, { error: "must be 1: a call makes one picture" }).optional(),
  size: z.string().regex(
    /^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$/,
    "must be auto, or width and height such as 1024x1024",
  )
    .optional(),
  response_format: z.literal("b64_json", { error: "must be b64_json: pictures are not kept behind links" })
    .optional(),
  stream: z.literal(false, { error: "must be false: a picture comes whole" }).optional(),
  background: z.enum(["auto", "opaque"], { error: "must be auto or opaque" }).optional(),
  user: z.string().max(512).optional(),
}, { error: (issue) => issue.code === "invalid_type" ? "must be a JSON object" : undefined });

/** A picture of what a prompt describes, by a model that makes pictures. */
export async function generateImage(context: RequestContext, options: CallOptions): Promise<Response> {
  const asked = askedOf(context, options);
  const ignored = ignoredBy(options);
  const { model, prompt, size, user } = validated(body, await context.readJson(), ignored);
  const result = await context.invoke({
    ...asked,
    ...await context.resolve(targetOf([model])),
    prompt: {
      contents: [{ role: "user", parts: [{ text: prompt }] }],
      generationConfig: {
        responseModalities: ["TEXT", "IMAGE"],
        ...(size !== undefined && size !== "auto" && { imageConfig: { aspectRatio: ratioOf(size) } }),
      },
    },
    metadata: user === undefined ? {} : { user },
  });
  const { verdict, limits } = result;
  if (!verdict.ok) throw new GatewayError(verdict.code, { details: { reason: verdict.reason }, limits });
  const pictures = partsOf(result.answer).flatMap(({ inlineData }) =>
    inlineData?.data !== undefined && inlineData.mimeType?.startsWith("image/") === true ? [inlineData] : []
  );
  if (pictures[0] === undefined) {
    throw new GatewayError("unsupported_feature", {
      message: `${result.model} answered in words and made no picture. Use a model that makes pictures.`,
      limits,
    });
  }
  const { prompt_tokens: input_tokens, completion_tokens: output_tokens, total_tokens } = usageJson(
    result.usage,
  );
  const answer = {
    created: createdAt(options),
    data: pictures.map(({ data }) => ({ b64_json: data })),
    output_format: pictures[0].mimeType?.replace("image/", ""),
    usage: { input_tokens, output_tokens, total_tokens },
  };
  const response = jsonResponse(200, answer, result.requestId, resultHeaders(result));
  return ignored?.namedIn(response) ?? response;
}

/** The nearest that there is. */
function ratioOf(size: string): string {
  const [width = 1, height = 1] = size.split("x").map(Number);
  const distance = (ratio: string) => {
    const [w = 1, h = 1] = ratio.split(":").map(Number);
    return Math.abs(Math.log(width / height) - Math.log(w / h));
  };
  const nearest = RATIOS.toSorted((a, b) => distance(a) - distance(b))[0];
  if (nearest === undefined) throw invalidRequest([{ field: "size", problem: "is none" }]);
  return nearest;
}
