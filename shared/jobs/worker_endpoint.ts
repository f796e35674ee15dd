import { type NoteError, PROJECT_CALLER } from "../contract/note_error.ts";
import {
  createFunction,
  type FunctionOptions,
  type FunctionRequest,
  methodNotAllowed,
} from "../http/function_shell.ts";
import { jsonResponse } from "../http/json_response.ts";
import type { Background } from "../runtime/background.ts";

export interface WorkerEndpointDependencies {
  /** Throws GatewayError for a request without the project's secret key. */
  authorise(request: Request): Promise<void>;
  /** One worker's life. Must not reject. */
  work(): Promise<void>;
  background: Background;
  noteError?: NoteError;
}

/** A call says that there is something to do, and no more. */
const MAX_BODY_BYTES = 16 * 1024;

/** `POST /` wakes a worker: answered at once with 202, and worked on after that. For the project's secret key alone. */
export function createWorkerEndpoint(
  options: FunctionOptions<WorkerEndpointDependencies>,
): (request: Request) => Promise<Response> {
  const ofProject = new WeakSet<FunctionRequest>();
  return createFunction(options, {
    maxBodyBytes: MAX_BODY_BYTES,
    cors: null,
    noteError: (error, received, { noteError }) =>
      noteError?.(error, ofProject.has(received) ? PROJECT_CALLER : null),
    routes(app, { authorise, work, background }) {
      // Also for paths that do not exist: a stranger learns nothing.
      app.use("*", async ({ env: received }, next) => {
        await authorise(received.request);
        ofProject.add(received);
        await next();
      });
      app.post("/", ({ env: { requestId } }) => {
        background(work());
        return jsonResponse(202, { status: "woken" }, requestId);
      });
      app.all("/", () => {
        throw methodNotAllowed(["POST"]);
      });
    },
  });
}
