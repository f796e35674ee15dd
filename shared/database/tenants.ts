import { z } from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

/** What a consumer may use, in the order in which people read them. */
export const SCOPES = ["llm", "media", "chats", "vision", "intake"] as const;
export type Scope = (typeof SCOPES)[number];

const tenant = z.object({
  id: z.string(),
  name: z.string().nullable(),
  is_default: z.boolean(),
  /** Null: the limit `tenant` holds. */
  storage_limit_bytes: z.number().nullable(),
  created_at: z.string(),
  members: z.number(),
  consumers: z.number(),
});
export type Tenant = z.output<typeof tenant>;

const access = z.object({ name: z.string(), scopes: z.array(z.string()), tenant_id: z.string() });
export type ConsumerAccess = z.output<typeof access>;

/** Whose things are whose, and who may use what: for the project's owner. */
export interface Tenants {
  list(): Promise<Tenant[]>;
  /** Adds one, or changes it: a name or a limit of null is cleared. @throws GatewayError `invalid_request` */
  save(terms: Pick<Tenant, "id" | "name" | "storage_limit_bytes" | "is_default">): Promise<void>;
  /** A signed-in user, by their id. @throws GatewayError `invalid_request`: there is no such tenant */
  setMember(tenantId: string, userId: string, isMember: boolean): Promise<void>;
  /** Null: there is no such consumer. */
  access(consumer: string): Promise<ConsumerAccess | null>;
  /** What is null stays. @throws GatewayError `invalid_request`: there is no such consumer, tenant or scope */
  setAccess(consumer: string, scopes: string[] | null, tenantId: string | null): Promise<ConsumerAccess>;
}

const TIMEOUT_MS = 15_000;

export function createTenants(transport: Transport): Tenants {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, TIMEOUT_MS);
  return {
    list: () => ask("eve_tenants", {}, z.array(tenant)),
    async access(name) {
      const all = await ask("eve_consumer_accesses", {}, z.record(z.string(), access.omit({ name: true })));
      return all[name] === undefined ? null : { name, ...all[name] };
    },
    async save({ id, name, storage_limit_bytes, is_default }) {
      await ask("eve_tenant_save", { id, name, storage_limit_bytes, is_default }, z.unknown());
    },
    async setMember(tenantId, userId, isMember) {
      const terms = { tenant_id: tenantId, user_id: userId, is_member: isMember };
      await ask("eve_tenant_member", terms, z.unknown());
    },
    setAccess: (name, scopes, tenantId) =>
      ask("eve_consumer_access", { name, scopes, tenant_id: tenantId }, access),
  };
}
