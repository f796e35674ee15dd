import { systemClock as clock } from "../../../shared/contract/clock.ts";
import { consoleLog as log } from "../../../shared/contract/log.ts";
import { edgeBackground as background } from "../../../shared/gateway/background.ts";
import { environmentSecrets } from "../../../shared/gateway/secrets.ts";
import { readSettings } from "../../../shared/gateway/settings.ts";
import { requireSecretKey } from "../../../shared/identity/require_secret_key.ts";
import { rpcTransport } from "../../../shared/ledger/rpc_transport.ts";
import { createMaintenanceEntrance } from "../../../shared/maintenance/entrance.ts";
import { keyHealth } from "../../../shared/maintenance/key_health.ts";
import { modelsSync } from "../../../shared/maintenance/models_sync.ts";
import { SQL_OPERATIONS } from "../../../shared/maintenance/sql_operation.ts";
import { googleKeyInspector } from "../../../shared/providers/google_keys.ts";

const variable = (name: string) => Deno.env.get(name);

function open() {
  const { project, databaseKey, googleBaseUrl } = readSettings(variable);
  return {
    operations: [...SQL_OPERATIONS, keyHealth, modelsSync],
    surroundings: {
      call: rpcTransport({ url: project.url, secretKey: databaseKey }),
      fetch,
      secrets: environmentSecrets(variable),
      providers: { google: googleKeyInspector({ baseUrl: googleBaseUrl }) },
    },
    project: { url: project.url, secretKey: databaseKey },
    authorise: (request: Request) => requireSecretKey(request, project),
    background,
  };
}

const newId = () => crypto.randomUUID();

export default {
  fetch: createMaintenanceEntrance({ functionName: "maintenance", open, clock, newId, log }),
};
