/**
 * The Gemini API itself: who calls and what for, whether there is quota, and then the answer or the scripted trouble.
 */

import { answer, usage } from "./answer.ts";
import { CachedContents, type CachedRequest, type Expiration } from "./cached_contents.ts";
import { ModelRegistry } from "./model_registry.ts";
import { ConnectionCut, sendError, sendOne, sendStream } from "./delivery.ts";
import { DEFAULT_DIMENSIONS, embed } from "./embedding.ts";
import {
  type ErrorContext,
  errorNamed,
  ERRORS,
  GoogleError,
  invalidArgument,
  quotaExceeded,
  unknownUrl,
} from "./errors.ts";
import { BodyTooLarge, CallerGone, type Exchange } from "./exchange.ts";
import { type Fault, FaultQueue } from "./faults.ts";
import { fingerprint, opaqueId } from "./fingerprint.ts";
import { Journal, type SeenRequest } from "./journal.ts";
import type { ModelRow } from "./models.ts";
import type { Settings } from "./options.ts";
import { type Cost, Quota, type Violation } from "./quota.ts";
import {
  BATCH_EMBED_CONTENTS,
  CACHED_CONTENT,
  COUNT_TOKENS,
  EMBED_CONTENT,
  GENERATE_CONTENT,
  readRequest,
} from "./request_fields.ts";
import { checkContents, checkGenerate, checkPromptLength } from "./request_rules.ts";
import { chunks, response, type ResponseNames } from "./response.ts";
import { type Route, routeOf } from "./route.ts";
import { type PromptTokens, promptTokens } from "./tokens.ts";
import { type Content, type Encoding, encodingOf, type GenerateResponse } from "./wire.ts";

/** The largest request body the real API takes, 20 MiB. */
export const MAX_BODY_BYTES = 20_971_520;

/** The real API embeds at most so many texts in one batch, and charges each as a request. */
const MAX_BATCH = 100;

/** One request on its way through. */
interface Call {
  exchange: Exchange;
  route: Route;
  encoding: Encoding;
  at: ErrorContext;
  project: string;
  key: string;
  body: string;
  seen: SeenRequest;
}

export class EmulatedApi {
  readonly registry: ModelRegistry;
  readonly faults = new FaultQueue();
  readonly journal: Journal;
  readonly quota: Quota;
  readonly cached: CachedContents;
  #serial = 0;

  constructor(private readonly settings: Settings, readonly now: () => number) {
    this.registry = new ModelRegistry(settings);
    this.journal = new Journal(settings.keepAdmitted, settings.keepRequests);
    this.quota = new Quota(settings.window, settings.minuteMs);
    this.cached = new CachedContents(now);
  }

  /** Limits and window are again what the emulator was started with. */
  restoreLimits(): void {
    this.registry.restore();
    this.quota.setWindow(this.settings.window);
  }

  /** Answers one request, whatever it is; never throws. */
  async handle(exchange: Exchange): Promise<void> {
    this.journal.started();
    const { url } = exchange;
    const route = routeOf(exchange.httpMethod, url.pathname);
    const key = exchange.header("x-goog-api-key") || url.searchParams.get("key") || "";
    const encoding = encodingOf(url.searchParams);
    const seen: SeenRequest = {
      at: this.now(),
      httpMethod: exchange.httpMethod,
      path: pathWithoutKey(url),
      method: route?.method ?? null,
      model: route?.model || null,
      key: key === "" ? null : fingerprint(key),
      project: this.#keyRow(key)?.project ?? null,
      headers: redacted(exchange.headers),
      body: "",
      used: null,
      status: null,
    };
    try {
      const body = await readBody(exchange).finally(() => this.journal.received(seen));
      this.journal.keepBody(seen, body);
      if (!route) throw unknownUrl(url.pathname);
      await this.#serve(exchange, route, encoding, key, body, seen);
      seen.status = 200;
      this.journal.answered(200);
    } catch (error) {
      seen.status = this.#failed(exchange, error, encoding, route?.method === "streamGenerateContent");
    } finally {
      this.journal.ended();
    }
  }

