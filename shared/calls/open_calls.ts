import { functionUrl } from "../runtime/function_names.ts";
import { anthropicEndpoint } from "../endpoints/anthropic/endpoint.ts";
import { geminiEndpoint } from "../endpoints/gemini/endpoint.ts";
import { createUploadAddresses } from "../endpoints/gemini/files/upload_address.ts";
import { nativeEndpoint } from "../endpoints/native/endpoint.ts";
import { openaiEndpoint } from "../endpoints/openai/endpoint.ts";
import type { Endpoint } from "../endpoints/endpoint.ts";
import { withPlainNames } from "../endpoints/model_name.ts";
import { createJobService } from "../gateway/job_service.ts";
import { type AnswerCache, createAnswerCache } from "../gateway/cache/answer_cache.ts";
import { createGateway } from "../gateway/invoke.ts";
import { usingChangedSecrets } from "../gateway/changed_secrets.ts";
import type { GatewayDependencies } from "../gateway/dependencies.ts";
import type { Caller } from "../contract/caller.ts";
import type { Gateway } from "../contract/gateway.ts";
import type { ResolveTarget } from "../contract/target.ts";
import type { Connect } from "../http/outgoing/pinned_request.ts";
import type { Resolve } from "../http/outgoing/public_target.ts";
import { CHATS_CONSUMER_VARIABLE, createAnswering } from "../chats/answering.ts";
import { type BatchFiles, createBatchFiles } from "../batches/batch_files.ts";
import { createUploads } from "../batches/uploads.ts";
import { createCachedContents } from "../gateway/cached_contents.ts";
import { createCachedContentRows } from "../database/cached_contents.ts";
import { createCachedAnswers } from "../database/answer_cache.ts";
import { type Batches, createBatches } from "../database/jobs/batches.ts";
import { createChats } from "../database/chats.ts";
import { estimateTokens } from "../gateway/estimate/estimate.ts";
import { openTransport } from "../database/transport/open_transport.ts";
import type { Transport } from "../database/transport/transport.ts";
import { createJobs } from "../database/jobs/jobs.ts";
import { createJobQueue } from "../database/jobs/job_queue.ts";
import { createKeySecrets } from "../database/maintenance/key_secrets.ts";
import { createLedger, LEDGER_TIMEOUT_MS } from "../database/admission/ledger.ts";
import { compileReservation } from "../database/admission/reserve.ts";
import { createWebhooks } from "../database/webhooks.ts";
import { addWebhook, WEBHOOK_HOSTS_VARIABLE } from "../events/webhooks/register.ts";
import { namedHosts } from "../http/outgoing/public_target.ts";
import { createStoredResponses } from "../database/jobs/stored_responses.ts";
import { createUploadRows } from "../database/jobs/uploads.ts";
import { createStages } from "../database/stages.ts";
import { createJobMedia, type JobMedia } from "../media/job_media.ts";
import { openMedia } from "../media/open.ts";
import type { Media } from "../media/storage.ts";
import { providerRegistry } from "../providers/registry.ts";
import type { Background } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import { environmentSecrets } from "../runtime/secrets.ts";
import type { ReadVariable, Settings } from "../runtime/settings.ts";
import { ADMIN_SECRET_VARIABLE, createKeyEncryption } from "../secrets/key_encryption.ts";
import { storedKeys } from "../stages/stored_keys.ts";
import { targetResolver } from "../stages/resolve_target.ts";
import { workerCall } from "./worker_call.ts";

export interface CallsOptions {
  settings: Settings;
  read: ReadVariable;
  fetch: typeof fetch;
  createClient: Parameters<typeof providerRegistry>[0]["createClient"];
  /** The addresses of a name; absent in runtimes that cannot resolve names. */
  resolve: Resolve | undefined;
  /** A connection to an address, in the name of its host; absent in runtimes that cannot. */
  connect: Connect | undefined;
  clock: Clock;
  newId: () => string;
  background: Background;
  log: Log;
  /** For a whole call, from its arrival; absent: as the settings say. */
  requestTimeoutMs?: () => number;
}

/** All that answers calls of models, put together: for the function that clients call, and for the worker, which calls for them. */
export interface Calls {
  endpoints: Endpoint[];
  gateway: Gateway;
  resolve: ResolveTarget;
  transport: Transport;
  batches: Batches;
  files: BatchFiles;
  jobMedia: JobMedia;
  /** Opened at the first use. */
  media: () => Promise<Media>;
  /** The process is about to end. */
  leave: () => void;
}

