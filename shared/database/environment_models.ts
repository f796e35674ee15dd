import * as z from "zod";
import { call } from "./transport/call.ts";
import type { Transport } from "./transport/transport.ts";

/** Somebody waits for a picture, not for this. */
const TIMEOUT_MS = 8_000;

/** A model whose key is in the environment. */
export interface EnvironmentModel {
  /** As `eve.provider_kinds` names it: `gigachat`. */
  providerKind: string;
  /** Its name at the provider. */
  model: string;
  /** The variable that holds the key. */
  envVarName: string;
}

/**
 * Lets admission know the model and its key: the rows are made where there are none.
 * @returns the model's name in the gateway
 * @throws GatewayError `invalid_argument`, `database_unavailable`
 */
export async function modelFromEnvironment(
  transport: Transport,
  { providerKind, model, envVarName }: EnvironmentModel,
): Promise<string> {
  const args = { provider_kind: providerKind, model, env_var_name: envVarName };
  const answer = z.object({ model: z.string() });
  return (await call(transport, "eve_model_from_environment", args, answer, TIMEOUT_MS)).model;
}
