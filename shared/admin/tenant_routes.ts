import * as z from "zod";
import { route } from "./route.ts";

const id = z.string().trim().min(1).max(100);
const fields = {
  name: z.string().trim().max(200).nullish(),
  storage_limit_bytes: z.number().int().min(0).nullish(),
};

/** Tenants and the signed-in users who may act for them. */
export const tenantRoutes = [
  route("GET", "/tenants", z.strictObject({ id: id.optional() }), async ({ dependencies }, asked) => ({
    tenants: await dependencies.tenants.list(asked.id),
  })),

  route(
    "POST",
    "/tenants/add",
    z.strictObject({ id, ...fields, is_default: z.boolean().optional() }),
    async ({ dependencies }, { id, ...fields }) => ({ tenant: await dependencies.tenants.add(id, fields) }),
  ),

  route(
    "POST",
    "/tenants/change",
    z.strictObject({
      id,
      ...fields,
      is_default: z.literal(true).optional(),
      seen: z.looseObject({}).refine((seen) => Object.keys(seen).length <= 10).optional(),
    }),
    async ({ dependencies }, { id, seen, ...changes }) => ({
      tenant: await dependencies.tenants.change(id, changes, seen),
    }),
  ),

  route(
    "GET",
    "/tenants/members",
    z.strictObject({ tenant_id: id }),
    async ({ dependencies }, { tenant_id }) => ({ members: await dependencies.tenants.members(tenant_id) }),
  ),

  route(
    "POST",
    "/tenants/members/set",
    z.strictObject({ tenant_id: id, user_id: z.uuid(), is_member: z.boolean() }),
    async ({ dependencies }, { tenant_id, user_id, is_member }) => ({
      changed: await dependencies.tenants.setMember(tenant_id, user_id, is_member),
    }),
  ),
];
