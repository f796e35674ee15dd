import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { createAdminEndpoint } from "../../../shared/admin/admin_endpoint.ts";
import { ORIGINS_VARIABLE, readOrigins } from "../../../shared/admin/origins.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { functionName, functionUrl } from "../../../shared/runtime/function_names.ts";
import { consoleLog as log } from "../../../shared/runtime/log.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { environmentSecrets } from "../../../shared/runtime/secrets.ts";
import { alertChannels, testAlertChannels } from "../../../shared/maintenance/alerts/alerts.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { identifyAdministrator } from "../../../shared/identity/administrator.ts";
import { countingWrong } from "../../../shared/identity/wrong_credentials.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { createAdmin } from "../../../shared/database/admin.ts";
import { createAdminChats } from "../../../shared/database/admin_chats.ts";
import { createJobQueue } from "../../../shared/database/jobs/job_queue.ts";
import { createJobSearch } from "../../../shared/database/jobs/job_search.ts";
import { createKeyPool } from "../../../shared/database/key_pool.ts";
import { createLedger } from "../../../shared/database/admission/ledger.ts";
import { createDeadLetters } from "../../../shared/database/events.ts";
import { createWebhooks } from "../../../shared/database/webhooks.ts";
import { createReading } from "../../../shared/database/reading.ts";
import { rpcTransport } from "../../../shared/database/transport/rpc_transport.ts";
import { createStages } from "../../../shared/database/stages.ts";
import { createCacheAdmin } from "../../../shared/database/answer_cache.ts";
import { createTenants } from "../../../shared/database/tenants.ts";
import { WEBHOOK_HOSTS_VARIABLE } from "../../../shared/events/webhooks/register.ts";
import { namedHosts } from "../../../shared/http/outgoing/public_target.ts";
import { providerRegistry } from "../../../shared/providers/registry.ts";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../../../shared/secrets/key_encryption.ts";
import { ALLOW_PRIVATE_VARIABLE } from "../../../shared/stages/provider_definitions.ts";
import { storedKeys } from "../../../shared/stages/stored_keys.ts";

const variable = (name: string) => Deno.env.get(name);
const createClient = (options: { caCerts: string[] }) => Deno.createHttpClient(options);
const newId = () => crypto.randomUUID();

function open() {
  const { project, databaseKey, googleBaseUrl, rpcTimeoutMs } = readSettings(variable);
  const transport = rpcTransport({ url: project.url, secretKey: databaseKey });
  const stages = createStages(transport);
  const access = createAccess(transport, rpcTimeoutMs);
  const encryption = () => createKeyEncryption(variable(ADMIN_SECRET_VARIABLE));
  const apiKey = project.publishableKeys.default ?? databaseKey;
  return {
    identify: (request: Request) =>
      countingWrong(
        request,
        "admin",
        access,
        () => identifyAdministrator(request, { project, apiKey, stages, fetch }),
      ),
    stages,
    reading: createReading(transport),
    keyPool: createKeyPool(transport),
    admin: createAdmin(transport),
    tenants: createTenants(transport),
    cache: createCacheAdmin(transport),
    chats: createAdminChats(transport),
    models: createLedger(transport).models,
    encryption,
    webhooks: createWebhooks(transport),
    deadLetters: createDeadLetters(transport),
    jobSearch: createJobSearch(transport),
    jobQueue: createJobQueue(transport),
    webhookHosts: namedHosts(variable(WEBHOOK_HOSTS_VARIABLE)),
    newId,
    inspectors: providerRegistry({ googleBaseUrl, read: variable, createClient }),
    read: variable,
    secrets: environmentSecrets(variable),
    storedKeys: storedKeys(stages, encryption, variable),
    allowPrivate: variable(ALLOW_PRIVATE_VARIABLE) === "true",
    invoke: (path: string, init: RequestInit) =>
      fetch(`${functionUrl(project.url, "llm-invoke")}${path}`, {
        ...init,
        headers: { ...init.headers as Record<string, string>, apikey: databaseKey },
        redirect: "manual",
      }),
    issueToken: (form: Record<string, unknown>, signal: AbortSignal) =>
      fetch(functionUrl(project.url, "issue-kaggle-token"), {
        method: "POST",
        headers: { "content-type": "application/json", apikey: databaseKey },
        body: JSON.stringify(form),
        redirect: "manual",
        signal,
      }),
    runOperation: (operation: string, timeLimitMs: number, signal: AbortSignal) =>
      fetch(`${functionUrl(project.url, "maintenance")}/${encodeURIComponent(operation)}`, {
        method: "POST",
        headers: { "content-type": "application/json", apikey: databaseKey },
        body: JSON.stringify({ source: "console", time_limit_ms: timeLimitMs }),
        redirect: "manual",
        signal,
      }),
    testChannels: (signal: AbortSignal) =>
      testAlertChannels(
        alertChannels(variable, new URL(project.url).host),
        { fetch, signal },
        new Date(clock.now()).toISOString(),
      ),
    background,
    noteError: badRequestCounter({ count: countBadRequests(transport), clock, background, log }),
  };
}

const origins = () => readOrigins(variable(ORIGINS_VARIABLE));

export default {
  fetch: createAdminEndpoint({ functionName: functionName("admin"), open, origins, clock, newId, log }),
};
