import type { Gateway } from "../contract/gateway.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import type { GatewayEvent } from "../contract/events.ts";
import type { Asked, InvokeContext } from "../contract/request.ts";
import type { Stages } from "../database/stages.ts";
import { PROVIDER_DEFINITIONS } from "./provider_definitions.ts";
import type { ResolveStage } from "./resolve_stage.ts";
import { isStageName, stageTypeOf } from "./stage_name.ts";

/**
 * A gateway that knows stages: where `stage:POEM` stands for a model, at whichever endpoint, the stage is looked up, and its key
 * alone serves. And a consumer who names the model of another provider is not served by a stage's key: that is there for its
 * stage, and often paid for. Requests for Google's models go straight through.
 */
export function stagedGateway(
  gateway: Gateway,
  resolve: ResolveStage,
  stages: Pick<Stages, "ownKeys">,
): Gateway {
  return {
    ...gateway,
    async invoke(request, context) {
      return await gateway.invoke(await readied(request, context), context);
    },
    stream(request, context) {
      if (isReady(request, context)) return gateway.stream(request, context);
      return staged(async () => gateway.stream(await readied(request, context), context));
    },
    async embed(request, context) {
      return await gateway.embed(await readied(request, context), context);
    },
  };

  async function readied<Request extends Asked>(request: Request, context: InvokeContext): Promise<Request> {
    if (isReady(request, context)) return request;
    if (request.models.some(isStageName)) return await ofItsStage(request, resolve);
    return { ...request, excludeKeys: await stages.ownKeys() };
  }
}

/** There is no stage to look up, or it has been looked up. */
function isReady({ models, excludeKeys }: Asked, { caller }: InvokeContext): boolean {
  if (excludeKeys !== undefined) return true;
  return !models.some(isStageName) && (caller.consumerId === null || !models.some(isOtherProviders));
}

/** Google's models have no provider before their names; those of the others do. */
function isOtherProviders(model: string): boolean {
  const [kind, ...rest] = model.split("/");
  return rest.length > 0 && kind !== undefined && kind in PROVIDER_DEFINITIONS;
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
