/** The Python helper's own tests, by every Python that is here, against the running stack. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

/** What the helper promises to run on, and whatever `python3` is. */
const PYTHONS = ["python3.10", "python3.11", "python3.12", "python3.13", "python3"].filter(runs);

let stack: TestStack;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
});
afterAll(() => stack?.stop());

describe.skipIf(PYTHONS.length === 0)("[security.notebook] the Python helper", () => {
  test.each(PYTHONS)("passes its tests under %s", async (python) => {
    const secret = await mintConsumerSecret("notebook");
    const admin = createAdmin(rpcTransport({ url: stack.url, secretKey: stack.keys.secret }));
    const { keyId, proof } = secret;
    const models = ["gemma-4-31b-it"];
    const name = `kaggle-${python}`;
    // Batch leaves a part of the minute alone; the tests ask less than what is left of two projects.
    await admin.addConsumer({ name, kind: "notebook", keyId, proof, models, maxClass: "batch" });
    // A service for chats: a notebook is given few tokens a minute.
    const service = await mintConsumerSecret("service");
    await admin.addConsumer({
      name: `chats-${python}`,
      kind: "service",
      keyId: service.keyId,
      proof: service.proof,
    });
    for (
      const access of [{ name, scopes: ["llm", "media"] }, {
        name: `chats-${python}`,
        scopes: ["chats", "media"],
      }]
    ) {
      const scoped = await fetch(`${stack.url}/rest/v1/rpc/eve_consumer_access`, {
        method: "POST",
        headers: { apikey: stack.keys.secret, "content-type": "application/json" },
        body: JSON.stringify(access),
      });
      expect(scoped.status, await scoped.text()).toBe(200);
    }
    const { code, stderr } = await new Deno.Command(python, {
      args: ["-W", "error", "-m", "unittest", "discover", "-s", "tests/python"],
      cwd: CHECKOUT,
      env: {
        EVE_GATEWAY_URL: stack.url,
        EVE_GATEWAY_SECRET: secret.text,
        EVE_TEST_STREAM: "1",
        EVE_STORAGE_SECRET: secret.text,
        EVE_CHATS_SECRET: service.text,
        PYTHONDONTWRITEBYTECODE: "1",
      },
      stdout: "null",
    }).output();
    const said = new TextDecoder().decode(stderr);
    expect(code, said).toBe(0);
    expect(said).toMatch(/^OK$/m);
  });
});

function runs(python: string): boolean {
  try {
    return new Deno.Command(python, { args: ["--version"], stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch {
    return false;
  }
}
