import { type Caller, chargedName } from "../contract/caller.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Gateway } from "../contract/gateway.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import { RequestStory } from "../runtime/canonical_log_line.ts";
import { preflight } from "../http/cors.ts";
import { readJsonBody } from "../http/json_body.ts";
import { traceOf, traceResponse } from "../http/trace.ts";
import { WorkBudget } from "../http/work_budget.ts";
import type { Door, Visit } from "./endpoint.ts";
import { refuseNative } from "./native/answer.ts";

/** What stands behind the doors. */
export interface House {
  doors: readonly Door[];
  /** Throws GatewayError for whoever may not come in. */
  identify(request: Request): Promise<Caller>;
  gateway: Gateway;
  maxBodyBytes: number;
  /** Hears of every error that is answered; null: nobody was recognised. Must neither throw nor wait. */
  noteError?(error: GatewayError, caller: Caller | null): void;
}

export interface EntranceOptions {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Puts the house together, at the first request; a failure is answered, and tried again by the next request. */
  open: () => House;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/**
 * Where every request comes in: finds its door, learns who calls, and answers whatever goes wrong in that door's own form.
 * Nothing of the body is read before the caller is known.
 */
export function createEntrance(options: EntranceOptions): (request: Request) => Promise<Response> {
  let house: House | null = null;
  let budget: WorkBudget | null = null;
  const confirmations: Confirmations = new Map();
  return async (request) => {
    if (request.method === "OPTIONS") return preflight(request);
    const { clock, log } = options;
    const receivedAt = clock.now();
    const trace = traceOf(request);
    const story = new RequestStory({ trace, log, clock, receivedAt });
    const arrival: Arrival = { requestId: options.newId(), receivedAt, door: null, caller: null, story };
    let error: GatewayError | null = null;
    let response: Response;
    try {
      house ??= options.open();
      budget ??= new WorkBudget(house.maxBodyBytes);
      response = await receive(house, { budget, confirmations }, options, request, arrival);
    } catch (thrown) {
      error = asGatewayError(thrown);
      house?.noteError?.(error, arrival.caller);
      response = (arrival.door?.refuse ?? refuseNative)(error, arrival.requestId);
    }
    if (trace.parentSpanId !== null) response.headers.set("traceresponse", traceResponse(trace));
    story.answer(response.status, {
      request_id: arrival.requestId,
      "eve.door": arrival.door?.name,
      "eve.consumer": arrival.caller?.name,
      "eve.outcome": error === null ? "succeeded" : "failed",
      "error.type": error?.code,
      // What a client did wrong may repeat its words.
      detail: error !== null && error.status >= 500 ? error.detail : undefined,
    });
    return response;
  };
}

/** What an error response needs to know, learned on the way in. */
interface Arrival {
  requestId: string;
  receivedAt: number;
  door: Door | null;
  caller: Caller | null;
  story: RequestStory;
}

async function receive(
  house: House,
  { budget, confirmations }: { budget: WorkBudget; confirmations: Confirmations },
  { clock, functionName }: EntranceOptions,
  request: Request,
  arrival: Arrival,
): Promise<Response> {
  const path = pathWithin(functionName, request.url);
  const door = house.doors.find((candidate) => candidate.methodsAt(path) !== null);
  if (door === undefined) throw new GatewayError("not_found", { details: { path } });
  arrival.door = door;
  const methods = door.methodsAt(path) ?? [];
  if (!methods.includes(request.method)) {
    throw new GatewayError("method_not_allowed", { headers: { allow: [...methods, "OPTIONS"].join(", ") } });
  }
  const caller = await house.identify(request);
  arrival.caller = caller;
  const { gateway } = house;
  const { receivedAt, story } = arrival;
  const work = budget.begin(chargedName(caller));
  const context = { caller, signal: request.signal, receivedAt, story, onStreamEnd: () => work.end() };
  const confirmCaller = confirmation(caller, gateway, confirmations);
  let streams = false;
  const visit: Visit = {
    request,
    path,
    caller,
    requestId: arrival.requestId,
    adoptRequestId: (id) => {
      arrival.requestId = id;
      visit.requestId = id;
    },
    readJson: () => readJsonBody(request, { maxBytes: house.maxBodyBytes, clock, work, confirmCaller }),
    confirmCaller,
    invoke: (asked) => gateway.invoke(asked, context),
    stream: (asked) => {
      streams = true;
      return gateway.stream(asked, context);
    },
    embed: (asked) => gateway.embed(asked, context),
    countTokens: (asked) => gateway.countTokens(asked, caller),
    models: () => gateway.models(caller),
  };
  try {
    return await door.answer(visit);
  } catch (thrown) {
    streams = false;
    throw thrown;
  } finally {
    // What was asked is needed until the last piece of a stream has gone.
    if (!streams) work.end();
  }
}

/** Questions on their way, by token. */
type Confirmations = Map<string, Promise<unknown>>;

/**
 * A notebook's token is verified without the database, which alone knows whether it was revoked; the others were just asked
 * for. Requests that come while the question is on its way share its answer.
 */
function confirmation(caller: Caller, gateway: Gateway, confirmations: Confirmations): () => Promise<void> {
  let asked: Promise<unknown> | null = null;
  return async () => {
    const { kind, tokenId } = caller;
    if (kind !== "notebook" || tokenId === null) return;
    await (asked ??= confirmations.get(tokenId) ?? ask(tokenId));
  };

  function ask(tokenId: string): Promise<unknown> {
    const answer = gateway.models(caller).finally(() => confirmations.delete(tokenId));
    confirmations.set(tokenId, answer);
    return answer;
  }
}

/** The path below the function's own, without a slash at its end: `/` for the function itself. */
export function pathWithin(functionName: string, url: string): string {
  const segments = pathOf(url).split("/").filter((segment) => segment !== "");
  return `/${segments.slice(segments.indexOf(functionName) + 1).join("/")}`;
}

/** Plain addresses, as nearly all are, in which parsing would change nothing; others are parsed. */
const PLAIN_ADDRESS = /^https?:\/\/[^/?#]+((?:\/[\w~:-][\w~:.-]*)*\/?)(?:\?[^#]*)?$/;

function pathOf(url: string): string {
  return PLAIN_ADDRESS.exec(url)?.[1] ?? new URL(url).pathname;
}