  /** @returns the status that was sent, null if none was. */
  #failed(exchange: Exchange, error: unknown, encoding: Encoding, streams: boolean): number | null {
    if (error instanceof ConnectionCut) return exchange.begun ? 200 : null;
    if (error instanceof CallerGone || exchange.gone.aborted) {
      this.journal.aborted(exchange.begun);
      return null;
    }
    const known = error instanceof GoogleError ? error : undefined;
    if (!known) console.error("the emulator failed:", error);
    const shown = known ??
      new GoogleError(500, { error: { code: 500, message: String(error), status: "INTERNAL" } });
    if (!exchange.begun) sendError(exchange, encoding, shown, streams && !encoding.sse);
    this.journal.answered(shown.status);
    return shown.status;
  }

  #keyRow(key: string) {
    return this.settings.keys.find((row) => row.key === key);
  }

  async #serve(
    exchange: Exchange,
    route: Route,
    encoding: Encoding,
    key: string,
    body: string,
    seen: SeenRequest,
  ): Promise<void> {
    const row = this.#keyRow(key);
    const project = row?.project ?? "";
    const projectNumber = this.registry.projectNumber(project);
    const at: ErrorContext = { ...route, projectNumber, key };
    if (key === "") {
      throw errorNamed(exchange.header("authorization") ? "unauthenticated" : "api_key_missing", at);
    }
    if (!row) throw errorNamed("api_key_invalid", at);
    if (row.error) throw errorNamed(row.error, at);
    const call: Call = { exchange, route, encoding, at, project, key, body, seen };
    if (route.method === "listModels") return await this.#listModels(call);
    if (/CachedContent/.test(route.method)) return await this.#cachedContents(call);
    const model = this.registry.model(route.model);
    if (!model) throw errorNamed("model_not_found", at);
    if (route.method === "getModel") return await this.#getModel(call, model);
    if (!(model.methods as string[]).includes(route.method)) throw errorNamed("model_not_found", at);
    switch (route.method) {
      case "countTokens":
        return await this.#countTokens(call, model);
      case "embedContent":
        return await this.#embedContent(call, model);
      case "batchEmbedContents":
        return await this.#batchEmbedContents(call, model);
      default:
        return await this.#generate(call, model);
    }
  }

  /**
   * Takes quota or throws 429, and finds the fault that this request meets, if any. A fault that uses no quota comes
   * before the limits are looked at, one that does comes only to requests that were admitted.
   */
  #admit(call: Call, cost: Cost | null): Fault | undefined {
    const { route, key, project, body, at } = call;
    const target = { model: route.model, key, project, method: route.method, body };
    const free = this.faults.take(target, (fault) => cost === null || !usesQuota(fault));
    if (free || cost === null) return this.#met(free);
    const now = this.now();
    const limits = this.registry.limits(project, route.model);
    const violations = this.quota.admit(
      now,
      project,
      route.model,
      limits,
      cost,
      this.settings.countRefused,
    );
    if (violations.length > 0) {
      this.journal.refused(
        violations.some(({ value }) => value === 0) ? "zero" : violations[0]!.limit,
        fingerprint(key),
        route.model,
      );
      throw quotaExceeded(violations, route.model, this.#retryMs(violations, now), {
        embeds: /embed/i.test(at.method),
        tier: this.registry.tier(project),
      });
    }
    this.journal.admitted({
      at: now,
      key: fingerprint(key),
      project,
      model: route.model,
      method: route.method,
      ...cost,
    });
    call.seen.used = cost;
    return this.#met(this.faults.take(target, usesQuota));
  }

  #met(fault: Fault | undefined): Fault | undefined {
    if (fault) this.journal.faulted(fault.kind);
    return fault;
  }

  /** The wait a refusal names: until the minute lets it through, or, for a day, the rest of a minute as Google says. */
  #retryMs(violations: Violation[], now: number): number {
    const waits = violations.map(({ waitMs }) => waitMs).filter((ms) => Number.isFinite(ms));
    const meaningless = this.settings.minuteMs - now % this.settings.minuteMs;
    return waits.length === violations.length ? Math.max(...waits) : meaningless;
  }

  /** The time an answer takes, and what may happen instead of it. */
  async #think(call: Call, fault: Fault | undefined): Promise<void> {
    if (fault?.delayMs) await call.exchange.wait(fault.delayMs);
    switch (fault?.kind) {
      case "status":
        throw errorNamed(fault.error, { ...call.at, retryMs: fault.retryMs });
      case "hang":
        return await call.exchange.hang();
      case "disconnect":
        await call.exchange.cut();
        throw new ConnectionCut();
      case "mid_stream_error":
        // Without a stream there is no middle: the error is the answer.
        if (call.route.method !== "streamGenerateContent") throw errorNamed(fault.error, call.at);
    }
    await call.exchange.wait(this.settings.latencyMs);
  }

  async #answerWith(call: Call, cost: Cost | null, body: () => unknown): Promise<void> {
    const fault = this.#admit(call, cost);
    await this.#think(call, fault);
    await sendOne(call.exchange, call.encoding, body(), fault);
  }

  async #generate(call: Call, model: ModelRow): Promise<void> {
    const { exchange, encoding, at } = call;
    const { read, cached } = this.cached.resolve(
      call.project,
      model.name,
      readRequest(GENERATE_CONTENT, call.body),
    );
    const request = checkGenerate(read, model, at);
    const prompt = { ...promptTokens(request), ...(cached !== null && { cached: cached.total }) };
    checkPromptLength(prompt.total, model);
    const fault = this.#admit(call, { requests: 1, tokens: prompt.total });
    await this.#think(call, fault);
    const names: ResponseNames = {
      modelVersion: model.name,
      responseId: opaqueId(`${++this.#serial}\n${call.body}`, 22),
    };
    const instead = insteadOfAnswer(fault, prompt, names);
    const said = answer(request, model, prompt, this.now());
    if (call.route.method === "generateContent") {
      return await sendOne(exchange, encoding, instead ?? response(said, names), fault);
    }
    const frames = instead ? [instead] : chunks(said, prompt, names);
    await sendStream(exchange, encoding, frames, at, this.settings.chunkDelayMs, fault);
  }

  async #countTokens(call: Call, model: ModelRow): Promise<void> {
    const read = readRequest(COUNT_TOKENS, call.body);
    const whole = read.generateContentRequest as Record<string, unknown> | undefined;
    if (whole && read.contents) {
      throw invalidArgument(
        "* CountTokensRequest.contents: contents and generate_content_request are mutually exclusive.\n",
      );
    }
    const asked = whole === undefined ? null : this.cached.resolve(call.project, model.name, whole);
    const counted = asked === null
      ? contentsOf(read, "CountTokensRequest")
      : checkGenerate(asked.read, model, call.at);
    const { text, image, total } = promptTokens(counted);
    await this.#answerWith(call, null, () => ({
      totalTokens: total,
      promptTokensDetails: [
        { modality: "TEXT", tokenCount: text },
        ...(image > 0 ? [{ modality: "IMAGE", tokenCount: image }] : []),
      ],
      ...(asked?.cached ? { cachedContentTokenCount: asked.cached.total } : {}),
    }));
  }

  async #cachedContents(call: Call): Promise<void> {
    const { route: { method, cachedContent: id = "" }, project } = call;
    if (method === "createCachedContent") return await this.#createCachedContent(call);
    await this.#answerWith(call, null, () => {
      switch (method) {
        case "updateCachedContent":
          return this.cached.update(project, id, readRequest(CACHED_CONTENT, call.body) as Expiration);
        case "deleteCachedContent":
          this.cached.remove(project, id);
          return {};
        case "listCachedContents": {
          const cachedContents = this.cached.list(project);
          return cachedContents.length === 0 ? {} : { cachedContents };
        }
        default:
          return this.cached.get(project, id);
      }
    });
  }

  /** Its tokens are read by the model, so they are counted as those of a prompt are. */
  async #createCachedContent(call: Call): Promise<void> {
    const read = readRequest(CACHED_CONTENT, call.body);
    const name = String(read.model ?? "").replace(/^models\//, "");
    const at = { ...call.at, model: name };
    const model = this.registry.model(name);
    if (!model?.methods.includes("createCachedContent")) throw errorNamed("model_not_found", at);
    const { systemInstruction, tools, toolConfig } = read;
    const request = { contents: read.contents ?? [], systemInstruction, tools, toolConfig } as CachedRequest;
    for (const content of request.contents) content.parts ??= [];
    const tokens = promptTokens(request);
    const asked: Call = { ...call, at, route: { ...call.route, model: name } };
    await this.#answerWith(asked, { requests: 1, tokens: tokens.total }, () =>
      this.cached.create({
        project: call.project,
        model: name,
        request,
        tokens,
        displayName: String(read.displayName ?? ""),
        expiration: read as Expiration,
      }));
  }

  async #embedContent(call: Call, model: ModelRow): Promise<void> {
    const one = embedRequest(readRequest(EMBED_CONTENT, call.body), model, "EmbedContentRequest");
    await this.#answerWith(
      call,
      { requests: 1, tokens: one.tokens },
      () => ({ embedding: { values: embed(one.text, one.dimensions) } }),
    );
  }

  async #batchEmbedContents(call: Call, model: ModelRow): Promise<void> {
    const { requests = [] } = readRequest(BATCH_EMBED_CONTENTS, call.body) as {
      requests?: Record<string, unknown>[];
    };
    if (requests.length === 0) {
      throw invalidArgument("* BatchEmbedContentsRequest.requests: requests is not specified\n");
    }
    if (requests.length > MAX_BATCH) {
      throw invalidArgument(
        `* BatchEmbedContentsRequest.requests: at most ${MAX_BATCH} requests can be in one batch\n`,
      );
    }
    const all = requests.map((request, i) => {
      const name = `BatchEmbedContentsRequest.requests[${i}]`;
      if (request.model !== `models/${model.name}`) {
        throw invalidArgument(`* ${name}.model: unexpected model name format\n`);
      }
      return embedRequest(request, model, name);
    });
    await this.#answerWith(
      call,
      { requests: all.length, tokens: all.reduce((sum, one) => sum + one.tokens, 0) },
      () => ({ embeddings: all.map((one) => ({ values: embed(one.text, one.dimensions) })) }),
    );
  }

  async #getModel(call: Call, model: ModelRow): Promise<void> {
    await this.#answerWith(call, null, () => modelResource(model));
  }

  async #listModels(call: Call): Promise<void> {
    const { searchParams } = call.exchange.url;
    const size = Math.min(MAX_PAGE, Number(searchParams.get("pageSize")) || DEFAULT_PAGE);
    const start = Number(searchParams.get("pageToken")) || 0;
    const { listed } = this.registry;
    await this.#answerWith(call, null, () => ({
      models: listed.slice(start, start + size).map(modelResource),
      ...(start + size < listed.length ? { nextPageToken: String(start + size) } : {}),
    }));
  }
}

