import * as z from "zod";
import { SCOPES } from "../contract/actor.ts";
import { GatewayError } from "../contract/gateway_error.ts";
import { mintConsumerSecret } from "../tokens/consumer_secret.ts";
import { route } from "./route.ts";

const name = z.string().trim().min(1).max(63);
const count = z.number().int().min(0).max(2_147_483_647).nullish();
/** A query has texts alone. */
const number = z.string().regex(/^\d{1,15}$/, "must be a whole number").transform(Number);

const scope = {
  models: z.array(z.string().min(1).max(200)).min(1, "must name at least one, or be null for all").nullish(),
  max_class: z.enum(["interactive", "batch"]).optional(),
  rpm: count,
  requests_per_day: count,
  tokens_per_day: z.number().int().min(0).nullish(),
  token_ttl_s: z.number().int().min(60).max(86_400).optional(),
};

const scopes = z.array(z.enum(SCOPES)).min(1, `must name at least one of ${SCOPES.join(", ")}`).max(
  SCOPES.length,
);
const seenConsumer = z.record(z.string().max(40), z.unknown()).refine(
  (seen) => Object.keys(seen).length <= 20,
  "has at most 20 fields",
);
const tenantId = z.string().trim().min(1).max(100);

const issuedToken = z.object({ access_token: z.string(), expires_in: z.number(), scope: z.string() });

/** How long the previous secret stays valid by default: a day, in which programs can be given the new one. */
const GRACE_S = 86_400;

/** Consumers and their tokens. A secret is in the one answer that made it, and nowhere else. */
export const consumerRoutes = [
  route(
    "GET",
    "/consumers",
    z.strictObject({
      name: name.optional(),
      search: z.string().trim().max(100).optional(),
      after: name.optional(),
      limit: number.optional(),
    }),
    async ({ dependencies: { admin, reading } }, { name, search, after, limit }) => {
      // What they did today is in the sums; should they be behind, so are the figures.
      await reading.rollUp().catch(() => false);
      if (name === undefined) {
        return await admin.consumerPage({ search: search || undefined, after, atMost: limit });
      }
      const consumers = await admin.consumers(name);
      return { consumers, total: consumers.length, next_after: null };
    },
  ),

  route(
    "POST",
    "/consumers/add",
    z.strictObject({
      name,
      kind: z.enum(["service", "notebook"]),
      ...scope,
      scopes: scopes.optional(),
      tenant_id: tenantId.optional(),
    }),
    async ({ dependencies }, asked) => {
      const secret = await mintConsumerSecret(asked.kind);
      const consumer = await dependencies.admin.addConsumer({
        keyId: secret.keyId,
        proof: secret.proof,
        name: asked.name,
        kind: asked.kind,
        models: asked.models ?? null,
        maxClass: asked.max_class,
        rpm: asked.rpm ?? null,
        requestsPerDay: asked.requests_per_day ?? null,
        tokensPerDay: asked.tokens_per_day ?? null,
        tokenTtlSeconds: asked.token_ttl_s,
        scopes: asked.scopes,
        tenantId: asked.tenant_id,
      });
      return { consumer, secret: secret.text };
    },
  ),

  route(
    "POST",
    "/consumers/rotate",
    z.strictObject({ name, grace_s: z.number().int().min(0).max(2_592_000).default(GRACE_S) }),
    async ({ dependencies }, asked) => {
      const [known] = await dependencies.admin.consumers(asked.name);
      if (known === undefined) {
        throw new GatewayError("not_found", { message: `There is no consumer named ${asked.name}.` });
      }
      const secret = await mintConsumerSecret(known.kind, known.key_id ?? undefined);
      const consumer = await dependencies.admin.rotateConsumer(asked.name, secret.proof, asked.grace_s);
      return { consumer, secret: secret.text };
    },
  ),

  route(
    "POST",
    "/consumers/enable",
    z.strictObject({ name, enabled: z.boolean(), seen: seenConsumer.optional() }),
    async ({ dependencies }, asked) => ({
      consumer: await dependencies.admin.enableConsumer(asked.name, asked.enabled, asked.seen),
    }),
  ),

  route("POST", "/consumers/scope", z.strictObject({ name, ...scope }), async ({ dependencies }, asked) => {
    const { name: consumer, ...changes } = asked;
    return { consumer: await dependencies.admin.scopeConsumer(consumer, changes) };
  }),

  route(
    "POST",
    "/consumers/access",
    z.union([
      z.strictObject({ name, scopes, tenant_id: tenantId.optional() }),
      z.strictObject({ name, tenant_id: tenantId }),
    ], { error: `send name, and scopes (some of ${SCOPES.join(", ")}), tenant_id or both` }),
    async ({ dependencies }, { name, ...changes }) => ({
      consumer: await dependencies.admin.setConsumerAccess(name, changes),
    }),
  ),

  route(
    "POST",
    "/consumers/change",
    z.strictObject({
      name,
      seen: seenConsumer,
      changes: z.strictObject(scope).optional(),
      scopes: scopes.optional(),
      tenant_id: tenantId.optional(),
    }),
    async ({ dependencies }, { name, seen, changes, ...access }) => ({
      consumer: await dependencies.admin.changeConsumer(name, seen, { changes, ...access }),
    }),
  ),

  route("POST", "/consumers/remove", z.strictObject({ name }), async ({ dependencies }, asked) => {
    await dependencies.admin.removeConsumer(asked.name);
    return { removed: asked.name };
  }),

  route(
    "GET",
    "/tokens",
    z.strictObject({
      consumer: name.optional(),
      ended: z.enum(["true", "false"]).default("false"),
      limit: number.optional(),
    }),
    async ({ dependencies }, asked) => ({
      tokens: await dependencies.admin.tokens({
        consumer: asked.consumer,
        includeEnded: asked.ended === "true",
        atMost: asked.limit,
      }),
    }),
  ),

  // The token is in this one answer, and nowhere else.
  route(
    "POST",
    "/tokens/issue",
    z.strictObject({
      consumer: name,
      ttl_s: z.number().int().min(60).max(86_400).optional(),
      requests: z.number().int().min(1).max(2_147_483_647).optional(),
    }),
    async ({ dependencies, signal }, { consumer, ttl_s, requests }) => {
      const response = await dependencies.issueToken(
        { grant_type: "client_credentials", client_id: consumer, ttl: ttl_s, requests },
        signal,
      );
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) {
        throw new GatewayError(
          answer.error === "temporarily_unavailable" ? "rate_limited" : "invalid_argument",
          {
            message: String(answer.error_description ?? "No token was issued."),
          },
        );
      }
      return issuedToken.parse(answer);
    },
  ),

  route(
    "POST",
    "/tokens/revoke",
    z.union([
      z.strictObject({ token_id: z.uuid(), reason: z.string().max(200).optional() }),
      z.strictObject({ consumer: name, reason: z.string().max(200).optional() }),
    ], { error: "send token_id or consumer" }),
    async ({ dependencies }, asked) => ({
      revoked: await dependencies.admin.revokeTokens({
        ...("token_id" in asked ? { tokenId: asked.token_id } : { consumer: asked.consumer }),
        reason: asked.reason,
      }),
    }),
  ),
];
