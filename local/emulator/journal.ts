/**
 * What the emulator saw: counts, the last admitted requests, and the last requests whole. A key is never in it, only
 * its fingerprint.
 */

import type { LimitName } from "./models.ts";

export interface AdmittedRequest {
  /** Milliseconds since the epoch, by the emulator's clock. */
  at: number;
  key: string;
  project: string;
  model: string;
  method: string;
  requests: number;
  tokens: number;
}

export interface SeenRequest {
  at: number;
  httpMethod: string;
  path: string;
  method: string | null;
  model: string | null;
  key: string | null;
  project: string | null;
  headers: Record<string, string>;
  body: string;
  /** What it took of the quota; null: nothing, or not yet. */
  used: { requests: number; tokens: number } | null;
  /** Null while it is being answered, and for one whose caller went away first. */
  status: number | null;
}

export interface Counts {
  received: {
    total: number;
    byKey: Record<string, number>;
    byProject: Record<string, number>;
    byModel: Record<string, number>;
    byMethod: Record<string, number>;
  };
  admitted: { total: number; byKey: Record<string, number>; byModel: Record<string, number>; tokens: number };
  /** Refused for lack of quota; a request that breaks several limits counts once, by the longest lasting. */
  refused: {
    total: number;
    byLimit: Record<LimitName | "zero", number>;
    byKey: Record<string, number>;
    byModel: Record<string, number>;
  };
  answered: { total: number; byStatus: Record<string, number> };
  /** Callers who left: before the first byte, and in the middle of a stream. */
  aborted: { waiting: number; streams: number };
  faults: { total: number; byKind: Record<string, number> };
  inFlight: number;
  maxInFlight: number;
}

/** Bodies are kept up to this many characters. */
const MAX_BODY = 65_536;

function noCounts(): Counts {
  return {
    received: { total: 0, byKey: {}, byProject: {}, byModel: {}, byMethod: {} },
    admitted: { total: 0, byKey: {}, byModel: {}, tokens: 0 },
    refused: { total: 0, byLimit: { rpm: 0, tpm: 0, rpd: 0, zero: 0 }, byKey: {}, byModel: {} },
    answered: { total: 0, byStatus: {} },
    aborted: { waiting: 0, streams: 0 },
    faults: { total: 0, byKind: {} },
    inFlight: 0,
    maxInFlight: 0,
  };
}

function add(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}

export class Journal {
  #counts = noCounts();
  #admitted: AdmittedRequest[] = [];
  #seen: SeenRequest[] = [];

  constructor(private readonly keepAdmitted: number, private readonly keepRequests: number) {}

  get counts(): Counts {
    return structuredClone(this.#counts);
  }

  /** Everything starts at zero again, except what is still being answered. */
  reset(): void {
    const { inFlight } = this.#counts;
    this.#counts = { ...noCounts(), inFlight, maxInFlight: inFlight };
    this.#admitted = [];
    this.#seen = [];
  }

  received(seen: SeenRequest): void {
    const { received } = this.#counts;
    received.total++;
    add(received.byKey, seen.key ?? "none");
    add(received.byProject, seen.project ?? "none");
    add(received.byModel, seen.model ?? "none");
    add(received.byMethod, seen.method ?? "none");
    if (this.keepRequests === 0) return;
    this.#seen.push(seen);
    if (this.#seen.length > this.keepRequests) this.#seen.shift();
  }

  keepBody(seen: SeenRequest, body: string): void {
    if (this.keepRequests > 0) seen.body = body.slice(0, MAX_BODY);
  }

  started(): void {
    this.#counts.inFlight++;
    this.#counts.maxInFlight = Math.max(this.#counts.maxInFlight, this.#counts.inFlight);
  }

  ended(): void {
    this.#counts.inFlight--;
  }

  admitted(request: AdmittedRequest): void {
    const { admitted } = this.#counts;
    admitted.total++;
    admitted.tokens += request.tokens;
    add(admitted.byKey, request.key);
    add(admitted.byModel, request.model);
    if (this.keepAdmitted === 0) return;
    this.#admitted.push(request);
    // Dropping half at once keeps this cheap when the journal is long.
    if (this.#admitted.length >= 2 * this.keepAdmitted) {
      this.#admitted = this.#admitted.slice(-this.keepAdmitted);
    }
  }

  refused(limit: LimitName | "zero", key: string, model: string): void {
    const { refused } = this.#counts;
    refused.total++;
    refused.byLimit[limit]++;
    add(refused.byKey, key);
    add(refused.byModel, model);
  }

  answered(status: number): void {
    this.#counts.answered.total++;
    add(this.#counts.answered.byStatus, String(status));
  }

  aborted(streaming: boolean): void {
    this.#counts.aborted[streaming ? "streams" : "waiting"]++;
  }

  faulted(kind: string): void {
    this.#counts.faults.total++;
    add(this.#counts.faults.byKind, kind);
  }

  /** The last admitted requests, oldest first. */
  lastAdmitted(count = this.keepAdmitted): AdmittedRequest[] {
    return count === 0 ? [] : this.#admitted.slice(-Math.min(count, this.keepAdmitted));
  }

  /** The last requests, oldest first. */
  lastRequests(count = this.keepRequests): SeenRequest[] {
    return count === 0 ? [] : this.#seen.slice(-count).map((seen) => ({ ...seen }));
  }
}
