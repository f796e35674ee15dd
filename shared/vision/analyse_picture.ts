import type { Caller } from "../contract/caller.ts";
import type { VisionEstimate } from "../contract/request.ts";
import type {
  AnalysisToKeep,
  DecisionToKeep,
  PictureJob,
  PictureSaid,
  VisionBooks,
} from "../database/vision.ts";
import type { MediaObject } from "../database/media/media.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { sha256Of } from "../runtime/sha256.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { type Analysis, AnalysisFailure, type Analyst, type Picture, type Resolution } from "./analyst.ts";
import { PROVIDER_DOWN } from "./analysts/breaker.ts";
import type { CacheKey, VisionCache } from "./cache.ts";
import { type Dhash, dhashOf, isHashable } from "./dhash/dhash.ts";
import { HEADER_BYTES, pictureHeader } from "./header.ts";
import { decide, USUAL_POLICY, type VisionDecision, type VisionPolicy, visionPolicy } from "./policy.ts";
import { PROMPT_VERSION } from "./prompt.ts";
import { RESULT_VERSION } from "./result.ts";
import type { StoredPicture } from "./stored_picture.ts";

export interface AnalysisDependencies {
  books: VisionBooks;
  cache: VisionCache;
  /** In the order of the installation. */
  analysts: readonly Analyst[];
  /** So many bytes of an object from its beginning, or all there are. @throws GatewayError */
  beginning(object: MediaObject, atMost: number): Promise<Uint8Array<ArrayBuffer>>;
  /** @param whole its bytes, where they have been read */
  picture(stored: StoredPicture, whole: Uint8Array<ArrayBuffer> | null): Picture;
  clock: Pick<Clock, "now">;
  log: Log;
}

export type AnalysisOutcome =
  | { kind: "ended"; status: string }
  /** It waits, and its row says what for. */
  | { kind: "later"; delayMs: number }
  /** Who was asked broke off: a run that counts. */
  | { kind: "failed"; code: string; message: string };

/** No other job looks at the same picture for so long: more than one call may take (EVE_REQUEST_TIMEOUT_MS). Held again for each. */
const HOLD_SECONDS = 420;
/** Between two looks at what another job is doing, or at a lane that is full. */
const LEAST_DELAY_MS = 5_000;
/** Somebody may set an analyst up, or raise a budget. */
const MOST_DELAY_MS = 600_000;
const NO_ANALYST_DELAY_MS = 60_000;
/** A model that has room so soon is waited for: reading the text alone is less than the picture is worth. */
const SOON_MS = 60_000;

/** Why one that was asked has no result. */
interface Failing {
  name: string;
  kind: AnalysisFailure["kind"];
  code: string;
  message: string;
  retryAfterMs: number | null;
}

type Asked =
  | { kind: "found"; outcome: AnalysisToKeep }
  | { kind: "failed"; failing: Failing }
  | { kind: "lost"; outcome: AnalysisOutcome };

/**
 * Analyses one picture, for a job: policy, cache, budget, analyst, result. Each step may be repeated: what was paid for is found again by
 * the id of its step, and what was written down is not written twice.
 * @throws GatewayError where nothing can be known now: the database or the store is away; and the signal's reason when it aborts
 */
