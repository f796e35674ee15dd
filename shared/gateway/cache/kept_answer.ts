import * as z from "zod";
import type { Answer, Candidate, Part } from "../../contract/content.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import { keptUsage } from "../answers/recorded_result.ts";
import { cacheKey } from "./cache_key.ts";
import { type Keepable, MAX_KEPT_CHARS } from "./keepable.ts";
import { judgeAnswer } from "../../contract/answer_verdict.ts";
import type { GatewayResult } from "../../contract/result.ts";

const kept = z.object({
  version: z.literal(1),
  answer: z.custom<Answer>((value) => typeof value === "object" && value !== null),
  finishReason: z.string().nullable(),
  usage: keptUsage,
});
export type KeptAnswer = Omit<z.output<typeof kept>, "version">;

/** An answer that is finished, whole and unblocked, as JSON; null: it is not, or too long. */
export function answerToKeep(result: GatewayResult): string | null {
  const { answer, finishReason, usage, verdict, replayed, outputLoweredTo } = result;
  // One that a budget cut short is not what was asked for.
  if (!verdict.ok || replayed || outputLoweredTo != null) return null;
  const candidates = answer.candidates ?? [];
  if (candidates.length === 0 || !candidates.every(isWhole)) return null;
  const json = JSON.stringify({ version: 1, answer, finishReason, usage } satisfies z.input<typeof kept>);
  return json.length <= MAX_KEPT_CHARS ? json : null;
}

/** A stream that was too long to be put together has no parts. */
function isWhole(candidate: Candidate): boolean {
  return candidate.finishReason === "STOP" && judgeAnswer({ candidates: [candidate] }).ok;
}

/** Null: it is of another version, or none. */
export function keptAnswer(json: unknown): KeptAnswer | null {
  const record = kept.safeParse(json);
  return record.success ? record.data : null;
}

/** Characters of text in a piece of a stream, about as many as models send. */
const PIECE_CHARS = 160;

/** A kept answer as the pieces of a stream: texts in short ones, every other part whole, and at the end what is not content. */
export function* piecesOf({ candidates = [], ...rest }: Answer): Generator<Answer, void, void> {
  for (const [place, { content, ...facts }] of candidates.entries()) {
    const index = typeof facts.index === "number" ? facts.index : place;
    for (const part of (content?.parts ?? []).flatMap(piecesOfPart)) {
      yield { candidates: [{ content: { ...content, parts: [part] }, index }] };
    }
  }
  yield {
    candidates: candidates.map(({ content, ...facts }, place) => ({
      content: { role: content?.role ?? "model", parts: [] },
      index: place,
      ...facts,
    })),
    ...rest,
  };
}

/** A signature belongs to the part that it came with, so that one stays whole. */
function piecesOfPart(part: Part): Part[] {
  const { text, ...rest } = part;
  if (typeof text !== "string" || Object.keys(rest).some((key) => key !== "thought")) return [part];
  // By code points: no piece ends in half a character.
  const points = [...text];
  const pieces: Part[] = [];
  for (let at = 0; at < points.length; at += PIECE_CHARS) {
    pieces.push({ ...rest, text: points.slice(at, at + PIECE_CHARS).join("") });
  }
  return pieces;
}

/** Answers to prompts, as the cache handles them. */
export const KEPT_ANSWERS: Keepable<GatewayRequest, GatewayResult, KeptAnswer> = {
  operation: "chat",
  keyOf: cacheKey,
  wantsChance: ({ prompt }) => Number(prompt.generationConfig?.temperature ?? 0) > 0,
  jsonOf: answerToKeep,
  keptIn: keptAnswer,
  resultOf: ({ answer, finishReason, usage }, request, { model, requestedModel, waitMs }) => ({
    requestId: request.id,
    model,
    requestedModel,
    replaced: model !== requestedModel,
    answer,
    verdict: { ok: true },
    finishReason,
    usage,
    keyAlias: "",
    attempts: 0,
    waitMs,
    limits: null,
    replayed: false,
  }),
};
