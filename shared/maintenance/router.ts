import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { type NoteError, PROJECT_CALLER } from "../contract/note_error.ts";
import { errorHeaders } from "../http/error_headers.ts";
import { errorJson } from "../http/error_json.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
} from "../http/function_shell.ts";
import { parseJson } from "../http/json.ts";
import { jsonResponse } from "../http/json_response.ts";
import { connectSchedule } from "./connect.ts";
import { type HostCheck, LONGEST_HOLD_MS } from "./host_check.ts";
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
  /** Answers `GET /metrics`, and checks its credential itself. */
  metrics: (request: Request) => Promise<Response>;
  hostCheck: HostCheck;
  /** Lets a run go on when the client has gone. The promise must not reject. */
  background: (work: Promise<void>) => void;
  noteError?: NoteError;
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

/** The body of a request to be held; `POST /check` takes the id of one that was. */
const holdBody = z.strictObject({ id: z.uuid(), ms: z.int().min(1).max(LONGEST_HOLD_MS) });
const checkBody = z.strictObject({ held: z.uuid().optional() });

/**
 * `POST /<operation>` runs an operation and answers how it went: 200 with `succeeded` or `skipped`, an error with `failed`.
 * `POST /connect` stores where the schedule finds this function, `GET /metrics` shows the figures, `POST /check` tells of the host,
 * and `POST /check/hold` keeps its client waiting to see whether the host notices that it leaves.
 */
export function createMaintenanceRouter(
  options: FunctionOptions<MaintenanceDependencies>,
): (request: Request) => Promise<Response> {
  const { clock, log } = options;
  const ofProject = new WeakSet<FunctionRequest>();
  return createFunction(options, {
    maxBodyBytes: MAX_BODY_BYTES,
    cors: null,
    noteError: (error, received, { noteError }) =>
      noteError?.(error, ofProject.has(received) ? PROJECT_CALLER : null),
    routes(app, dependencies) {
      const { operations, operationDependencies, project, metrics, background, authorise, hostCheck } =
        dependencies;
      // The metrics check their own credential, which may be another one.
      app.get(METRICS_PATH, ({ env: { request } }) => metrics(request));
      // Also for paths that do not exist: a stranger learns nothing.
      app.use("*", async ({ env: received }, next) => {
        await authorise(received.request);
        ofProject.add(received);
        await next();
      });
      app.post("/connect", async ({ env: { requestId } }) => {
        const done = await connectSchedule(operationDependencies, project);
        return jsonResponse(200, { status: "connected", ...done }, requestId);
      });
      app.post("/check", async ({ env: received }) => {
        const { held } = await readBody(received, checkBody);
        const facts = held === undefined ? await hostCheck.facts() : { held: hostCheck.held(held) };
        return jsonResponse(200, facts, received.requestId);
      });
      app.post("/check/hold", async ({ env: received }) => {
        const { id, ms } = await readBody(received, holdBody);
        return jsonResponse(
          200,
          { held: await hostCheck.hold(id, ms, received.request.signal) },
          received.requestId,
        );
      });
      app.post("/:operation", async ({ env: received, req }) => {
        const name = req.param("operation");
        const operation = operations.find((one) => one.name === name);
        if (operation === undefined) {
          throw new GatewayError("not_found", {
            message: `There is no operation "${name.slice(0, 40)}". There are: ${
              operations.map((one) => one.name).join(", ")
            }.`,
          });
        }
        const { source, time_limit_ms } = await readBody(received, runBody);
        const run = runOperation(operation, { source, timeLimitMs: time_limit_ms ?? null }, {
          ...operationDependencies,
          clock,
          log,
        });
        background(run.then(() => {}, () => {}));
        const outcome = await run;
        received.attributes = {
          "eve.operation": name,
          ...(outcome.status === "failed" && { "eve.outcome": "failed", "error.type": outcome.error.code }),
        };
        return outcomeResponse(name, outcome, received.requestId);
      });
      app.all("/:operation", ({ env: { path } }) => {
        throw methodNotAllowed([path === METRICS_PATH ? "GET" : "POST"]);
      });
    },
  });
}

/** Nothing at all is an empty object. */
async function readBody<Shape extends z.ZodType>(
  received: FunctionRequest,
  shape: Shape,
): Promise<z.output<Shape>> {
  const bytes = await received.readBytes();
  const isEmpty = new TextDecoder().decode(bytes).trim() === "";
  const body = shape.safeParse(isEmpty ? {} : parseJson(bytes));
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
