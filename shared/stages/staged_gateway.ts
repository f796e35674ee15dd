import type { Gateway } from "../contract/gateway.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayEvent } from "../contract/events.ts";
import type { Asked } from "../contract/request.ts";
import type { ResolveStage } from "./resolve_stage.ts";
import { isStageName, stageTypeOf } from "./stage_name.ts";

/**
 * A gateway that knows stages: where `stage:POEM` stands for a model, at whichever door, the stage is looked up, and its key
 * alone serves. Requests for models go straight through.
 */
export function stagedGateway(gateway: Gateway, resolve: ResolveStage): Gateway {
  return {
    ...gateway,
    async invoke(request, context) {
      return await gateway.invoke(isStaged(request) ? await ofItsStage(request, resolve) : request, context);
    },
    stream(request, context) {
      if (!isStaged(request)) return gateway.stream(request, context);
      return staged(async () => gateway.stream(await ofItsStage(request, resolve), context));
    },
    async embed(request, context) {
      return await gateway.embed(isStaged(request) ? await ofItsStage(request, resolve) : request, context);
    },
  };
}

/** Named as a stage, and not looked up yet. */
function isStaged({ models, excludeKeys }: Asked): boolean {
  return excludeKeys === undefined && models.some(isStageName);
}

async function ofItsStage<Request extends Asked>(request: Request, resolve: ResolveStage): Promise<Request> {
  const [name, ...others] = request.models;
  if (name === undefined || others.length > 0) {
    throw new GatewayError("invalid_request", {
      message: "A stage stands alone: leave the other models out, or the stage.",
    });
  }
  const stage = await resolve(stageTypeOf(name));
  if (stage.produces !== "text") {
    throw new GatewayError("invalid_request", {
      message:
        `Stage ${stage.stageType} makes no text but a ${stage.produces}, as a job: ask for it with "stage" at llm-invoke itself.`,
    });
  }
  return { ...request, models: [stage.model], excludeKeys: stage.excludeKeys };
}

async function* staged(
  begin: () => Promise<AsyncIterable<GatewayEvent>>,
): AsyncGenerator<GatewayEvent, void, void> {
  yield* await begin();
}
