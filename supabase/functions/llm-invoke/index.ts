import { systemClock } from "../../../shared/runtime/clock.ts";
import { functionName } from "../../../shared/runtime/function_names.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { createRouter } from "../../../shared/endpoints/router.ts";
import { openCalls } from "../../../shared/calls/open_calls.ts";
import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { networkOf } from "../../../shared/http/outgoing/runtime_network.ts";
import { identify } from "../../../shared/identity/identify.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { readSigningKeys, SIGNING_KEYS_VARIABLE } from "../../../shared/tokens/signing_keys.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";

const clock = systemClock;
const newId = () => crypto.randomUUID();
const variable = (name: string) => Deno.env.get(name);
const createClient = (options: { caCerts: string[] }) => Deno.createHttpClient(options);
const log = createLog(variable("EVE_LOG_LEVEL"));

const { resolve, connect } = networkOf(Deno);

function open() {
  const settings = readSettings(variable);
  const { project, maxBodyBytes, rpcTimeoutMs } = settings;
  const { transport, leave, ...calls } = openCalls({
    settings,
    read: variable,
    fetch,
    createClient,
    resolve,
    connect,
    clock,
    newId,
    background,
    log,
  });
  // The runtime is about to end this process.
  addEventListener("beforeunload", leave);
  const access = createAccess(transport, rpcTimeoutMs);
  const tokens = tokenRules(project.url, readSigningKeys(variable(SIGNING_KEYS_VARIABLE)));
  return {
    ...calls,
    identify: (request: Request) => identify(request, { project, tokens, access, background }),
    maxBodyBytes,
    noteError: badRequestCounter({ count: countBadRequests(transport), clock, background, log }),
  };
}

export default {
  fetch: createRouter({ functionName: functionName("llm-invoke"), open, clock, newId, log }),
};
