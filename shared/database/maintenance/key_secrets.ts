import * as z from "zod";
import { call } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";

/** A key that another secret would put into use again. */
export interface AwaitingSecret {
  id: string;
  alias: string;
  envVarName: string;
  /** Hashes of the secrets that upstream has rejected; none: it had no secret. */
  rejected: string[];
}

/** What the database knows of the secrets of keys. */
export interface KeySecrets {
  awaiting(): Promise<AwaitingSecret[]>;
  /** True: with a secret of this hash the key is in use again. */
  changed(keyId: string, secretHash: string): Promise<boolean>;
}

const awaiting = z.array(
  z.object({ id: z.string(), alias: z.string(), env_var_name: z.string(), rejected: z.array(z.string()) })
    .transform(({ env_var_name, ...row }): AwaitingSecret => ({ ...row, envVarName: env_var_name })),
);
const answer = z.object({ change: z.enum(["enabled", "none"]) });

/** @throws GatewayError as database_error.ts classifies it */
export function createKeySecrets(transport: Transport, timeoutMs: number): KeySecrets {
  return {
    awaiting: () => call(transport, "eve_keys_awaiting_secrets", {}, awaiting, timeoutMs),
    changed: async (keyId, secretHash) => {
      const args = { key_id: keyId, secret_hash: secretHash };
      return (await call(transport, "eve_key_secret_changed", args, answer, timeoutMs)).change === "enabled";
    },
  };
}
