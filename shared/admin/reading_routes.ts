import * as z from "zod";
import { GatewayError } from "../contract/gateway_error.ts";
import { type DatabaseClock, REQUEST_STATES, USAGE_BY } from "../database/reading.ts";
import { wholeDays } from "../runtime/pacific_days.ts";
import { route } from "./route.ts";

/** A query has texts alone. */
const number = z.string().regex(/^\d{1,15}$/, "must be a whole number").transform(Number);
const text = z.string().trim().min(1).max(200);
const share = z.number().min(0).max(0.9).optional();
const limit = z.number().int().min(0).max(2_147_483_647).nullish();

/** What could not be summed by then is in the next answer, and `complete_until` says so. Mostly there are some minutes to sum. */
const ROLLUP_TIME_LIMIT_MS = 1_500;

/** Less than a page waits; what is left of the work is done by the next run. */
const RUN_TIME_LIMIT_MS = 20_000;

/** Of sums: whole Pacific days, of which today is one, or from an instant on; by default seven days. */
const period = {
  days: number.pipe(z.number().min(1).max(400)).optional(),
  since: text.optional(),
  until: text.optional(),
};
const oneBeginning: [(asked: { days?: number; since?: string }) => boolean, { error: string }] = [
  ({ days, since }) => days === undefined || since === undefined,
  { error: "send days or since, not both" },
];
const beginning = (days: number | undefined, since: string | undefined, now: DatabaseClock) =>
  since ?? wholeDays(days ?? 7, now.pacific_day);

/** What maintenance answers. */
const operationRun = z.object({
  status: z.enum(["succeeded", "skipped", "failed"]),
  error: z.object({ detail: z.string() }).optional(),
}).transform(({ status, error }) => ({ status, error: error?.detail ?? null }));

