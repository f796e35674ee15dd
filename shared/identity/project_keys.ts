// Pinned: the packages below ask for ranges of these, and the bundler of a function takes what is loaded already.
import "@supabase/middleware";
import "jose";
import "std-env";
import { verifyCredentials } from "@supabase/server/core";
import { GatewayError } from "../contract/gateway_error.ts";
import { type Credential, notValid } from "./credentials.ts";
import { equalInConstantTime } from "../runtime/constant_time.ts";

/** The project's own API keys, by name. */
export interface ProjectKeys {
  url: string;
  secretKeys: Record<string, string>;
  publishableKeys: Record<string, string>;
}

export type VerifiedKey = { kind: "secret" | "publishable"; name: string };

/**
 * Keys that were found valid, by the set they belong to: no more than the set holds. The library takes half a millisecond
 * for each of its comparisons (two HMACs with a key made for the purpose), and the same key comes with every call.
 */
const recognised = new WeakMap<ProjectKeys, Map<string, VerifiedKey>>();

/**
 * Compares a credential with the project's keys, in constant time.
 * @throws GatewayError `credential_invalid` if it is none of them, `gateway_misconfigured` if there are none
 */
export async function verifyProjectKey(credential: Credential, keys: ProjectKeys): Promise<VerifiedKey> {
  if (Object.keys(keys.secretKeys).length === 0) {
    throw new GatewayError("gateway_misconfigured", { detail: "SUPABASE_SECRET_KEYS holds no key" });
  }
  const known = recognised.get(keys) ?? new Map<string, VerifiedKey>();
  for (const [value, verified] of known) {
    if (equalInConstantTime(value, credential.value)) return verified;
  }
  // A JWT here is a user's session or a legacy key (anon, service_role). Neither may be taken for a project key.
  if (isJwt(credential.value)) {
    throw notValid(
      credential.from,
      "Sessions of users and the legacy anon and service_role keys are not accepted: use the project's secret key (sb_secret_...).",
    );
  }
  const { data } = await verifyCredentials({ token: null, apikey: credential.value }, {
    auth: ["secret:*", "publishable:*"],
    env: { ...keys, jwks: { keys: [] } },
  });
  if (data?.authMode === "secret" || data?.authMode === "publishable") {
    const verified: VerifiedKey = { kind: data.authMode, name: data.keyName ?? "default" };
    recognised.set(keys, known.set(credential.value, verified));
    return verified;
  }
  throw notValid(credential.from);
}

function isJwt(value: string): boolean {
  return /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/.test(value);
}
