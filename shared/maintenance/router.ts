import { Hono } from "hono";
import { z } from "zod";
import type { Clock } from "../runtime/clock.ts";
import { asGatewayError, GatewayError } from "../contract/gateway_error.ts";
import type { Log } from "../runtime/log.ts";
import { BODY_TIMEOUT_MS, readBody } from "../http/body.ts";
import { errorHeaders } from "../http/error_headers.ts";
import { errorJson } from "../http/error_json.ts";
import { parseJson } from "../http/json.ts";
import { jsonResponse } from "../http/json_response.ts";
import { connectSchedule } from "./connect.ts";
import type { Operation } from "./operation.ts";
import { type OperationDependencies, runOperation, type RunOutcome } from "./run_operation.ts";

/** What the function works with. */
export interface MaintenanceDependencies {
  operations: readonly Operation[];
  operationDependencies: Omit<OperationDependencies, "clock" | "log">;
  /** This project, as the schedule is to call it. */
  project: { url: string; secretKey: string };
  /** Throws GatewayError for a request without the project's secret key. */
  authorise(request: Request): Promise<void>;
  /** Answers `GET /metrics`, and checks its credential itself; absent: there are no metrics. */
  metrics?: (request: Request) => Promise<Response>;
  /** Lets a run go on when the client has gone. The promise must not reject. */
  background: (work: Promise<void>) => void;
}

export interface MaintenanceRouterOptions {
  /** The first part of every path, as hosted functions see it. */
  functionName: string;
  /** Makes the dependencies at the first request; a failure is answered, and the next request tries again. */
  open: () => MaintenanceDependencies;
  clock: Clock;
  newId: () => string;
  log: Log;
}

/** A request is an operation's name and two numbers. */
const MAX_BODY_BYTES = 16 * 1024;

const METRICS_PATH = "/metrics";

/** The body of a request for a run. */
const runBody = z.strictObject({
  /** Who asks, for the log. */
  source: z.string().regex(/^[\w .:-]{1,40}$/, "1 to 40 letters, digits, blanks or _ . : -").default("http"),
  time_limit_ms: z.int().min(1_000).max(120_000).optional(),
});

/**
 * `POST /<operation>` runs an operation and answers how it went: 200 with `succeeded` or `skipped`, an error with `failed`.
 * `POST /connect` stores where the schedule finds this function, `GET /metrics` shows the figures.
 */
export function createMaintenanceRouter(
  options: MaintenanceRouterOptions,
): (request: Request) => Promise<Response> {
  const { functionName, clock, log } = options;
  let dependencies: MaintenanceDependencies | null = null;
  const app = new Hono<{ Variables: { requestId: string; dependencies: MaintenanceDependencies } }>()
    .basePath(`/${functionName}`);

  // Also for paths that do not exist: a stranger learns nothing.
  app.use("*", async (context, next) => {
    context.set("requestId", options.newId());
    dependencies ??= options.open();
    context.set("dependencies", dependencies);
    // The metrics check their own credential, which may be another one.
    const checksItself = dependencies.metrics !== undefined && context.req.method === "GET" &&
      context.req.path === `/${functionName}${METRICS_PATH}`;
    if (!checksItself) await dependencies.authorise(context.req.raw);
    await next();
  });
  app.get(METRICS_PATH, async (context) => {
    const { metrics } = context.get("dependencies");
    if (metrics === undefined) throw new GatewayError("not_found");
    return await metrics(context.req.raw);
  });
  app.post("/connect", async (context) => {
    const { project, operationDependencies } = context.get("dependencies");
    const done = await connectSchedule(operationDependencies, project);
    return jsonResponse(200, { status: "connected", ...done }, context.get("requestId"));
  });
  app.post("/:operation", async (context) => {
    const { operations, operationDependencies, background } = context.get("dependencies");
    const name = context.req.param("operation");
    const operation = operations.find((one) => one.name === name);
    if (operation === undefined) {
      throw new GatewayError("not_found", {
        message: `There is no operation "${name.slice(0, 40)}". There are: ${
          operations.map((one) => one.name).join(", ")
        }.`,
      });
    }
    const { source, time_limit_ms } = await readRunBody(context.req.raw, clock);
    const run = runOperation(operation, { source, timeLimitMs: time_limit_ms ?? null }, {
      ...operationDependencies,
      clock,
      log,
    });
    background(run.then(() => {}, () => {}));
    return outcomeResponse(name, await run, context.get("requestId"));
  });
  app.all("/:operation", (context) => {
    const allow = context.req.path.endsWith(METRICS_PATH) ? "GET" : "POST";
    throw new GatewayError("method_not_allowed", { headers: { allow } });
  });
  app.notFound(() => {
    throw new GatewayError("not_found");
  });
  app.onError((thrown, context) => {
    const error = asGatewayError(thrown);
    const requestId = context.get("requestId") ?? options.newId();
    if (error.status >= 500) {
      log("error", "maintenance_request_failed", {
        request_id: requestId,
        code: error.code,
        detail: error.detail,
      });
    }
    return jsonResponse(
      error.status,
      { error: errorJson(error, requestId) },
      requestId,
      errorHeaders(error),
    );
  });
  return async (request) => await app.fetch(request);
}

async function readRunBody(request: Request, clock: Clock): Promise<z.output<typeof runBody>> {
  const bytes = await readBody(request, { maxBytes: MAX_BODY_BYTES, timeoutMs: BODY_TIMEOUT_MS, clock });
  if (new TextDecoder().decode(bytes).trim() === "") return runBody.parse({});
  const body = runBody.safeParse(parseJson(bytes));
  if (body.success) return body.data;
  throw new GatewayError("invalid_request", {
    details: body.error.issues.map((issue) => ({ field: issue.path.join("."), problem: issue.message })),
  });
}

function outcomeResponse(operation: string, outcome: RunOutcome, requestId: string): Response {
  switch (outcome.status) {
    case "skipped":
      return jsonResponse(200, { operation, ...outcome }, requestId);
    case "succeeded": {
      const { runId, ...rest } = outcome;
      return jsonResponse(200, { operation, run_id: runId, ...rest }, requestId);
    }
    case "failed": {
      const { error, runId, status } = outcome;
      // The holder of the project's secret key may read why: the log says the same.
      const why = error.detail ?? error.publicMessage;
      const body = {
        operation,
        run_id: runId,
        status,
        error: { ...errorJson(error, requestId), detail: why },
      };
      return jsonResponse(error.status, body, requestId, errorHeaders(error));
    }
  }
}
