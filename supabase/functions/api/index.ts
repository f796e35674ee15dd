import { createApiEndpoint } from "../../../shared/api/api_endpoint.ts";
import { openMedia } from "../../../shared/media/open.ts";
import { workerCall } from "../../../shared/calls/worker_call.ts";
import { createChats } from "../../../shared/database/chats.ts";
import { countBadRequests } from "../../../shared/database/maintenance/bad_requests.ts";
import { badRequestCounter } from "../../../shared/gateway/bad_requests.ts";
import { listModels } from "../../../shared/database/models.ts";
import { createGraph } from "../../../shared/database/posts/graph.ts";
import { createCrawl } from "../../../shared/database/posts/crawl.ts";
import { createVision } from "../../../shared/database/vision.ts";
import { createAccess } from "../../../shared/database/access.ts";
import { openTransport } from "../../../shared/database/transport/open_transport.ts";
import { identifyActor } from "../../../shared/identity/actor.ts";
import { edgeBackground as background } from "../../../shared/runtime/background.ts";
import { systemClock as clock } from "../../../shared/runtime/clock.ts";
import { functionName, functionUrl } from "../../../shared/runtime/function_names.ts";
import { createLog } from "../../../shared/runtime/log.ts";
import { readSettings } from "../../../shared/runtime/settings.ts";
import { readSigningKeys, SIGNING_KEYS_VARIABLE } from "../../../shared/tokens/signing_keys.ts";
import { tokenRules } from "../../../shared/tokens/token_rules.ts";

const variable = (name: string) => Deno.env.get(name);
const log = createLog(variable("EVE_LOG_LEVEL"));

async function open() {
  const settings = readSettings(variable);
  const { project, databaseKey, maxBodyBytes, rpcTimeoutMs } = settings;
  const { call } = openTransport(settings);
  const access = createAccess(call, rpcTimeoutMs);
  const apiKey = project.publishableKeys.default ?? databaseKey;
  const tokens = tokenRules(project.url, readSigningKeys(variable(SIGNING_KEYS_VARIABLE)));
  const { media, addresses, baseUrl, seed } = openMedia({
    read: variable,
    call,
    projectUrl: project.url,
    secrets: [databaseKey, ...Object.values(project.secretKeys).filter((key) => key !== databaseKey)],
    fetch,
    clock,
    background,
    log,
    now: Date.now,
    random: Math.random,
  });
  await seed();
  return {
    identify: (request: Request) =>
      identifyActor(request, { project, apiKey, tokens, access, fetch, place: "api" }),
    confirmToken: (token: { consumerId: string; tokenId: string }) => listModels(call, token, rpcTimeoutMs),
    media,
    addresses,
    chats: createChats(call),
    vision: createVision(call),
    graph: createGraph(call),
    crawl: createCrawl(call),
    wake: workerCall(fetch, functionUrl(project.url, "worker"), databaseKey, log),
    secretKey: databaseKey,
    async callModels(body: string, credentials: HeadersInit, signal: AbortSignal) {
      const headers = new Headers(credentials);
      headers.set("content-type", "application/json");
      return await fetch(functionUrl(project.url, "llm-invoke"), {
        method: "POST",
        headers,
        body,
        signal,
        redirect: "manual",
      });
    },
    baseUrl,
    maxBodyBytes,
    background,
    noteError: badRequestCounter({ count: countBadRequests(call), clock, background, log }),
  };
}

const newId = () => crypto.randomUUID();

export default {
  fetch: createApiEndpoint({ functionName: functionName("api"), open, clock, newId, log }),
};
