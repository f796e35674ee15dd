/** What the tests of the endpoints share: a stack that runs, whose books and whose emulator can be looked into. Of Node and Deno alike. */
import { expect } from "vitest";
import postgres from "postgres";
import type { FaultSpec } from "../../local/emulator/faults.ts";
import type { Stats } from "../../local/emulator/control.ts";
import { moveClock, stopClock } from "../harness/database_clock.ts";
import { empty } from "../harness/rows.ts";
import { until } from "../harness/patience.ts";
import type { TestStack } from "../harness/stack.ts";

export const GEMMA = "gemma-4-31b-it";
/** Signs its thoughts, and refuses a conversation that lost a signature. */
export const SIGNING = "gemini-3.5-flash";
export const EMBEDDING = "gemini-embedding-001";

/** A PNG of one pixel. */
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** Everything that requests leave behind, in an order that foreign keys allow. */
export const LEFT_BEHIND = [
  "eve.captures",
  "eve.request_results",
  "eve.inflight",
  "eve.earlier_attempts",
  "eve.request_keys",
  "eve.requests",
  "eve.refusals",
  "eve.refusal_counts",
  "eve.refusal_minutes",
  "eve.lane_buckets",
  "eve.lanes",
  "eve.alerts",
  "eve.key_model_blocks",
  "public.token_usage",
  "public.google_ai_usage_counters",
];

/** What clients and tests have to know of a stack that runs, wherever they run. */
export type RunningStack = Pick<TestStack, "url" | "emulatorUrl" | "databaseUrl" | "keys" | "invoke">;

export interface TestGateway<Running extends RunningStack = RunningStack> {
  stack: Running;
  sql: postgres.Sql;
  /** What clients take as their base URL, without a version. */
  baseUrl: string;
  key: string;
  /** Everything as at the beginning, once nothing is under way. */
  clear(): Promise<void>;
  faults(...faults: FaultSpec[]): Promise<void>;
  /**
   * A `fetch` until whose first answer the database's clock stands still: what lasts a second is not over by then, however
   * slow this machine is. `clear` lets the clock go on, at the latest.
   */
  stoppingClock(): Promise<typeof fetch>;
  stats(): Promise<Stats>;
  /** Bodies that reached the emulator, oldest first. */
  bodies(): Promise<Record<string, unknown>[]>;
  /** How the requests ended in the books, oldest first; answers go out before they are settled. */
  requests(): Promise<{ state: string; error_code: string | null; endpoint: string }[]>;
  fetch(
    path: string,
    body?: unknown,
    init?: { headers?: Record<string, string>; signal?: AbortSignal },
  ): Promise<Response>;
}

export function gatewayOf<Running extends RunningStack>(stack: Running): TestGateway<Running> {
  const sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
  const baseUrl = `${stack.url}/functions/v1/llm-invoke`;
  const control = async (path: string, body?: unknown) => {
    const response = await fetch(`${stack.emulatorUrl}/__control/${path}`, {
      method: body === undefined ? "GET" : "POST",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw new Error(await response.text());
    return await response.json();
  };
  const settled = () =>
    until(async () => {
      const [row] = await sql`select count(*)::int as n from eve.inflight`;
      return row!.n === 0;
    }, "a reservation is still open");
  const letClockGo = () => moveClock(sql, 0);
  return {
    stack,
    sql,
    baseUrl,
    key: stack.keys.secret,
    async clear() {
      try {
        await settled();
      } finally {
        // Whatever a test left open fails the next one, and that one only.
        await letClockGo();
        await empty(sql, ...LEFT_BEHIND);
        await sql`
          update public.google_ai_api_keys
          set is_active = true, blocked_until = null, blocked_reason = null
          where not is_active or blocked_until is not null`;
        await control("reset", {});
      }
    },
    async faults(...faults) {
      await control("faults", faults);
    },
    async stoppingClock() {
      await stopClock(sql);
      let first = true;
      return async (...request) => {
        const response = await fetch(...request);
        if (first) await letClockGo();
        first = false;
        return response;
      };
    },
    stats: () => control("stats"),
    bodies: async () =>
      (await control("requests")).map(({ body }: { body: string }) => JSON.parse(body || "{}")),
    async requests() {
      await settled();
      return await sql`select state, error_code, endpoint from eve.requests order by received_at`;
    },
    fetch: (path, body, { headers, signal } = {}) =>
      fetch(`${baseUrl}${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { "x-goog-api-key": stack.keys.secret, "content-type": "application/json", ...headers },
        body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
        signal,
      }),
  };
}

/** Both quota projects say that their minute is used up, and a second later they no longer do. */
export const BUSY_FOR_A_SECOND: FaultSpec = {
  kind: "status",
  error: "quota_minute_requests",
  retryMs: 1_000,
  times: 2,
};

/** Upstream has noticed that nobody listens any more, and the books say so. */
export const leftEarly = (gateway: TestGateway) => upstreamNoticed(gateway, "streams");

/** A client leaves while upstream has not said a word yet: upstream notices, and the books say so. */
export async function leftWaiting(gateway: TestGateway, leave: () => void): Promise<void> {
  await until(async () => (await gateway.stats()).inFlight === 1, "upstream was not called");
  leave();
  await upstreamNoticed(gateway, "waiting");
}

async function upstreamNoticed(gateway: TestGateway, when: "streams" | "waiting"): Promise<void> {
  await until(async () => (await gateway.stats()).aborted[when] === 1, "upstream goes on");
  const [request] = await gateway.requests();
  expect(request?.state, "in the books").toBe("cancelled");
}
