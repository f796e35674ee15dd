import type { Clock } from "../runtime/clock.ts";
import type { AnswerCache } from "./cache/answer_cache.ts";
import type { Log } from "../runtime/log.ts";
import type { Ledger } from "../database/admission/ledger.ts";
import type { Provider } from "../providers/provider.ts";
import type { ResolveStoredKey } from "../stages/stored_keys.ts";
import type { Background } from "../runtime/background.ts";
import type { ResolveSecret } from "../runtime/secrets.ts";

/** What the gateway works with. */
export interface GatewayDependencies {
  ledger: Ledger;
  /** By the name in a key's `provider`. */
  providers: Readonly<Record<string, Provider>>;
  secrets: ResolveSecret;
  /** Keys that are in the database: of stages, and of the pool. Absent: there are none. */
  storedKeys?: ResolveStoredKey;
  /** Absent: no answer is kept. */
  cache?: AnswerCache;
  clock: Clock;
  /** 0 up to 1. */
  random: () => number;
  background: Background;
  log: Log;
  times: {
    /** For a whole request, from its arrival. */
    requestTimeoutMs: number;
    /** For one call of a model. */
    upstreamTimeoutMs: number;
    /** The timeout of a database call that a client waits for. */
    rpcTimeoutMs: number;
  };
}
