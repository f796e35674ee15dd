import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { functionName } from "../../../shared/runtime/function_names.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { networkOf } from "../../../shared/http/outgoing/runtime_network.ts";
import { requireSecretKey } from "../../../shared/identity/require_secret_key.ts";
import { countingWrong } from "../../../shared/identity/wrong_credentials.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { openWorker } from "../../../shared/jobs/open_worker.ts";
import { createWorkerEndpoint } from "../../../shared/jobs/worker_endpoint.ts";

const newId = () => crypto.randomUUID();
const variable = (name: string) => Deno.env.get(name);
const createClient = (options: { caCerts: string[] }) => Deno.createHttpClient(options);
const log = createLog(variable("EVE_LOG_LEVEL"));

const { resolve, connect } = networkOf(Deno);

function open() {
  const settings = readSettings(variable);
  const { project, databaseKey, rpcTimeoutMs } = settings;
  const call = rpcTransport({ url: project.url, secretKey: databaseKey });
  const access = createAccess(call, rpcTimeoutMs);
  const worker = openWorker({
    place: "edge",
    settings,
    read: variable,
    fetch,
    createClient,
    resolve,
    connect,
    clock,
    newId,
    log,
  });
  // The runtime is about to end this process.
  addEventListener("beforeunload", worker.leave);
  return {
    authorise: (request: Request) =>
      countingWrong(request, "worker", access, () => requireSecretKey(request, project)),
    work: worker.work,
    background,
    noteError: badRequestCounter({ count: countBadRequests(call), clock, background, log }),
  };
}

export default {
  fetch: createWorkerEndpoint({ functionName: functionName("worker"), open, clock, newId, log }),
};