/** What the pages show. The answers are those of the database's reading functions, by the names of the columns. */
export const readingRoutes = [
  route("GET", "/overview", z.strictObject({}), ({ dependencies }) => dependencies.reading.overview()),

  route("GET", "/find", z.strictObject({ id: text }), async ({ dependencies }, { id }) => ({
    found: await dependencies.reading.find(id),
  })),

  route(
    "GET",
    "/lanes",
    z.strictObject({ quota_project: text.optional(), model: text.optional() }),
    async ({ dependencies: { reading } }, asked) => {
      const [now, lanes] = await Promise.all([
        reading.now(),
        reading.lanes({ quotaProject: asked.quota_project, model: asked.model }),
      ]);
      return { now, lanes };
    },
  ),

  route("GET", "/models", z.strictObject({}), async ({ dependencies }) => {
    const models = await dependencies.models({ consumerId: null, tokenId: null });
    return {
      models: models.map((each) => ({
        model: each.model,
        replaced_by: each.replacedBy,
        provider: each.provider,
        rpm: each.rpm,
        tpm: each.tpm,
        rpd: each.rpd,
        capabilities: each.capabilities,
        max_output_tokens: each.maxOutputTokens,
      })),
    };
  }),

  route("GET", "/limits", z.strictObject({}), ({ dependencies }) => dependencies.reading.limits()),

  route(
    "POST",
    "/limits/set",
    z.strictObject({
      changes: z.array(z.strictObject({
        model: text,
        rpm: limit,
        tpm: limit,
        rpd: limit,
        batch_floor: share,
        interactive_floor: z.number().int().min(0).max(2_147_483_647).optional(),
        interactive_reserve: share,
        interactive_reserve_day: share,
      })).min(1).max(1_000),
      quota_project: text.nullish(),
      add_models: z.boolean().default(false),
    }),
    async ({ dependencies, administrator }, { changes, quota_project, add_models }) => ({
      changed: await dependencies.reading.setLimits(changes, {
        quotaProject: quota_project ?? undefined,
        addModels: add_models,
        ...(quota_project && { notes: `set by ${administrator.name}` }),
      }),
    }),
  ),

  route(
    "GET",
    "/requests",
    z.strictObject({
      request_id: text.optional(),
      consumer: text.optional(),
      model: text.optional(),
      key: text.optional(),
      outcome: z.enum(REQUEST_STATES).optional(),
      error_code: text.optional(),
      since: text.optional(),
      until: text.optional(),
      before: text.optional(),
      limit: number.optional(),
    }),
    ({ dependencies }, asked) =>
      dependencies.reading.requests({
        requestId: asked.request_id,
        consumer: asked.consumer,
        model: asked.model,
        key: asked.key,
        outcome: asked.outcome,
        errorCode: asked.error_code,
        since: asked.since,
        until: asked.until,
        before: asked.before,
        atMost: asked.limit,
      }),
  ),

  route(
    "GET",
    "/requests/detail",
    z.union([
      z.strictObject({ request_no: number }),
      z.strictObject({ request_id: text, consumer: text.optional() }),
    ], { error: "send request_no, or request_id and, where several used it, consumer" }),
    ({ dependencies }, asked) =>
      dependencies.reading.request(
        "request_no" in asked
          ? { requestNo: asked.request_no }
          : { requestId: asked.request_id, consumer: asked.consumer },
      ),
  ),

  route(
    "GET",
    "/requests/tail",
    z.strictObject({ after: z.iso.datetime({ offset: true }).optional(), limit: number.default(1_000) }),
    async ({ dependencies: { reading } }, { after, limit: atMost }) => {
      const { events, cursor } = await reading.tail(
        after === undefined ? null : { at: after, request_no: 0, refusal_no: 0 },
        atMost,
      );
      return { events, next: cursor.at };
    },
  ),

  route(
    "GET",
    "/requests/errors",
    z.strictObject({
      consumer: text.optional(),
      since: text.optional(),
      until: text.optional(),
      limit: number.optional(),
    }),
    async ({ dependencies }, { limit: atMost, ...asked }) => ({
      errors: await dependencies.reading.badRequests({ ...asked, atMost }),
    }),
  ),

  route(
    "GET",
    "/usage",
    z.strictObject({
      by: z.string().default("day").transform((names) => names.split(",").map((name) => name.trim()))
        .pipe(z.array(z.enum(USAGE_BY, { error: `must be some of ${USAGE_BY.join(", ")}` }))),
      ...period,
      consumer: text.optional(),
      model: text.optional(),
      key: text.optional(),
      limit: number.optional(),
      top: number.pipe(z.number().min(1).max(100)).optional(),
    }).refine(...oneBeginning),
    async ({ dependencies: { reading } }, { limit: atMost, days, since, ...asked }) => {
      await reading.rollUp(ROLLUP_TIME_LIMIT_MS).catch(() => false);
      const now = await reading.now();
      return { ...await reading.usage({ ...asked, since: beginning(days, since, now), atMost }), now };
    },
  ),

  route(
    "GET",
    "/usage/parts",
    z.strictObject({ ...period, consumer: text.optional() }).refine(...oneBeginning),
    async ({ dependencies: { reading } }, { days, since, ...asked }) =>
      await reading.usageParts({ ...asked, since: beginning(days, since, await reading.now()) }),
  ),

  route(
    "GET",
    "/alerts",
    z.strictObject({
      state: z.enum(["open", "closed", "all"]).optional(),
      kind: text.optional(),
      before: number.optional(),
      limit: number.optional(),
    }),
    ({ dependencies }, { limit: atMost, ...asked }) => dependencies.reading.alerts({ ...asked, atMost }),
  ),

  route("GET", "/alerts/detail", z.strictObject({ id: number }), async ({ dependencies }, { id }) => ({
    alert: await dependencies.reading.alert(id),
  })),

  route(
    "POST",
    "/alerts/acknowledge",
    z.strictObject({ id: z.number().int().positive() }),
    async ({ dependencies, administrator }, { id }) => ({
      alert: await dependencies.reading.acknowledgeAlert(id, administrator.name),
    }),
  ),

  route(
    "POST",
    "/alerts/test",
    z.strictObject({}),
    ({ dependencies, signal }) => dependencies.testChannels(signal),
  ),

  // What failed is run again, or what has not run, by those who read the alert about it.
  route(
    "POST",
    "/maintenance/run",
    z.strictObject({
      operation: z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, "must be the name of an operation"),
    }),
    async ({ dependencies, signal }, { operation }) => {
      const response = await dependencies.runOperation(operation, RUN_TIME_LIMIT_MS, signal);
      const answer = operationRun.safeParse(await response.json().catch(() => null));
      if (answer.success) return answer.data;
      throw new GatewayError(response.status === 404 ? "not_found" : "internal", {
        message: response.status === 404
          ? `There is no operation "${operation}".`
          : "The function maintenance did not answer.",
      });
    },
  ),

  route(
    "POST",
    "/alerts/close",
    z.strictObject({ id: z.number().int().positive() }),
    async ({ dependencies }, { id }) => ({ alert: await dependencies.reading.closeAlert(id) }),
  ),
];