export async function analysePicture(
  job: PictureJob,
  caller: Caller,
  dependencies: AnalysisDependencies,
  signal: AbortSignal,
): Promise<AnalysisOutcome> {
  const { books, clock } = dependencies;
  const since = clock.now();
  const begun = await books.begin(job, HOLD_SECONDS);
  if (begun.status === "ended") return { kind: "ended", status: "ended" };
  if (begun.status === "busy") {
    return { kind: "later", delayMs: Math.min(LEAST_DELAY_MS, begun.retry_after_ms + 1) };
  }
  const { object, post } = begun;
  const policy = policyOf(begun.policy, dependencies.log);
  const { said, whole } = begun.picture.width === null && begun.picture.fault === null
    ? await saidBy(object, dependencies)
    : { said: { ...begun.picture, mimeType: object.mime_type ?? "" }, whole: null };
  const alike = await books.savePicture(job, said, policy.same_bits);
  const facts = {
    sha256: job.sha256,
    mimeType: said.mimeType,
    sizeBytes: object.size_bytes ?? 0,
    width: said.width,
    height: said.height,
    source: post.source,
    publishedAtMs: Date.parse(post.published_at ?? post.created_at),
    ...alike,
  };
  const decided = (facts: Parameters<typeof decide>[1]) =>
    decide(policy, facts, dependencies.analysts, Date.parse(begun.now));
  // One without a hash looks like no other, and its decision says why.
  const keeping = ({ action, reason, ...detail }: VisionDecision): DecisionToKeep => ({
    action,
    reason,
    detail: said.no_dhash === null ? detail : { ...detail, no_dhash: said.no_dhash },
    policy_version: begun.policy_version,
  });
  let decision = decided(facts);
  if (decision.action === "copy") {
    const kept = keeping(decision);
    const saved = await books.finish(job, kept, {
      status: "done",
      same_as: decision.sha256,
      reason: decision.message,
    });
    if (saved !== "gone") return { kind: "ended", status: "done" };
    decision = decided({ ...facts, similar: null });
  }
  const kept = keeping(decision);
  const finish = async (outcome: AnalysisToKeep): Promise<AnalysisOutcome> => {
    await books.finish(job, kept, { ...outcome, duration_ms: Math.round(clock.now() - since) });
    return { kind: "ended", status: outcome.status };
  };
  if (decision.action === "skip") {
    return await finish({ status: "skipped", reason: `${decision.reason}: ${decision.message}` });
  }
  if (decision.action !== "analyse") {
    await finish({ status: "waiting", reason: `${decision.reason}: ${decision.message}` });
    return {
      kind: "later",
      delayMs: decision.reason === "looks_the_same" ? LEAST_DELAY_MS : NO_ANALYST_DELAY_MS,
    };
  }
  const picture = dependencies.picture({
    tenantId: job.tenantId,
    sha256: job.sha256,
    mimeType: facts.mimeType,
    sizeBytes: facts.sizeBytes,
    // Decided: both are known.
    width: facts.width!,
    height: facts.height!,
  }, whole);
  const failings: Failing[] = [];
  for (const { name, resolution } of decision.analysts) {
    const analyst = dependencies.analysts.find((one) => one.name === name)!;
    const isLess = analyst.capabilities.readsTextOnly && decision.reason !== "text" &&
      decision.reason !== "large_document";
    if (isLess && failings.some(hasRoomSoon)) break;
    signal.throwIfAborted();
    if (failings.length > 0) {
      const lost = await isLost(job, books);
      if (lost !== null) return lost;
    }
    const step = { job, caller, analyst, resolution, picture, signal };
    const asked = await ask(step, dependencies);
    if (asked.kind === "lost") return asked.outcome;
    if (asked.kind === "found") return await finish(asked.outcome);
    failings.push(asked.failing);
    // The call of an earlier run, whose worker is gone, may yet be answered: a second one would be paid beside it.
    if (asked.failing.code === "request_running") break;
  }
  return await withoutResult(failings, finish);
}

/** Holds the picture again; null: it is still this job's. */
async function isLost(job: PictureJob, books: VisionBooks): Promise<AnalysisOutcome | null> {
  const { status } = await books.begin(job, HOLD_SECONDS);
  if (status === "begun") return null;
  return status === "ended" ? { kind: "ended", status } : { kind: "later", delayMs: LEAST_DELAY_MS };
}

const hasRoomSoon = ({ kind, code, retryAfterMs }: Failing) =>
  kind === "no_capacity" && code !== PROVIDER_DOWN && retryAfterMs !== null && retryAfterMs <= SOON_MS;

async function withoutResult(
  failings: readonly Failing[],
  finish: (outcome: AnalysisToKeep) => Promise<AnalysisOutcome>,
): Promise<AnalysisOutcome> {
  const reason = failings.map(({ name, message }) => `${name}: ${message}`).join("; ").slice(0, 500);
  const waiting = failings.filter(({ kind }) => kind === "no_capacity");
  if (waiting.length > 0) {
    await finish({ status: "waiting", reason });
    const soonest = Math.min(...waiting.map(({ retryAfterMs }) => retryAfterMs ?? NO_ANALYST_DELAY_MS));
    return { kind: "later", delayMs: Math.min(Math.max(soonest, LEAST_DELAY_MS), MOST_DELAY_MS) };
  }
  const broken = failings.find(({ kind }) => kind === "retryable");
  if (broken !== undefined) {
    await finish({ status: "waiting", reason });
    return { kind: "failed", code: broken.code, message: reason };
  }
  return await finish({ status: "failed", reason });
}

interface Step {
  job: PictureJob;
  caller: Caller;
  analyst: Analyst;
  resolution: Resolution;
  picture: Picture;
  signal: AbortSignal;
}

/** One analyst, asked once more where its answer does not hold. */
async function ask(step: Step, dependencies: AnalysisDependencies): Promise<Asked> {
  const { job, analyst, resolution } = step;
  const key: CacheKey = { tenantId: job.tenantId, sha256: job.sha256, analyst: analyst.name, resolution };
  const cached = await dependencies.cache.find(key);
  if (cached !== null) {
    // It was paid for when it was found.
    const free = { ...cached, inputTokens: 0, outputTokens: 0 };
    return {
      kind: "found",
      outcome: { ...factsOf(step, free), status: "done", result: cached.result, from_cache: true },
    };
  }
  const first = await askOnce(step, 1, undefined, dependencies);
  if (first.kind === "failed") return first;
  let { analysis } = first;
  let spent = { inputTokens: analysis.inputTokens, outputTokens: analysis.outputTokens };
  if (analysis.result === null) {
    const lost = await isLost(job, dependencies.books);
    if (lost !== null) return { kind: "lost", outcome: lost };
    const second = await askOnce(step, 2, analysis.fault ?? "it does not hold", dependencies);
    if (second.kind === "failed") return second;
    spent = {
      inputTokens: spent.inputTokens + second.analysis.inputTokens,
      outputTokens: spent.outputTokens + second.analysis.outputTokens,
    };
    analysis = second.analysis;
  }
  const facts = factsOf(step, { ...analysis, ...spent });
  if (analysis.result === null) {
    return {
      kind: "found",
      outcome: {
        ...facts,
        status: "invalid",
        raw_text: analysis.rawText,
        reason: (analysis.fault ?? "it does not hold").slice(0, 500),
      },
    };
  }
  await dependencies.cache.save(key, { ...analysis, ...spent, result: analysis.result });
  return { kind: "found", outcome: { ...facts, status: "done", result: analysis.result } };
}

