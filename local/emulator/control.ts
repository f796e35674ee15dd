/**
 * How tests and users inspect and change the emulator: as a handle in the same process, and over HTTP under
 * `/__control/`. It is no part of the Gemini API, and no header of a request ever changes how that request fares.
 */

import { z } from "zod";
import type { EmulatedApi } from "./emulated_api.ts";
import type { Exchange } from "./exchange.ts";
import type { Fault, FaultSpec } from "./faults.ts";
import type { AdmittedRequest, Counts, SeenRequest } from "./journal.ts";
import type { Limits } from "./models.ts";
import { limitsSchema, windowSchema } from "./options.ts";
import type { LaneUse, WindowShape } from "./quota.ts";

export interface Stats extends Counts {
  /** The emulator's clock, milliseconds since the epoch. */
  now: number;
  window: WindowShape;
  lanes: (LaneUse & { limits: Limits })[];
  /** The last admitted requests, oldest first. */
  lastAdmitted: AdmittedRequest[];
}

export interface ResetRequest {
  /** Limits and window go back to what the emulator was started with, too. */
  limits?: boolean;
}

export interface LimitChange extends Partial<Limits> {
  model: string;
  /** Left out: the model's own limits, for every project without an override. */
  project?: string;
}

export interface EmulatorControl {
  /** @param last how many admitted requests to list; all that are kept unless given. */
  stats(last?: number): Stats;
  /** The last requests as they came, oldest first, keys as fingerprints. */
  requests(last?: number): SeenRequest[];
  /** Queues faults. @returns their numbers. @throws when one is none of the kinds. */
  addFaults(...faults: FaultSpec[]): number[];
  /** Faults still to come. */
  faults(): { id: number; left: number | null; fault: Fault }[];
  /** @returns how many there were. */
  clearFaults(): number;
  /** @throws Error for a model that is not served. @returns the limits now in force. */
  setLimits(change: LimitChange): Limits;
  setWindow(shape: WindowShape): void;
  /** Forgets what was used, seen and scripted. */
  reset(options?: ResetRequest): void;
}

export function controlOf(api: EmulatedApi): EmulatorControl {
  return {
    stats(last) {
      const now = api.now();
      const limits = (project: string, model: string) => api.registry.limits(project, model);
      return {
        now,
        window: api.quota.window,
        ...api.journal.counts,
        lanes: api.quota.use(now, limits).map((lane) => ({
          ...lane,
          limits: limits(lane.project, lane.model),
        })),
        lastAdmitted: api.journal.lastAdmitted(last),
      };
    },
    requests: (last) => api.journal.lastRequests(last),
    addFaults: (...faults) => faults.map((fault) => api.faults.add(fault)),
    faults: () => api.faults.list(),
    clearFaults: () => api.faults.clear(),
    setLimits({ model, project, ...limits }) {
      api.registry.setLimits(project ?? null, model, limits);
      return api.registry.limits(project ?? "", model);
    },
    setWindow: (shape) => api.quota.setWindow(shape),
    reset(options = {}) {
      api.journal.reset();
      api.faults.clear();
      api.quota.reset();
      api.cached.clear();
      if (options.limits) api.restoreLimits();
    },
  };
}

export const CONTROL_PATH = "/__control/";

const limitChange = limitsSchema.extend({ model: z.string(), project: z.string().optional() });
const resetRequest = z.strictObject({ limits: z.boolean().optional() });

/** Control requests are small; a list of faults fits many times over. */
const MAX_CONTROL_BYTES = 1_048_576;

/** Admitted requests in the statistics unless `?last=` says otherwise: enough for a test, and still a small answer. */
const DEFAULT_LAST = 1_000;

/** What each address does. The body is JSON that has been parsed, or undefined. */
type Action = (control: EmulatorControl, body: unknown, query: URLSearchParams) => unknown;

const ACTIONS: Record<string, Action> = {
  "GET stats": (control, _, query) => control.stats(countIn(query) ?? DEFAULT_LAST),
  "GET requests": (control, _, query) => control.requests(countIn(query)),
  "GET faults": (control) => control.faults(),
  "POST faults": (control, body) => ({
    ids: control.addFaults(...(Array.isArray(body) ? body : [body]) as FaultSpec[]),
  }),
  "DELETE faults": (control) => ({ cleared: control.clearFaults() }),
  "POST limits": (control, body) => {
    const changes = (Array.isArray(body) ? body : [body]).map((change) => limitChange.parse(change));
    return changes.map((change) => ({
      model: change.model,
      project: change.project ?? null,
      limits: control.setLimits(change),
    }));
  },
  "POST window": (control, body) => {
    const shape = windowSchema.parse(body);
    control.setWindow(shape);
    return shape;
  },
  "POST reset": (control, body) => {
    control.reset(resetRequest.parse(body ?? {}));
    return { reset: true };
  },
};

function countIn(query: URLSearchParams): number | undefined {
  const last = query.get("last");
  return last === null ? undefined : z.coerce.number().int().nonnegative().parse(last);
}

/** Answers one request to the control endpoint; what is wrong with it comes back as 400 with a reason. */
export async function handleControl(exchange: Exchange, control: EmulatorControl): Promise<void> {
  const { pathname, searchParams } = exchange.url;
  const action = ACTIONS[`${exchange.httpMethod} ${pathname.slice(CONTROL_PATH.length)}`];
  const answer = (status: number, body: unknown) =>
    exchange.send(status, "application/json", `${JSON.stringify(body)}\n`);
  if (!action) {
    return answer(404, {
      error: `no such control: ${exchange.httpMethod} ${pathname}; there are ${
        Object.keys(ACTIONS).join(", ")
      }`,
    });
  }
  try {
    const text = exchange.httpMethod === "POST" ? await exchange.text(MAX_CONTROL_BYTES) : "";
    answer(200, action(control, text === "" ? undefined : JSON.parse(text), searchParams));
  } catch (error) {
    if (exchange.gone.aborted) return;
    const reason = error instanceof z.ZodError
      ? error.issues.map((issue) => `${issue.path.join(".") || "(whole)"}: ${issue.message}`).join("; ")
      : error instanceof Error
      ? error.message
      : String(error);
    answer(400, { error: reason });
  }
}
