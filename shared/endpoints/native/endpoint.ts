import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import type { ServedStage } from "../../contract/target.ts";
import { traceIdOf } from "../../http/trace.ts";
import { errorResponse } from "../../http/function_shell.ts";
import type { Endpoint, RequestContext } from "../endpoint.ts";
import { encodeNative } from "./answer.ts";
import type { Answering } from "../../chats/answering.ts";
import { answeredInChat } from "./chat_answers.ts";
import { jobRoutes, type NativeJobs, queued } from "./job_routes.ts";
import { encodeJob } from "./jobs.ts";
import { decodeNative, type NativeChat } from "./request.ts";
import { streamNative } from "./stream.ts";
import { invalidRequest } from "../validated.ts";

export interface NativeEndpointOptions {
  /** The most that a caller may ask to wait. */
  maxWaitMs: number;
  /** Milliseconds since the epoch. */
  now?: () => number;
  /** Where calls wait that nobody waits for, and stages that make no text submit their jobs. Absent: there are none. */
  jobs?: NativeJobs;
  /** Answers in chats. Absent: there are none. */
  answering?: Answering;
}

/** The gateway's own JSON, at the function's root: whole, or as a stream of events. */
export function nativeEndpoint(
  { maxWaitMs, now = Date.now, jobs, answering }: NativeEndpointOptions,
): Endpoint {
  return {
    name: "native",
    routes: [
      { path: "/", methods: ["POST"], serve: call },
      ...(jobs === undefined ? [] : jobRoutes(jobs, maxWaitMs)),
    ],
    errorResponse,
  };

  async function call(context: RequestContext): Promise<Response> {
    const body = await context.readJson();
    const { request: asked, target, stream, queue, webhookUrl, chat } = decodeNative(body, {
      newId: context.requestId,
      traceId: traceIdOf(context.request),
      maxWaitMs,
    });
    context.adoptRequestId(asked.id);
    const request = { ...asked, ...await context.resolve(target) };
    const { stage } = request;
    if (queue) return await queued(jobs, context, body, request, webhookUrl);
    if (stage === null) return await answered(context, request, stream, chat);
    if (stage.produces !== "text" && chat !== null) {
      throw invalidRequest([{ field: "chat_id", problem: `a ${stage.produces} is a job: leave this out` }]);
    }
    if (stage.produces !== "text") return withStage(await submitted(context, request, stage, stream), stage);
    const { stageType, source, providerKind } = stage;
    const facts = { stage: { stage_type: stageType, source, provider_kind: providerKind } };
    return withStage(await answered(context, request, stream, chat, facts), stage);
  }

  async function submitted(
    context: RequestContext,
    request: GatewayRequest,
    stage: ServedStage,
    stream: boolean,
  ): Promise<Response> {
    if (jobs === undefined) {
      throw new GatewayError("unknown_stage", { message: `This gateway makes no ${stage.produces}.` });
    }
    if (stream) {
      throw invalidRequest([{
        field: "stream",
        problem: `a ${stage.produces} is a job: leave this out, and ask for the job`,
      }]);
    }
    const { caller, requestId, request: { signal } } = context;
    const invokeContext = { caller, signal, receivedAt: jobs.clock.now() };
    const job = await jobs.service.submit(request, stage, invokeContext, context.jobId);
    return encodeJob(job, { requestId, jobsUrl: jobs.url, status: 202 });
  }

  async function answered(
    context: RequestContext,
    request: GatewayRequest,
    stream: boolean,
    chat: NativeChat | null,
    facts: Record<string, unknown> = {},
  ): Promise<Response> {
    if (chat !== null) {
      return await answeredInChat(answering, context, request, chat, { stream, now, facts });
    }
    if (stream) return await streamNative(context.stream(request), { requestId: request.id, now });
    return encodeNative(await context.invoke(request), facts);
  }
}

/** Says which stage it was, and whether a person or the environment chose what serves it. */
function withStage(response: Response, { stageType, source }: ServedStage): Response {
  response.headers.set("x-eve-stage", stageType);
  response.headers.set("x-eve-stage-source", source);
  return response;
}