/** One answer, in its budget. */
async function askOnce(
  { job, caller, analyst, resolution, picture, signal }: Step,
  round: number,
  earlierFault: string | undefined,
  { books }: AnalysisDependencies,
): Promise<{ kind: "answered"; analysis: Analysis } | { kind: "failed"; failing: Failing }> {
  const { name, capabilities } = analyst;
  const exact = new TextEncoder().encode(`${name} ${resolution} ${round}`);
  const requestId = `${job.jobId}.${(await sha256Of(exact)).slice(0, 8)}`;
  const estimate: VisionEstimate = {
    id: requestId,
    tenantId: job.tenantId,
    provider: name,
    tokens: Math.ceil(analyst.estimatedTokens(picture, resolution)),
    spendsTokens: capabilities.spendsTokens,
  };
  if (!estimate.spendsTokens) {
    const taken = await books.reserve(estimate);
    if (taken.status === "used_up") return { kind: "failed", failing: usedUp(name, taken.detail) };
  }
  let analysis: Analysis;
  try {
    analysis = await analyst.analyse({
      picture,
      resolution,
      requestId,
      traceId: job.traceId,
      tenantId: job.tenantId,
      caller,
      estimate: estimate.spendsTokens ? estimate : null,
      ...(earlierFault !== undefined && { earlierFault }),
      signal,
    });
  } catch (thrown) {
    // Broken off: the next run takes the same reservation, and finds what was answered.
    if (!(thrown instanceof AnalysisFailure)) throw thrown;
    const { kind, code, message, retryAfterMs } = thrown;
    // Where an earlier run is still under way, it is that one's to settle.
    if (code !== "request_running") {
      await books.settle(requestId, thrown.spentTokens > 0 ? thrown.spentTokens : null);
    }
    return { kind: "failed", failing: { name, kind, code, message, retryAfterMs } };
  }
  await books.settle(requestId, analysis.inputTokens + analysis.outputTokens);
  return { kind: "answered", analysis };
}

function usedUp(name: string, message: string): Failing {
  // It may be raised before its period ends.
  return { name, kind: "no_capacity", code: "budget_exhausted", message, retryAfterMs: MOST_DELAY_MS };
}

function factsOf(
  { analyst, resolution }: Step,
  { provider, model, inputTokens, outputTokens }: Pick<
    Analysis,
    "provider" | "model" | "inputTokens" | "outputTokens"
  >,
): Omit<AnalysisToKeep, "status"> {
  return {
    analyst: analyst.name,
    provider,
    model,
    schema_version: RESULT_VERSION,
    prompt_version: PROMPT_VERSION,
    resolution,
    input_tokens: inputTokens,
    output_tokens: outputTokens,
  };
}

/** What its bytes say: of what is worth a hash all of them, which then need not be read again. */
async function saidBy(
  object: MediaObject,
  { beginning }: AnalysisDependencies,
): Promise<{ said: PictureSaid; whole: Uint8Array<ArrayBuffer> | null }> {
  const size = object.size_bytes ?? 0;
  let bytes = await beginning(object, HEADER_BYTES);
  const header = pictureHeader(bytes);
  if (header === null) {
    const mimeType = object.mime_type ?? "";
    const none = { width: null, height: null, orientation: 1, dhash: null, no_dhash: null };
    return { said: { mimeType, ...none, fault: "not_a_picture" }, whole: null };
  }
  if (isHashable(header, size) && size > bytes.byteLength) bytes = await beginning(object, size);
  const whole = bytes.byteLength === size ? bytes : null;
  const dhash: Dhash = whole === null ? { none: "too_large" } : await dhashOf(whole, header);
  const hashed = "bits" in dhash
    ? { dhash: dhash.bits.toString(), no_dhash: null }
    : { dhash: null, no_dhash: dhash.none };
  return { said: { ...header, ...hashed, fault: null }, whole };
}

/** A policy that an earlier version wrote and this one does not understand looks at nothing that it should not: it is told, and nothing is looked at. */
function policyOf(stored: unknown, log: Log): VisionPolicy {
  if (stored === null || stored === undefined) return USUAL_POLICY;
  const parsed = visionPolicy.safeParse(stored);
  if (parsed.success) return parsed.data;
  log("error", "vision_policy_wrong", { detail: parsed.error.message });
  throw new GatewayError("internal", { detail: "the tenant's policy of vision is none: save it again" });
}
