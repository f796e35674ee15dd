/** Python's own packages against the running stack: each file of `python/` is a package, each of its tests is one here. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mintConsumerSecret } from "../../shared/tokens/consumer_secret.ts";
import { createAdmin } from "../../shared/database/admin.ts";
import { rpcTransport } from "../../shared/database/transport/rpc_transport.ts";
import { CHECKOUT } from "../../local/paths.ts";
import { PACKAGES_PYTHON } from "../harness/python.ts";
import { closeTestGateway, openTestGateway, type TestGateway } from "./gemini/gemini_stack.ts";

const FOLDER = `${CHECKOUT}/tests/endpoints/python`;
const FILES = [
  "anthropic_package",
  "openai_package",
  "google_genai_package",
  "google_generativeai_package",
  "supabase_package",
];

describe.skipIf(PACKAGES_PYTHON === null)("Python's packages", () => {
  let gateway: TestGateway;
  let token: string;
  /** Stands before the stack for tests in which a second must not be over too soon: see `busy_for_a_second`. */
  let front: Deno.HttpServer<Deno.NetAddr>;
  beforeAll(async () => {
    gateway = await openTestGateway();
    const { text, keyId, proof } = await mintConsumerSecret("service");
    await createAdmin(rpcTransport({ url: gateway.stack.url, secretKey: gateway.key }))
      .addConsumer({ name: "python", kind: "service", keyId, proof });
    token = text;
    let stopping = fetch;
    front = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
      const { pathname, search } = new URL(request.url);
      if (pathname !== "/stop") return await stopping(`${gateway.stack.url}${pathname}${search}`, request);
      stopping = await gateway.stoppingClock();
      return new Response();
    });
  });
  afterAll(async () => {
    await front?.shutdown();
    await closeTestGateway(gateway);
  });

  describe.each(FILES)("%s", (file) => {
    let said: string;
    beforeAll(async () => {
      await gateway.clear();
      const { stderr } = await new Deno.Command(PACKAGES_PYTHON!, {
        args: ["-m", "unittest", "--verbose", "--buffer", file],
        cwd: FOLDER,
        env: {
          EVE_GATEWAY_URL: gateway.stack.url,
          EVE_EMULATOR_URL: gateway.stack.emulatorUrl!,
          EVE_FRONT_URL: `http://127.0.0.1:${front.addr.port}`,
          EVE_TOKEN: token,
          PYTHONDONTWRITEBYTECODE: "1",
          PYTHONIOENCODING: "utf-8",
          PYTHONWARNINGS: "ignore",
        },
        stdout: "null",
      }).output();
      said = new TextDecoder().decode(stderr);
    });

    test.each(testsOf(file))("%s", (name) => {
      const passed = new RegExp(`^${name} \\(.*\\) \\.\\.\\. ok$`, "m").test(said);
      expect(passed, said).toBe(true);
    });
  });
});

/** The names of a file's tests. */
function testsOf(file: string): string[] {
  const source = Deno.readTextFileSync(`${FOLDER}/${file}.py`);
  return [...source.matchAll(/^ {4}def (test_\w+)\(/gm)].map(([, name]) => name!);
}
