/** llm-invoke as it is deployed, in this process: only the database, the clock and the network are stand-ins. */
import type { Clock } from "../../shared/runtime/clock.ts";
import { createRouter } from "../../shared/endpoints/router.ts";
import { anthropicEndpoint } from "../../shared/endpoints/anthropic/endpoint.ts";
import { geminiEndpoint } from "../../shared/endpoints/gemini/endpoint.ts";
import { nativeEndpoint } from "../../shared/endpoints/native/endpoint.ts";
import { openaiEndpoint } from "../../shared/endpoints/openai/endpoint.ts";
import { createGateway } from "../../shared/gateway/invoke.ts";
import { identify } from "../../shared/identity/identify.ts";
import { gigachatProvider } from "../../shared/providers/gigachat/provider.ts";
import { googleProvider } from "../../shared/providers/google/provider.ts";
import { openaiProvider } from "../../shared/providers/openai/provider.ts";
import { yandexGptProvider } from "../../shared/providers/yandex/yandexgpt.ts";
import type { FileToKeep } from "../../shared/batches/batch_files.ts";
import type { OpenaiBatches } from "../../shared/endpoints/openai/files/files.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import { modelsAlone } from "../unit/endpoints/router_fixture.ts";
import { grant } from "../unit/gateway/gateway_fixture.ts";

export const PROVIDERS = ["google", "openai", "gigachat", "yandexgpt"] as const;
export type ProviderName = typeof PROVIDERS[number];

/** What must come out nowhere. */
export const SECRETS = { project: "sb_secret_fuzz_4f1c9a7e2b", key: "AIzaFuzz-7d3e5b9a1c4f6e8d" };

export const PROJECT = {
  url: "http://127.0.0.1:54321",
  secretKeys: { default: SECRETS.project },
  publishableKeys: { default: "sb_publishable_fuzz" },
};

/** Longer than a pause between attempts, shorter than any timeout. */
const SHORT_MS = 5_000;

/** Short waits are over at once; what is waited for longer (a model that does not answer) never comes. */
export function hastyClock(): Clock {
  let now = 0;
  return {
    now: () => ++now,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
        if (ms < SHORT_MS) resolve();
      }),
  };
}

export interface FunctionInProcess {
  receive(request: Request): Promise<Response>;
  /** Every line of the log, as JSON. */
  logged: string[];
  /** What goes on after a response has gone. */
  afterwards: Promise<unknown>[];
}

/** @param upstream stands in for the network */
export function functionInProcess(provider: ProviderName, upstream: typeof fetch): FunctionInProcess {
  const logged: string[] = [];
  const afterwards: Promise<unknown>[] = [];
  const clock = hastyClock();
  let ids = 0;
  const newId = () => `id-${++ids}`;
  const log = (...line: unknown[]) => void logged.push(JSON.stringify(line));
  const background = (work: Promise<unknown>) => void afterwards.push(work);
  let attempt = 0;
  const gateway = createGateway({
    ledger: {
      reserve: (input) =>
        Promise.resolve(grant({
          attempt: input.attempt,
          requestNo: ++attempt,
          key: { id: "key-a", alias: "demo-a", source: { kind: "environment", name: "KEY_A" }, provider },
        })),
      settle: () => Promise.resolve("settled"),
      models: () => Promise.resolve([]),
      capture: () => Promise.resolve(),
    },
    providers: {
      google: googleProvider({ baseUrl: "http://upstream.test" }),
      openai: openaiProvider({ baseUrl: "http://upstream.test/v1", fetch: upstream }),
      gigachat: gigachatProvider({
        baseUrl: "http://upstream.test/v1",
        authUrl: "http://upstream.test/oauth",
        fetch: upstream,
      }),
      yandexgpt: yandexGptProvider({ baseUrl: "http://upstream.test", folderId: "folder", fetch: upstream }),
    },
    secrets: () => SECRETS.key,
    clock,
    random: () => 0.5,
    background,
    log,
    times: { requestTimeoutMs: 1e9, upstreamTimeoutMs: 1e8, rpcTimeoutMs: 1e7 },
  });
  const access = {
    authenticate: () => Promise.resolve({ status: "refused" as const, code: "credential_invalid" as const }),
    noteRefusal: () => Promise.resolve(null),
  };
  const tokens = tokenRules(PROJECT.url, [{ kid: "now", key: new Uint8Array(32).fill(7) }]);
  return {
    logged,
    afterwards,
    receive: createRouter({
      functionName: "llm-invoke",
      clock,
      newId,
      log,
      open: () => ({
        endpoints: [
          nativeEndpoint({ maxWaitMs: 100_000, now: () => 0 }),
          geminiEndpoint({ maxWaitMs: 100_000 }),
          openaiEndpoint({
            maxWaitMs: 100_000,
            clock,
            fetch: upstream,
            resolve: () => Promise.resolve(["93.184.216.34"]),
            now: () => 0,
            newId,
            batches: keptNowhere(newId),
          }),
          anthropicEndpoint({
            maxWaitMs: 100_000,
            clock,
            fetch: upstream,
            resolve: () => Promise.resolve(["93.184.216.34"]),
            now: () => 0,
            newId,
          }),
        ],
        identify: (request) => identify(request, { project: PROJECT, tokens, access, background }),
        resolve: modelsAlone,
        gateway,
        maxBodyBytes: 1_000_000,
      }),
    }),
  };
}

/** Files and their parts as they are taken: named, measured, and forgotten. */
function keptNowhere(newId: () => string): OpenaiBatches {
  const at = "2026-11-25T00:00:00Z";
  const id = "00000000-0000-4000-8000-000000000000";
  const kept = {
    files: {
      keep: ({ filename, bytes, mimeType }: FileToKeep) =>
        Promise.resolve({
          id,
          filename,
          bytes: bytes.byteLength,
          purpose: mimeType === undefined ? "batch" : "user_data",
          created_at: at,
          expires_at: at,
        }),
    },
    uploads: { addPart: () => Promise.resolve({ id, createdAt: at }) },
    batches: {},
    wake: () => {},
    newId,
  };
  return kept as unknown as OpenaiBatches;
}
