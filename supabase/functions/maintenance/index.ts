import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { functionName } from "../../../shared/runtime/function_names.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { environmentSecrets } from "../../../shared/runtime/secrets.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { requireSecretKey } from "../../../shared/identity/require_secret_key.ts";
import { countingWrong } from "../../../shared/identity/wrong_credentials.ts";
import { measureConnection } from "../../../shared/database/maintenance/connections.ts";
import { createMaintenanceLedger } from "../../../shared/database/maintenance/maintenance.ts";
import { createHostCheck } from "../../../shared/maintenance/host_check.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { eventHandlers } from "../../../shared/events/open.ts";
import { networkOf } from "../../../shared/http/outgoing/runtime_network.ts";
import { createStages } from "../../../shared/database/stages.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { alertChannels, alertsOperation } from "../../../shared/maintenance/alerts/alerts.ts";
import { eventsOperation } from "../../../shared/maintenance/events.ts";
import { createMaintenanceRouter } from "../../../shared/maintenance/router.ts";
import { keyHealth } from "../../../shared/maintenance/key_health.ts";
import { mediaOperations } from "../../../shared/maintenance/media.ts";
import { metricsHandler } from "../../../shared/maintenance/metrics.ts";
import { modelsSync } from "../../../shared/maintenance/models_sync.ts";
import { neo4jSettings } from "../../../shared/graph/neo4j.ts";
import { neo4jOperation } from "../../../shared/maintenance/neo4j.ts";
import { traceExport, tracesOperation } from "../../../shared/maintenance/traces.ts";
import { SQL_OPERATIONS } from "../../../shared/maintenance/sql_operation.ts";
import { providersSync } from "../../../shared/maintenance/providers_sync.ts";
import { openMedia } from "../../../shared/media/open.ts";
import { providerRegistry } from "../../../shared/providers/registry.ts";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../../../shared/secrets/key_encryption.ts";
import { storedKeys } from "../../../shared/stages/stored_keys.ts";

const variable = (name: string) => Deno.env.get(name);
const createClient = (options: { caCerts: string[] }) => Deno.createHttpClient(options);
const network = { fetch, ...networkOf(Deno) };
const log = createLog(variable("EVE_LOG_LEVEL"));

function open() {
  const { project, databaseKey, googleBaseUrl, rpcTimeoutMs } = readSettings(variable);
  const direct = variable("SUPABASE_DB_URL") ?? null;
  const call = rpcTransport({ url: project.url, secretKey: databaseKey });
  const access = createAccess(call, rpcTimeoutMs);
  const authorise = (request: Request) =>
    countingWrong(request, "maintenance", access, () => requireSecretKey(request, project));
  const gateway = new URL(project.url).host;
  const alerts = alertsOperation(alertChannels(variable, gateway));
  const events = eventsOperation(() =>
    eventHandlers({ read: variable, gateway, network, clock, now: Date.now })
  );
  const traces = tracesOperation(() => traceExport(variable, gateway));
  const neo4j = neo4jOperation(() => neo4jSettings(variable));
  const encryption = () => createKeyEncryption(variable(ADMIN_SECRET_VARIABLE));
  const stages = providersSync({ encryption, read: variable });
  const files = mediaOperations(() =>
    openMedia({
      read: variable,
      call,
      projectUrl: project.url,
      secrets: [databaseKey],
      fetch,
      clock,
      background,
      log,
      now: Date.now,
      random: Math.random,
    }).media
  );
  return {
    operations: [...SQL_OPERATIONS, keyHealth, modelsSync, alerts, events, traces, neo4j, stages, ...files],
    operationDependencies: {
      call,
      fetch,
      secrets: environmentSecrets(variable),
      storedKeys: storedKeys(createStages(call), encryption, variable),
      providers: providerRegistry({ googleBaseUrl, read: variable, createClient }),
    },
    project: { url: project.url, secretKey: databaseKey },
    authorise,
    hostCheck: createHostCheck({
      now: () => performance.now(),
      instance: newId(),
      runtime: {
        version: Deno.version?.deno,
        resolve: network.resolve,
        connects: network.connect !== undefined,
        waitsUntil: "EdgeRuntime" in globalThis,
        memoryBytes: typeof Deno.memoryUsage === "function" ? () => Deno.memoryUsage().rss : undefined,
      },
      ask: () => createMaintenanceLedger(call).keysToCheck(),
      connect: direct === null ? null : (times) => measureConnection(direct, () => performance.now(), times),
    }),
    metrics: metricsHandler({
      call,
      metricsKey: variable("EVE_METRICS_KEY")?.trim() || null,
      authorise,
      log,
    }),
    background,
    noteError: badRequestCounter({ count: countBadRequests(call), clock, background, log }),
  };
}

const newId = () => crypto.randomUUID();

export default {
  fetch: createMaintenanceRouter({ functionName: functionName("maintenance"), open, clock, newId, log }),
};
