import { systemClock } from "../../../shared/runtime/clock.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { createRouter } from "../../../shared/endpoints/router.ts";
import { geminiEndpoint } from "../../../shared/endpoints/gemini/endpoint.ts";
import { nativeEndpoint } from "../../../shared/endpoints/native/endpoint.ts";
import { openaiEndpoint } from "../../../shared/endpoints/openai/endpoint.ts";
import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { createJobService } from "../../../shared/gateway/job_service.ts";
import { createGateway } from "../../../shared/gateway/invoke.ts";
import { usingChangedSecrets } from "../../../shared/gateway/changed_secrets.ts";
import { environmentSecrets } from "../../../shared/runtime/secrets.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { networkOf } from "../../../shared/http/runtime_network.ts";
import { identify } from "../../../shared/identity/identify.ts";
import { countBadRequests } from "../../../shared/database/bad_requests.ts";
import { CHATS_CONSUMER_VARIABLE, createAnswering } from "../../../shared/chats/answering.ts";
import { createChats } from "../../../shared/database/chats.ts";
import { estimateTokens } from "../../../shared/gateway/estimate/estimate.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { directTransport } from "../../../shared/database/transport/direct_transport.ts";
import { createJobs } from "../../../shared/database/jobs.ts";
import { createKeySecrets } from "../../../shared/database/key_secrets.ts";
import { createLedger, LEDGER_TIMEOUT_MS } from "../../../shared/database/admission/ledger.ts";
import { compileReservation } from "../../../shared/database/admission/reserve.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { createStages } from "../../../shared/database/stages.ts";
import { providerRegistry } from "../../../shared/providers/registry.ts";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../../../shared/secrets/key_encryption.ts";
import { storedKeys } from "../../../shared/stages/stored_keys.ts";
import { targetResolver } from "../../../shared/stages/resolve_target.ts";
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
  const { project, databaseKey, googleBaseUrl, maxWaitMs, maxBodyBytes } = settings;
  const direct = settings.direct === null ? undefined : directTransport({
    ...settings.direct,
    // Below what callers wait.
    statementTimeoutMs: Math.ceil(settings.rpcTimeoutMs * 15 / 16),
  });
  const transport = direct?.call ?? rpcTransport({ url: project.url, secretKey: databaseKey });
  const ledger = createLedger(transport, LEDGER_TIMEOUT_MS, direct?.afterwards, {
    background,
    ready: direct?.ready,
  });
  // Beside the credential and the body of the request that has woken us; if this fails its reservation reports it.
  ledger.ready?.()?.catch(() => {});
  compileReservation();
  // The runtime is about to end this process.
  addEventListener("beforeunload", ledger.leave);
  const access = createAccess(transport);
  const tokens = tokenRules(project.url, readSigningKeys(variable(SIGNING_KEYS_VARIABLE)));
  const providers = providerRegistry({ googleBaseUrl, read: variable, createClient });
  const stages = createStages(transport);
  const encryption = () => createKeyEncryption(variable(ADMIN_SECRET_VARIABLE));
  const secrets = environmentSecrets(variable);
  const keys = createKeySecrets(transport, settings.rpcTimeoutMs);
  const parts = {
    ledger: usingChangedSecrets(ledger, { keys, secrets, clock, log }),
    providers,
    secrets,
    storedKeys: storedKeys(stages, encryption, variable),
    clock,
    random: Math.random,
    background,
    log,
    times: settings,
  };
  const jobsUrl = `${project.url}/functions/v1/llm-invoke/jobs`;
  const service = createJobService({
    gateway: parts,
    jobs: createJobs(transport),
    newId,
    now: Date.now,
    jobsUrl,
  });
  const endpoints = [
    nativeEndpoint({
      maxWaitMs,
      jobs: { service, url: jobsUrl, clock },
      answering: createAnswering({
        chats: createChats(transport),
        estimate: estimateTokens,
        payer: variable(CHATS_CONSUMER_VARIABLE)?.trim() || null,
        background,
        log,
      }),
    }),
    geminiEndpoint({ maxWaitMs }),
    openaiEndpoint({ maxWaitMs, clock, fetch, resolve, connect, now: Date.now, newId }),
  ];
  return {
    endpoints,
    identify: (request: Request) => identify(request, { project, tokens, access, background }),
    resolve: targetResolver({ stages, encryption, read: variable }),
    gateway: createGateway(parts),
    maxBodyBytes,
    noteError: badRequestCounter({ count: countBadRequests(transport), clock, background, log }),
  };
}

export default {
  fetch: createRouter({ functionName: "llm-invoke", open, clock, newId, log }),
};