const DEFAULT_PAGE = 50;
const MAX_PAGE = 1_000;

function usesQuota(fault: Fault): boolean {
  return fault.counted ?? (fault.kind === "status" ? ERRORS[fault.error].counted : true);
}

async function readBody(exchange: Exchange): Promise<string> {
  try {
    return ["POST", "PATCH"].includes(exchange.httpMethod) ? await exchange.text(MAX_BODY_BYTES) : "";
  } catch (error) {
    if (!(error instanceof BodyTooLarge)) throw error;
    throw invalidArgument(`Request payload size exceeds the limit: ${MAX_BODY_BYTES} bytes.`);
  }
}

function pathWithoutKey(url: URL): string {
  const query = new URLSearchParams(url.searchParams);
  if (query.has("key")) query.set("key", fingerprint(query.get("key")!));
  return url.pathname + (query.size > 0 ? `?${query}` : "");
}

const SECRET_HEADERS = ["x-goog-api-key", "authorization", "proxy-authorization", "cookie"];

function redacted(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map((
      [name, value],
    ) => [name, SECRET_HEADERS.includes(name) ? fingerprint(value) : value]),
  );
}

function contentsOf(read: Record<string, unknown>, message: string): { contents: Content[] } {
  const contents = (read.contents ?? []) as Content[];
  for (const content of contents) content.parts ??= [];
  checkContents(contents, message);
  return { contents };
}

