import { GatewayError } from "../contract/gateway_error.ts";
import { extractCredentials } from "./credentials.ts";
import { type ProjectKeys, verifyProjectKey } from "./project_keys.ts";

/**
 * Lets a request pass that carries the project's secret key, and nobody else: no consumer, no token, no browser.
 * @throws GatewayError `credential_missing`, `credential_invalid`, `credential_insufficient`, `gateway_misconfigured`
 */
export async function requireSecretKey(request: Request, project: ProjectKeys): Promise<void> {
  let isSecret = false;
  let isAny = false;
  // One that is present but invalid is rejected, even beside a valid one.
  for (const credential of extractCredentials(request)) {
    isAny = true;
    isSecret = (await verifyProjectKey(credential, project)).kind === "secret" || isSecret;
  }
  if (isSecret) return;
  throw isAny
    ? new GatewayError("credential_insufficient", {
      message:
        "This address needs the project's secret key (sb_secret_...), as `apikey` or as a Bearer token.",
    })
    : new GatewayError("credential_missing");
}
