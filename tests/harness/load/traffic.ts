/**
 * The callers that DESIGN.md's system has: bots whose people wait for an answer, and notebooks that work through a pile. Both
 * repeat what is safe to repeat under the same request id, as the clients that we hand out do.
 */
import { type Answered, type Endpoint, ENDPOINTS, type Order, place } from "./call.ts";

/** One call of a caller, with all the tries that it took. */
export interface CallRecord {
  order: Order;
  who: string;
  tries: Answered[];
  /** `performance.now()` at the first try, the last try and the end. */
  startedAt: number;
  lastTriedAt: number;
  endedAt: number;
}

export const outcomeOf = (record: CallRecord): Answered => record.tries.at(-1)!;

export interface Callers {
  /** How many call at once. */
  count: number;
  /** Mean pause between two calls of one of them, in ms. */
  pauseMs: number;
  models: string[];
  /** The longest that they ask to wait for a start; each call draws from 0 to it. */
  maxWaitMs: number;
  /** How long they go on repeating what failed, in ms. */
  patienceMs: number;
  /** Share of calls whose client hangs up before the end, 0 to 1. */
  leaves?: number;
}

export interface TrafficOptions {
  /** Tells the request ids of this traffic from those of another. */
  number: number;
  /** Codes that are no fault at this moment, by the trouble that is on. */
  tolerated?: ReadonlySet<string>;
  /** `<project>/functions/v1`. */
  functionsUrl: string;
  /** Uniform in [0, 1). */
  random: () => number;
  /** Bots, each with a credential of its own or the project's. */
  bots: Callers & { credential: Record<string, string> };
  /** Notebooks, who fetch tokens with their enrolment secret. */
  notebooks: Callers & { secret: string };
  /** A small model that everybody wants: its lanes are always full. */
  crowd?: Callers & { credential: Record<string, string> };
}

/** Before the first repetition of a call that failed without saying when to come back; doubles each time. */
const FIRST_PAUSE_MS = 150;
const LONGEST_PAUSE_MS = 2_000;
/** When the impatient hang up: before the answer begins, or while it comes. */
const LEAVES_WITHIN_MS = 250;
const WORDS = { least: 3, most: 60 };
/** A notebook renews its token this long before it ends. */
const RENEW_BEFORE_MS = 5_000;

/** Codes after which the same call may be made again, whatever became of the first. */
const REPEATABLE = new Set([
  "worker_unavailable",
  "database_unavailable",
  "upstream_unavailable",
  "upstream_timeout",
  "upstream_rate_limited",
  "rate_limited",
  "lane_blocked",
  "too_many_waiting",
  "deadline_exceeded",
  "request_running",
  "empty_answer",
  "answer_unusable",
]);

/** A notebook fetches another token. */
const OF_THE_TOKEN = new Set(["token_revoked", "credential_invalid"]);

