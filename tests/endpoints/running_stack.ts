/** A stack that another process has started, by what that process says of it. */
import process from "node:process";
import type { RunningStack } from "./test_gateway.ts";

/** Variable that names it. */
export const TEST_GATEWAY = "EVE_TEST_GATEWAY";

export function described({ url, emulatorUrl, databaseUrl, keys }: RunningStack): string {
  return JSON.stringify({ url, emulatorUrl, databaseUrl, keys });
}

export function runningStack(): RunningStack {
  const { url, emulatorUrl, databaseUrl, keys } = JSON.parse(process.env[TEST_GATEWAY] ?? "{}");
  return {
    url,
    emulatorUrl,
    databaseUrl,
    keys,
    invoke: (path, body, init) =>
      fetch(`${url}/functions/v1/${path}`, {
        method: "POST",
        body: body === undefined ? undefined : JSON.stringify(body),
        ...init,
        headers: { "apikey": keys.secret, "content-type": "application/json", ...init?.headers },
      }),
  };
}
