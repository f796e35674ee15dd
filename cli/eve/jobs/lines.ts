/** A file of calls, one a line, as jobs. */
import { isObject } from "../../../shared/contract/is_object.ts";
import { GatewayError } from "../../../shared/contract/gateway_error.ts";
import type { TrafficClass } from "../../../shared/contract/request.ts";
import type { JobToSubmit } from "../../../shared/database/jobs/job_queue.ts";
import { IgnoredFields } from "../../../shared/endpoints/ignored_fields.ts";
import { decodeNative } from "../../../shared/endpoints/native/request.ts";
import { decodeChat } from "../../../shared/endpoints/openai/chat/chat_request.ts";
import { decodeEmbeddings } from "../../../shared/endpoints/openai/embeddings.ts";
import { decodeResponses } from "../../../shared/endpoints/openai/responses/responses_request.ts";
import { uuidOf } from "../../../shared/runtime/uuid_of.ts";
import { targetOf } from "../../../shared/stages/stage_name.ts";
import { CliFailure } from "../failure.ts";

/** What lines in OpenAI's form may ask for: where the gateway answers it, and who reads it. */
const OPENAI: Readonly<Record<string, { path: string; decode: (body: unknown) => unknown }>> = {
  "/v1/chat/completions": {
    path: "/openai/v1/chat/completions",
    decode: (body) => decodeChat(body, new IgnoredFields()),
  },
  "/v1/responses": { path: "/openai/v1/responses", decode: decodeResponses },
  "/v1/embeddings": { path: "/openai/v1/embeddings", decode: decodeEmbeddings },
};

/** What decides when a call is run, and not what is asked. */
const OPTIONS: ReadonlySet<string> = new Set(["mode", "request_id", "class", "max_wait_ms", "stream"]);
const MAX_CUSTOM_ID_CHARS = 512;
/** Who has made ten mistakes sees what kind they are of. */
const MAX_PROBLEMS = 10;
const NO_WAIT_LIMIT_MS = Number.MAX_SAFE_INTEGER;

export interface JobFile {
  /** Of all its jobs: the same for the same file and consumer. */
  batchId: string;
  jobs: JobToSubmit[];
}

/** The `batch_id` under which a consumer's jobs of a file are kept: a UUID of its contents. */
export function batchIdOf(text: string, consumerId: string | null): Promise<string> {
  return uuidOf(`${consumerId ?? "project"}\n${text}`);
}

/**
 * Each line of the file as a job. Their `requestId` is made of the file's contents and the line: handed in again, they are the same jobs.
 * @param text JSON Lines; empty lines are passed over
 * @param trafficClass of the lines that name none
 * @throws CliFailure that names the lines that are none
 */
export async function jobsIn(
  text: string,
  consumerId: string | null,
  trafficClass: TrafficClass,
): Promise<JobFile> {
  const batchId = await batchIdOf(text, consumerId);
  const jobs: JobToSubmit[] = [];
  const problems: string[] = [];
  const seen = new Map<string, number>();
  for (const [place, written] of text.split("\n").entries()) {
    if (written.trim() === "") continue;
    try {
      const call = callIn(written, place + 1);
      const before = seen.get(call.customId);
      if (before !== undefined) throw new Error(`line ${before} has the same custom_id, ${call.customId}`);
      seen.set(call.customId, place + 1);
      jobs.push({
        id: crypto.randomUUID(),
        kind: "llm",
        requestId: `${batchId}.${place}`,
        requestHash: batchId,
        body: { path: call.path, body: call.body },
        class: call.class ?? trafficClass,
        models: call.models,
        batchId,
        place,
        customId: call.customId,
      });
    } catch (thrown) {
      const why = thrown instanceof GatewayError ? thrown.publicMessage : (thrown as Error).message;
      problems.push(`Line ${place + 1}: ${why}`);
      if (problems.length >= MAX_PROBLEMS) break;
    }
  }
  if (problems.length > 0) throw new CliFailure(`${problems.join("\n")}\nNothing was handed in.`);
  if (jobs.length === 0) throw new CliFailure("The file holds no lines. Write one call a line, as JSON.");
  return { batchId, jobs };
}

interface Call {
  customId: string;
  path: string;
  body: Record<string, unknown>;
  models: string[];
  class?: TrafficClass;
}

function callIn(written: string, line: number): Call {
  let said: unknown;
  try {
    said = JSON.parse(written);
  } catch {
    // Told below.
  }
  if (!isObject(said)) throw new Error("it is no JSON object");
  return isObject(said.body) ? openaiCall(said, said.body) : nativeCall(said, line);
}

function openaiCall(said: Record<string, unknown>, body: Record<string, unknown>): Call {
  const { custom_id: customId, method = "POST", url = "/v1/chat/completions" } = said;
  if (typeof customId !== "string" || customId === "" || customId.length > MAX_CUSTOM_ID_CHARS) {
    throw new Error(`custom_id must be a text of 1 to ${MAX_CUSTOM_ID_CHARS} characters`);
  }
  const endpoint = typeof url === "string" ? OPENAI[url] : undefined;
  if (method !== "POST" || endpoint === undefined) {
    throw new Error(`method must be POST, and url one of ${Object.keys(OPENAI).join(", ")}`);
  }
  if (body.stream !== undefined && body.stream !== null && body.stream !== false) {
    throw new Error("nobody reads a stream: leave stream out");
  }
  endpoint.decode(body);
  return { customId, path: endpoint.path, body, models: modelsOf(targetOf([String(body.model)])) };
}

function nativeCall(said: Record<string, unknown>, line: number): Call {
  const body = Object.fromEntries(Object.entries(said).filter(([name]) => !OPTIONS.has(name)));
  const { request_id: requestId, class: trafficClass } = said;
  const { request, target } = decodeNative({
    ...body,
    ...(requestId !== undefined && { request_id: requestId }),
    ...(trafficClass !== undefined && { class: trafficClass }),
    mode: "queue",
  }, { newId: `line-${line}`, traceId: null, maxWaitMs: NO_WAIT_LIMIT_MS });
  return {
    customId: request.id,
    path: "/",
    body,
    models: modelsOf(target),
    ...(trafficClass !== undefined && { class: request.class }),
  };
}

function modelsOf(target: ReturnType<typeof targetOf>): string[] {
  if (target.kind === "models") return target.models;
  throw new Error('a stage is handed in by itself, with mode "queue": name a model here');
}
