import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { functionName } from "../../../shared/runtime/function_names.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { createTokenEndpoint } from "../../../shared/identity/token_endpoint.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { readSigningKeys, SIGNING_KEYS_VARIABLE } from "../../../shared/tokens/signing_keys.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";

const log = createLog(Deno.env.get("EVE_LOG_LEVEL"));

function open() {
  const { project, databaseKey, rpcTimeoutMs } = readSettings((name) => Deno.env.get(name));
  const tokens = tokenRules(project.url, readSigningKeys(Deno.env.get(SIGNING_KEYS_VARIABLE)));
  const call = rpcTransport({ url: project.url, secretKey: databaseKey });
  return {
    project,
    tokens,
    access: createAccess(call, rpcTimeoutMs),
    noteError: badRequestCounter({ count: countBadRequests(call), clock, background, log }),
  };
}

export default {
  fetch: createTokenEndpoint({
    functionName: functionName("issue-kaggle-token"),
    open,
    clock,
    newId: () => crypto.randomUUID(),
    log,
  }),
};
