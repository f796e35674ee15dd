/** The Python helper's own tests, by every Python that is here, against the running stack. */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { PACKAGES_PYTHON } from "../harness/python.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

/** What the helper promises to run on, and whatever `python3` is, each once; and one that has httpx. */
const PYTHONS = [
  ...new Map(
    ["python3", "python3.10", "python3.11", "python3.12", "python3.13"].flatMap((python) => {
      const version = versionOf(python);
      return version === null ? [] : [[version, { name: python, python }]];
    }),
  ).values(),
  ...(PACKAGES_PYTHON === null ? [] : [{ name: "python-with-httpx", python: PACKAGES_PYTHON }]),
];

const MODEL = "gemma-4-31b-it";

let stack: TestStack;
beforeAll(async () => {
  // Room for all of them: what waits for its minute costs a minute.
  const limits = { rpm: 600, tpm: 1_000_000, rpd: 14_400 };
  stack = await startTestStack({ emulator: { latencyMs: 5, models: [{ name: MODEL, limits }] } });
  const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
  await sql`update public.google_ai_model_limits set rpm = ${limits.rpm}, tpm = ${limits.tpm} where model = ${MODEL}`;
  await sql.end();
});
afterAll(() => stack?.stop());

describe.skipIf(PYTHONS.length === 0)("[security.notebook] the Python helper", () => {
  test.each(PYTHONS)("passes its tests under $name", async ({ name: version, python }) => {
    const secret = await mintConsumerSecret("notebook");
    const admin = createAdmin(rpcTransport({ url: stack.url, secretKey: stack.keys.secret }));
    const { keyId, proof } = secret;
    const name = `kaggle-${version}`;
    await admin.addConsumer({ name, kind: "notebook", keyId, proof, models: [MODEL], maxClass: "batch" });
    // Another notebook for files, and a service for chats: one is given few tokens a minute.
    const files = await mintConsumerSecret("notebook");
    await admin.addConsumer({
      name: `files-${version}`,
      kind: "notebook",
      keyId: files.keyId,
      proof: files.proof,
    });
    const service = await mintConsumerSecret("service");
    await admin.addConsumer({
      name: `chats-${version}`,
      kind: "service",
      keyId: service.keyId,
      proof: service.proof,
    });
    for (
      const access of [
        { name: `files-${version}`, scopes: ["llm", "media"] },
        { name: `chats-${version}`, scopes: ["chats", "media"] },
      ]
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
        EVE_STORAGE_SECRET: files.text,
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

function versionOf(python: string): string | null {
  try {
    const { success, stdout } = new Deno.Command(python, { args: ["--version"] }).outputSync();
    return success ? new TextDecoder().decode(stdout).trim() : null;
  } catch {
    return null;
  }
}