interface TextToEmbed {
  text: string;
  tokens: number;
  dimensions: number;
}

function embedRequest(read: Record<string, unknown>, model: ModelRow, message: string): TextToEmbed {
  const content = read.content as Content | undefined;
  const { contents } = contentsOf({ contents: content ? [content] : [] }, message);
  const dimensions = (read.outputDimensionality as number | undefined) ?? DEFAULT_DIMENSIONS;
  if (dimensions < 1 || dimensions > DEFAULT_DIMENSIONS) {
    throw invalidArgument(
      `* ${message}.output_dimensionality: output_dimensionality must be between 1 and ${DEFAULT_DIMENSIONS}\n`,
    );
  }
  // A text above the model's limit is cut without a word, so it costs no more than the limit.
  const tokens = Math.min(promptTokens({ contents }).total, model.inputTokenLimit);
  return { text: contents[0]!.parts.map((part) => part.text ?? "").join("\n"), tokens, dimensions };
}

/** What a blocked or empty answer consists of: status 200, and no text. */
function insteadOfAnswer(
  fault: Fault | undefined,
  prompt: PromptTokens,
  names: ResponseNames,
): GenerateResponse | undefined {
  const rest = { usageMetadata: usage(prompt, 0, 0), ...names };
  if (fault?.kind === "safety_block") {
    if (fault.where === "prompt") return { promptFeedback: { blockReason: fault.reason }, ...rest };
    return { candidates: [{ finishReason: fault.reason, index: 0 }], ...rest };
  }
  if (fault?.kind !== "empty_answer") return undefined;
  const finishReason = "STOP";
  switch (fault.shape) {
    case "no_candidates":
      return rest;
    case "no_content":
      return { candidates: [{ finishReason, index: 0 }], ...rest };
    case "no_parts":
      return { candidates: [{ content: { role: "model" }, finishReason, index: 0 }], ...rest };
    case "empty_text":
      return {
        candidates: [{ content: { parts: [{ text: "" }], role: "model" }, finishReason, index: 0 }],
        ...rest,
      };
  }
}

/** Methods the real API does not list, though it serves them. */
const UNLISTED_METHODS = ["streamGenerateContent", "batchEmbedContents"];

function modelResource(model: ModelRow): Record<string, unknown> {
  return {
    name: `models/${model.name}`,
    version: "001",
    displayName: model.displayName,
    description: `${model.displayName}, as the emulator has it.`,
    inputTokenLimit: model.inputTokenLimit,
    outputTokenLimit: model.outputTokenLimit,
    supportedGenerationMethods: model.methods.filter((method) => !UNLISTED_METHODS.includes(method)),
    temperature: 1,
    topP: 0.95,
    topK: 64,
    maxTemperature: 2,
    ...(model.thinking ? { thinking: true } : {}),
  };
}