export function openCalls(options: CallsOptions): Calls {
  const { settings, read, createClient, clock, newId, background, log } = options;
  const { project, databaseKey, googleBaseUrl, maxWaitMs } = settings;
  const { call: transport, afterwards, ready } = openTransport(settings);
  const ledger = createLedger(transport, LEDGER_TIMEOUT_MS, afterwards, { background, ready });
  // Beside the credential and the body of the request that has woken us; if this fails its reservation reports it.
  ledger.ready?.()?.catch(() => {});
  compileReservation();
  const stages = createStages(transport);
  const encryption = () => createKeyEncryption(read(ADMIN_SECRET_VARIABLE));
  const secrets = environmentSecrets(read);
  const keys = createKeySecrets(transport, settings.rpcTimeoutMs);
  const requestTimeoutMs = options.requestTimeoutMs ?? (() => settings.requestTimeoutMs);
  const batches = createBatches(transport);
  let opened: Promise<Media> | null = null;
  const media = () =>
    opened ??= openFiles().catch((thrown) => {
      opened = null;
      throw thrown;
    });
  const cache: AnswerCache = createAnswerCache({
    answers: createCachedAnswers(transport, settings.rpcTimeoutMs),
    media: createJobMedia({ tenantOf: batches.tenantOf, media, user: "cache" }),
    clock,
    log,
  });
  const parts: GatewayDependencies = {
    cache,
    ledger: usingChangedSecrets(ledger, { keys, secrets, clock, log }),
    providers: providerRegistry({ googleBaseUrl, read, createClient, log }),
    secrets,
    storedKeys: storedKeys(stages, encryption, read),
    clock,
    random: Math.random,
    background,
    log,
    times: {
      get requestTimeoutMs() {
        return requestTimeoutMs();
      },
      upstreamTimeoutMs: settings.upstreamTimeoutMs,
      rpcTimeoutMs: settings.rpcTimeoutMs,
    },
  };
  const gateway = createGateway(parts);
  const gatewayUrl = functionUrl(project.url, "llm-invoke");
  const jobsUrl = `${gatewayUrl}/jobs`;
  const service = createJobService({
    gateway: parts,
    jobs: createJobs(transport),
    newId,
    now: Date.now,
    jobsUrl,
  });
  const wake = workerCall(options.fetch, functionUrl(project.url, "worker"), databaseKey, log);
  const queue = createJobQueue(transport);
  const webhooks = createWebhooks(transport);
  const webhookFor = async ({ consumerId }: Caller, url: string) => {
    const { webhook, secret } = await addWebhook(
      { webhooks, encryption: encryption(), allows: namedHosts(read(WEBHOOK_HOSTS_VARIABLE)), newId },
      { consumer: null, consumerId, url, types: [] },
    );
    return { id: webhook.id, url: webhook.url, secret };
  };
  const files = createBatchFiles({ batches, media, newId });
  const uploads = createUploads({ rows: createUploadRows(transport), batches, media, newId });
  const jobMedia = createJobMedia({ tenantOf: batches.tenantOf, media });
  const jobs = {
    service,
    queue,
    wake: () => background(wake()),
    url: jobsUrl,
    clock,
    newId,
    media: jobMedia,
    webhookFor,
  };
  return {
    endpoints: [
      nativeEndpoint({
        maxWaitMs,
        jobs,
        answering: createAnswering({
          chats: createChats(transport),
          estimate: estimateTokens,
          payer: read(CHATS_CONSUMER_VARIABLE)?.trim() || null,
          background,
          log,
        }),
      }),
      geminiEndpoint({
        maxWaitMs,
        caches: {
          contents: createCachedContents({
            gateway: parts,
            rows: createCachedContentRows(transport, settings.rpcTimeoutMs),
          }),
          clock,
          now: Date.now,
        },
        files: {
          batches,
          files,
          uploads,
          addresses: createUploadAddresses({
            functionUrl: gatewayUrl,
            secret: databaseKey,
            now: Date.now,
          }),
          functionUrl: gatewayUrl,
          maxBodyBytes: settings.maxBodyBytes,
          wake: jobs.wake,
          newId,
        },
      }),
      openaiEndpoint({
        maxWaitMs,
        clock,
        fetch: options.fetch,
        resolve: options.resolve,
        connect: options.connect,
        strictFields: settings.strictFields,
        moderationModel: settings.moderationModel,
        now: Date.now,
        newId,
        batches: { batches, files, uploads, wake: jobs.wake, newId },
        kept: { responses: createStoredResponses(transport), wake: jobs.wake, newId, log },
      }),
      anthropicEndpoint({
        maxWaitMs,
        clock,
        fetch: options.fetch,
        resolve: options.resolve,
        connect: options.connect,
        strictFields: settings.strictFields,
        now: Date.now,
        newId,
        batches: { batches, files, wake: jobs.wake, newId, functionUrl: gatewayUrl },
      }),
    ],
    batches,
    files,
    jobMedia,
    media,
    gateway,
    resolve: withPlainNames(targetResolver({ stages, encryption, read }), gateway.models),
    transport,
    leave: ledger.leave,
  };

  async function openFiles(): Promise<Media> {
    const { media, seed } = openMedia({
      read,
      call: transport,
      projectUrl: project.url,
      secrets: [databaseKey],
      fetch: options.fetch,
      clock,
      background,
      log,
      now: Date.now,
      random: Math.random,
    });
    await seed();
    return media;
  }
}
