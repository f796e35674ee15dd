/** The function `api` in this process, over a database of a test: without the REST API, and with a bucket in memory if one is given. */
import { createApiEndpoint } from "../../shared/api/api_endpoint.ts";
import type { ApiDependencies } from "../../shared/api/route.ts";
import { createAccess } from "../../shared/database/access.ts";
import { createChats } from "../../shared/database/chats.ts";
import { listModels } from "../../shared/database/models.ts";
import { createGraph } from "../../shared/database/posts/graph.ts";
import { createCrawl } from "../../shared/database/posts/crawl.ts";
import { createVision } from "../../shared/database/vision.ts";
import { createMedia } from "../../shared/database/media/media.ts";
import { createMediaSpool } from "../../shared/database/media/media_spool.ts";
import { type DirectTransport, directTransport } from "../../shared/database/transport/direct_transport.ts";
import type { Transport } from "../../shared/database/transport/transport.ts";
import { identifyActor } from "../../shared/identity/actor.ts";
import { createAbsence } from "../../shared/media/absence.ts";
import type { ObjectStore } from "../../shared/media/object_store.ts";
import { createPostgresStore } from "../../shared/media/postgres/store.ts";
import { type AddressSigner, createAddressSigner } from "../../shared/media/signed_address.ts";
import type { Media, StorageMode } from "../../shared/media/storage.ts";
import { systemClock } from "../../shared/runtime/clock.ts";
import type { Log } from "../../shared/runtime/log.ts";
import { readSigningKeys } from "../../shared/tokens/signing_keys.ts";
import { tokenRules } from "../../shared/tokens/token_rules.ts";
import type { TestDatabase } from "./database.ts";
import type { MemoryStore } from "./memory_store.ts";

export const SECRET = "sb_secret_media_api_test";
export const PUBLISHABLE = "sb_publishable_media_api_test";
const PROJECT_URL = "https://project.example";
const SIGNING_KEYS = JSON.stringify([{ kid: "k1", k: "a".repeat(43) }]);

export interface ApiUnderTest {
  media: Media;
  transport: DirectTransport;
  /** Milliseconds since 1970, for addresses. */
  now: { at: number };
  /** Sessions that the Auth API knows: access token -> user's id. */
  sessions: Map<string, string>;
  logged: string[];
  background: Promise<void>[];
  tokens: ReturnType<typeof tokenRules>;
  call(method: string, path: string, init?: RequestInit & { as?: string | null }): Promise<Response>;
  close(): Promise<void>;
}

/** A body as JSON. @param as whose credential goes with it */
export const json = (body: unknown, as?: string) => ({
  ...(as !== undefined && { as }),
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});

/** Files as a function has them, over a connection to a database of a test. */
export function mediaOver(
  call: Transport,
  { s3 = null, mode, maxFileBytes = 100_000_000, partBytes = 100_000_000, addresses, now, log }: {
    s3?: ObjectStore | null;
    mode?: StorageMode;
    maxFileBytes?: number;
    partBytes?: number;
    addresses: AddressSigner;
    now: () => number;
    log: Log;
  },
): Media {
  const rows = createMediaSpool(call);
  const absence = createAbsence(systemClock);
  if (s3 !== null && "observe" in s3) (s3 as MemoryStore).observe = absence.note;
  return {
    registry: createMedia(call),
    mode: mode ?? (s3 === null ? "postgres" : "s3 with spool"),
    s3,
    absence,
    spool: createPostgresStore({ spool: rows, addresses, moves: s3 !== null, maxFileBytes, now }),
    rows,
    maxFileBytes,
    partBytes,
    clock: systemClock,
    log,
  };
}

export function apiOver(
  database: Pick<TestDatabase, "url">,
  {
    s3 = null,
    mode,
    maxFileBytes = 100_000_000,
    partBytes = 100_000_000,
    maxBodyBytes = 10 * 1024 * 1024,
    callModels = () => Promise.reject(new Error("there are no models here")),
  }: {
    s3?: ObjectStore | null;
    mode?: StorageMode;
    maxFileBytes?: number;
    partBytes?: number;
    maxBodyBytes?: number;
    /** The function that makes calls. */
    callModels?: ApiDependencies["callModels"];
  } = {},
): ApiUnderTest {
  const transport = directTransport({ url: database.url, connections: 4, pooler: false });
  const now = { at: Date.parse("2026-11-18T12:00:00Z") };
  const sessions = new Map<string, string>();
  const logged: string[] = [];
  const background: Promise<void>[] = [];
  const project = {
    url: PROJECT_URL,
    secretKeys: { default: SECRET },
    publishableKeys: { default: PUBLISHABLE },
  };
  const access = createAccess(transport.call, 8_000);
  const tokens = tokenRules(PROJECT_URL, readSigningKeys(SIGNING_KEYS));
  const baseUrl = `${PROJECT_URL}/functions/v1/api`;
  const addresses = createAddressSigner({ baseUrl, secrets: [SECRET], now: () => now.at });
  const log = (level: string, event: string, facts?: unknown) =>
    void logged.push(`${level} ${event} ${JSON.stringify(facts)}`);
  const media = mediaOver(transport.call, {
    s3,
    ...(mode !== undefined && { mode }),
    maxFileBytes,
    partBytes,
    addresses,
    now: () => now.at,
    log,
  });
  const authApi: typeof fetch = (_, init) => {
    const token = new Headers(init?.headers).get("authorization")?.replace("Bearer ", "") ?? "";
    const id = sessions.get(token);
    return Promise.resolve(id === undefined ? new Response("{}", { status: 401 }) : Response.json({ id }));
  };
  const handle = createApiEndpoint({
    functionName: "api",
    open: () => ({
      identify: (request: Request) =>
        identifyActor(request, {
          project,
          apiKey: PUBLISHABLE,
          tokens,
          access,
          fetch: authApi,
          place: "api",
        }),
      confirmToken: (token) => listModels(transport.call, token, 5_000),
      media,
      addresses,
      chats: createChats(transport.call),
      vision: createVision(transport.call),
      graph: createGraph(transport.call),
      crawl: createCrawl(transport.call),
      wake: () => Promise.resolve(void logged.push("worker woken")),
      secretKey: SECRET,
      callModels,
      baseUrl,
      maxBodyBytes,
      background: (work) => void background.push(work),
      noteError: ({ code }, caller) =>
        void logged.push(`refused ${code} ${caller === null ? "nobody" : caller.consumerId ?? "project"}`),
    }),
    clock: systemClock,
    newId: () => crypto.randomUUID(),
    log,
  });
  return {
    media,
    transport,
    now,
    sessions,
    logged,
    background,
    tokens,
    call(method, path, { as = SECRET, ...init } = {}) {
      const url = path.startsWith("http")
        ? path.replace(`${PROJECT_URL}/functions/v1`, "http://function")
        : `http://function/api${path}`;
      const headers = new Headers(init.headers);
      if (as !== null) headers.set("authorization", `Bearer ${as}`);
      return handle(new Request(url, { ...init, method, headers }));
    },
    close: () => transport.close(),
  };
}
