import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { functionName, functionUrl } from "../../../shared/runtime/function_names.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { createTelegramRows } from "../../../shared/database/posts/telegram.ts";
import { openTransport } from "../../../shared/database/transport/open_transport.ts";
import { workerCall } from "../../../shared/calls/worker_call.ts";
import { requireSecretKey } from "../../../shared/identity/require_secret_key.ts";
import { countingWrong } from "../../../shared/identity/wrong_credentials.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { openBot } from "../../../shared/telegram/open.ts";
import { createTelegramEndpoint } from "../../../shared/telegram/telegram_endpoint.ts";

const newId = () => crypto.randomUUID();
const variable = (name: string) => Deno.env.get(name);
const log = createLog(variable("EVE_LOG_LEVEL"));

async function open() {
  const settings = readSettings(variable);
  const { project, databaseKey, rpcTimeoutMs } = settings;
  const { call } = openTransport(settings);
  const access = createAccess(call, rpcTimeoutMs);
  return {
    bot: await openBot(variable, { fetch, clock }),
    rows: createTelegramRows(call),
    webhookUrl: functionUrl(project.url, "telegram"),
    authorise: (request: Request) =>
      countingWrong(request, "telegram", access, () => requireSecretKey(request, project)),
    counting: (request: Request, verify: () => Promise<void>) =>
      countingWrong(request, "telegram", access, verify),
    wake: workerCall(fetch, functionUrl(project.url, "worker"), databaseKey, log),
    background,
    noteError: badRequestCounter({ count: countBadRequests(call), clock, background, log }),
  };
}

export default {
  fetch: createTelegramEndpoint({ functionName: functionName("telegram"), open, clock, newId, log }),
};