export class Traffic {
  readonly records: CallRecord[] = [];
  /** Each try as soon as it is answered, long before its call may be over. */
  readonly tries: { who: string; triedAt: number; answer: Answered }[] = [];
  /** Tokens that notebooks fetched, and what fetching ended in otherwise. */
  readonly tokens: Record<string, number> = {};
  readonly #options: TrafficOptions;
  readonly #loops: Promise<void>[] = [];
  readonly #stopping = new AbortController();
  #calls = 0;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  start(): void {
    const { bots, notebooks, crowd } = this.#options;
    this.#run(
      "bot",
      bots,
      "interactive",
      () => Promise.resolve(bots.credential),
    );
    const wallet = new TokenWallet(
      this.#options,
      notebooks.secret,
      this.tokens,
      this.#stopping.signal,
    );
    this.#run(
      "notebook",
      notebooks,
      "batch",
      (renew) => wallet.credential(renew),
    );
    if (crowd) {
      this.#run(
        "crowd",
        crowd,
        "interactive",
        () => Promise.resolve(crowd.credential),
      );
    }
  }

  /** No new calls; resolves when those that run have ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#loops);
  }

  #run(
    who: string,
    callers: Callers,
    trafficClass: Order["class"],
    credential: (renew: boolean) => Promise<Record<string, string> | null>,
  ): void {
    for (let n = 0; n < callers.count; n++) {
      this.#loops.push(this.#loop(who, callers, trafficClass, credential));
    }
  }

  async #loop(
    who: string,
    callers: Callers,
    trafficClass: Order["class"],
    credential: (renew: boolean) => Promise<Record<string, string> | null>,
  ): Promise<void> {
    const { random } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await pause(callers.pauseMs * 2 * random(), signal);
      if (signal.aborted) return;
      await this.#call(
        who,
        callers,
        this.#order(who, callers, trafficClass),
        credential,
      );
    }
  }

  #order(who: string, callers: Callers, trafficClass: Order["class"]): Order {
    const { random } = this.#options;
    const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
    return {
      id: `${who}-${this.#options.number}-${this.#calls++}`,
      endpoint: pick<Endpoint>(ENDPOINTS),
      stream: random() < 0.5,
      model: pick(callers.models),
      words: Math.floor(WORDS.least + random() * (WORDS.most - WORDS.least)),
      class: trafficClass,
      maxWaitMs: random() < 0.3 ? 0 : Math.floor(random() * callers.maxWaitMs),
      leavesAfterMs: random() < (callers.leaves ?? 0) ? Math.floor(random() * LEAVES_WITHIN_MS) : null,
    };
  }

  async #call(
    who: string,
    callers: Callers,
    order: Order,
    credential: (renew: boolean) => Promise<Record<string, string> | null>,
  ): Promise<void> {
    const { signal } = this.#stopping;
    const startedAt = performance.now();
    const record: CallRecord = {
      order,
      who,
      tries: [],
      startedAt,
      lastTriedAt: startedAt,
      endedAt: startedAt,
    };
    let held = await credential(false);
    for (let n = 0; held !== null; n++) {
      record.lastTriedAt = performance.now();
      const answer = await place(
        order,
        this.#options.functionsUrl,
        held,
        this.#options.tolerated,
      );
      record.tries.push(answer);
      this.tries.push({ who, triedAt: record.lastTriedAt, answer });
      if (answer.kind === "refused" && OF_THE_TOKEN.has(answer.code)) {
        await pause(FIRST_PAUSE_MS, signal);
        held = signal.aborted ? null : await credential(true);
        continue;
      }
      const again = Math.min(FIRST_PAUSE_MS * 2 ** n, LONGEST_PAUSE_MS);
      const after = Math.max(
        again,
        (answer.kind === "refused" && answer.retryAfterMs) || 0,
      );
      const spent = performance.now() - startedAt;
      if (
        !mayRepeat(answer) || signal.aborted ||
        spent + after > callers.patienceMs
      ) break;
      await pause(after, signal);
    }
    record.endedAt = performance.now();
    if (record.tries.length > 0) this.records.push(record);
  }
}

/** An answer that has begun to arrive is not started again by itself: people have read it. */
function mayRepeat(answer: Answered): boolean {
  if (answer.kind === "lost") return !answer.midway;
  return answer.kind === "refused" && !answer.midway &&
    REPEATABLE.has(answer.code);
}

/** One notebook's token, fetched once for all of its calls. */
class TokenWallet {
  #token: { credential: Record<string, string>; endsAt: number } | null = null;
  #fetching: Promise<void> | null = null;

  constructor(
    private readonly options: TrafficOptions,
    private readonly secret: string,
    private readonly counts: Record<string, number>,
    private readonly stopping: AbortSignal,
  ) {}

  /** Null: the load was stopped before one came. */
  async credential(renew: boolean): Promise<Record<string, string> | null> {
    if (renew) this.#token = null;
    while (this.#token === null || this.#token.endsAt < performance.now()) {
      if (this.stopping.aborted) return null;
      await (this.#fetching ??= this.#fetch().finally(() => this.#fetching = null));
    }
    return this.#token.credential;
  }

  async #fetch(): Promise<void> {
    let said: string;
    let pauseMs = 1_000;
    try {
      const response = await fetch(
        `${this.options.functionsUrl}/issue-kaggle-token`,
        {
          method: "POST",
          body: new URLSearchParams({
            grant_type: "client_credentials",
            client_secret: this.secret,
            ttl: "60",
          }),
        },
      );
      const body = await response.json();
      if (response.ok) {
        this.#token = {
          credential: { authorization: `Bearer ${body.access_token}` },
          endsAt: performance.now() + body.expires_in * 1_000 - RENEW_BEFORE_MS,
        };
        said = "issued";
        pauseMs = 0;
      } else {
        said = String(body.error ?? body.code);
        pauseMs = Number(response.headers.get("retry-after") ?? 1) * 1_000;
      }
    } catch {
      said = "lost";
    }
    this.counts[said] = (this.counts[said] ?? 0) + 1;
    if (pauseMs > 0) await pause(pauseMs, this.stopping);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
    if (signal.aborted) done();
  });
}
