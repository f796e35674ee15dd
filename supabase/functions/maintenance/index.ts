import { systemClock as clock } from "../../../shared/contract/clock.ts";
import { createLog } from "../../../shared/contract/log.ts";
import { edgeBackground as background } from "../../../shared/gateway/background.ts";
import { environmentSecrets } from "../../../shared/gateway/secrets.ts";
import { readSettings } from "../../../shared/gateway/settings.ts";
import { requireSecretKey } from "../../../shared/identity/require_secret_key.ts";
import { rpcTransport } from "../../../shared/ledger/rpc_transport.ts";
import { alertChannels, alertsOperation } from "../../../shared/maintenance/alerts.ts";
import { createMaintenanceEntrance } from "../../../shared/maintenance/entrance.ts";
import { keyHealth } from "../../../shared/maintenance/key_health.ts";
import { metricsHandler } from "../../../shared/maintenance/metrics.ts";
import { modelsSync } from "../../../shared/maintenance/models_sync.ts";
import { SQL_OPERATIONS } from "../../../shared/maintenance/sql_operation.ts";
import { googleKeyInspector } from "../../../shared/providers/google_keys.ts";

const variable = (name: string) => Deno.env.get(name);
const log = createLog(variable("EVE_LOG_LEVEL"));

function open() {
  const { project, databaseKey, googleBaseUrl } = readSettings(variable);
  const call = rpcTransport({ url: project.url, secretKey: databaseKey });
  const authorise = (request: Request) => requireSecretKey(request, project);
  const alerts = alertsOperation(alertChannels(variable, new URL(project.url).host));
  return {
    operations: [...SQL_OPERATIONS, keyHealth, modelsSync, alerts],
    surroundings: {
      call,
      fetch,
      secrets: environmentSecrets(variable),
      providers: { google: googleKeyInspector({ baseUrl: googleBaseUrl }) },
    },
    project: { url: project.url, secretKey: databaseKey },
    authorise,
    metrics: metricsHandler({
      call,
      metricsKey: variable("EVE_METRICS_KEY")?.trim() || null,
      authorise,
      log,
    }),
    background,
  };
}

const newId = () => crypto.randomUUID();

export default {
  fetch: createMaintenanceEntrance({ functionName: "maintenance", open, clock, newId, log }),
};
