import { createMaintenanceLedger } from "../database/maintenance/maintenance.ts";
import { FUNCTION_PREFIX } from "../runtime/function_names.ts";
import type { OperationContext } from "./operation.ts";

/**
 * Stores where this project's functions are, and with which key the schedule may call them: both go into Vault. The
 * function knows them from its own environment, so that nobody has to pass a key on. Done once, and again after a change
 * of the key.
 */
export async function connectSchedule(
  { call }: Pick<OperationContext, "call">,
  project: { url: string; secretKey: string },
): Promise<{ changed: string[] }> {
  const url = project.url.replace(/\/+$/, "");
  const address = FUNCTION_PREFIX === "" ? url : `${url}/functions/v1/${FUNCTION_PREFIX}`;
  return { changed: await createMaintenanceLedger(call).connect(address, project.secretKey) };
}
