import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

const tenant = z.object({
  id: z.string(),
  name: z.string().nullable(),
  is_default: z.boolean(),
  storage_limit_bytes: z.number().nullable(),
  created_at: z.string(),
  members: z.number(),
  consumers: z.number(),
});

/**
 * Whose files, chats and pictures are kept apart from others'. `is_default`: whose a thing is when nobody says. `storage_limit_bytes`:
 * null is the limit that all have alike. `members` and `consumers`: how many.
 */
export type TenantRow = z.output<typeof tenant>;

const member = z.object({ user_id: z.string(), added_at: z.string() });

/** A signed-in user who may act for a tenant. */
export type TenantMember = z.output<typeof member>;

/** What is absent stays; null clears. */
export interface TenantChanges {
  /** At most 200 characters. */
  name?: string | null;
  /** From 0. */
  storage_limit_bytes?: number | null;
  /** True: the default from now on, instead of the one that is. */
  is_default?: boolean;
}

/**
 * What the owner does to tenants.
 * @throws GatewayError `invalid_argument` for an id that is unknown or taken, and for values out of bounds
 */
export interface Tenants {
  /** All, or the one of that id, if there is one. */
  list(id?: string): Promise<TenantRow[]>;
  /** An id has 1 to 100 letters, digits or `. _ -`, and does not begin with a dot. */
  add(id: string, fields: TenantChanges): Promise<TenantRow>;
  /** @param seen fields as they were read, each of which must still be so. @throws GatewayError `changed_meanwhile` */
  change(id: string, changes: TenantChanges, seen?: Record<string, unknown>): Promise<TenantRow>;
  /** Those who were added first first, at most 1,000. */
  members(id: string): Promise<TenantMember[]>;
  /** Whether that was not so already. Whether there is such a user is not asked. */
  setMember(id: string, userId: string, isMember: boolean): Promise<boolean>;
}

/** A person waits for it. */
const TENANTS_TIMEOUT_MS = 15_000;

export function createTenants(transport: Transport, timeoutMs = TENANTS_TIMEOUT_MS): Tenants {
  const ask = <Shape extends z.ZodType>(name: string, args: Record<string, unknown>, shape: Shape) =>
    call(transport, name, args, shape, timeoutMs);
  return {
    list: (id) => ask("eve_tenants", { id: id ?? null }, z.array(tenant)),
    add: (id, fields) => ask("eve_tenant_add", { id, ...fields }, tenant),
    change: (id, changes, seen) =>
      seen === undefined
        ? ask("eve_tenant_change", { id, changes }, tenant)
        : ask("eve_tenant_change_seen", { id, seen, changes }, tenant),
    members: (id) => ask("eve_tenant_members", { tenant_id: id }, z.array(member)),
    setMember: async (id, userId, isMember) => {
      const { changed } = await ask(
        "eve_tenant_member",
        { tenant_id: id, user_id: userId, is_member: isMember },
        z.object({ changed: z.boolean() }),
      );
      return changed;
    },
  };
}
