import type { Clock } from "../../runtime/clock.ts";
import { GatewayError } from "../../contract/gateway_error.ts";
import type { GatewayRequest } from "../../contract/request.ts";
import { traceIdOf } from "../../http/trace.ts";
import type { JobService } from "../../stages/job_service.ts";
import type { ResolveStage, ServedStage } from "../../stages/resolve_stage.ts";
import { isStageName, stageTypeOf } from "../../stages/stage_name.ts";
import { errorResponse } from "../../http/function_shell.ts";
import type { Endpoint, EndpointRoute, RequestContext } from "../endpoint.ts";
import { encodeNative } from "./answer.ts";
import { encodeContent, encodeJob } from "./jobs.ts";
import { decodeNative } from "./request.ts";
import { streamNative } from "./stream.ts";
import { invalidRequest } from "../validated.ts";

export interface NativeEndpointOptions {
  /** The most that a caller may ask to wait. */
  maxWaitMs: number;
  /** Milliseconds since the epoch. */
  now?: () => number;
  /** Who serves a stage. Absent: there are no stages here. */
  resolveStage?: ResolveStage;
  /** Where stages that make no text submit their jobs. Absent: there are none. */
  jobs?: NativeJobs;
}

export interface NativeJobs {
  service: JobService;
  /** The address at which this function answers about jobs, without their ids. */
  url: string;
  clock: Clock;
}

/** The gateway's own JSON, at the function's root: whole, or as a stream of events. */
export function nativeEndpoint(
  { maxWaitMs, now = Date.now, resolveStage, jobs }: NativeEndpointOptions,
): Endpoint {
  return {
    name: "native",
    routes: [{ path: "/", methods: ["POST"], serve: call }, ...(jobs === undefined ? [] : jobRoutes(jobs))],
    errorResponse,
  };

  async function call(context: RequestContext): Promise<Response> {
    const { request, stream } = decodeNative(await context.readJson(), {
      newId: context.requestId,
      traceId: traceIdOf(context.request),
      maxWaitMs,
    });
    context.adoptRequestId(request.id);
    const stage = await stageOf(request);
    if (stage === null) return await ofModel(context, request, stream);
    const { stageType, source, providerKind } = stage;
    const staged = { ...request, models: [stage.model], excludeKeys: stage.excludeKeys };
    if (stage.produces !== "text") return withStage(await submitted(context, staged, stage, stream), stage);
    const facts = { stage: { stage_type: stageType, source, provider_kind: providerKind } };
    return withStage(await ofModel(context, staged, stream, facts), stage);
  }

  /** Null: the request names models. A stage among models is refused by the gateway, which knows stages too. */
  async function stageOf({ models: [name, ...others] }: GatewayRequest): Promise<ServedStage | null> {
    if (name === undefined || others.length > 0 || !isStageName(name)) return null;
    if (resolveStage === undefined) {
      throw new GatewayError("unknown_stage", { message: "This gateway has no stages." });
    }
    return await resolveStage(stageTypeOf(name));
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
    const job = await jobs.service.submit(request, stage, invokeContext);
    return encodeJob(job, { requestId, jobsUrl: jobs.url, status: 202 });
  }

  async function ofModel(
    context: RequestContext,
    request: GatewayRequest,
    stream: boolean,
    facts: Record<string, unknown> = {},
  ): Promise<Response> {
    if (stream) return await streamNative(context.stream(request), { requestId: request.id, now });
    return encodeNative(await context.invoke(request), facts);
  }
}

const JOB_PATH = "/jobs/:id{[0-9a-f-]{36}}";

function jobRoutes({ service, url }: NativeJobs): EndpointRoute[] {
  return [{
    path: JOB_PATH,
    methods: ["GET"],
    async serve({ caller, requestId, param }) {
      return encodeJob(await service.find(param("id"), caller), { requestId, jobsUrl: url });
    },
  }, {
    path: `${JOB_PATH}/content`,
    methods: ["GET"],
    async serve({ caller, requestId, param }) {
      return encodeContent(await service.content(param("id"), caller), requestId);
    },
  }];
}

/** Says which stage it was, and whether a person or the environment chose what serves it. */
function withStage(response: Response, { stageType, source }: ServedStage): Response {
  response.headers.set("x-eve-stage", stageType);
  response.headers.set("x-eve-stage-source", source);
  return response;
}
