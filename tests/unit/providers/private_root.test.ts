/** A server whose root is in no store: trusted by the calls that are told of its root, and by no others. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { hasProgram } from "../../harness/programs.ts";
import { gigachatProvider } from "../../../shared/providers/gigachat/provider.ts";
import { trustingFetch } from "../../../shared/providers/trusting_fetch.ts";
import { gigachatEmulator } from "../../../local/gigachat/emulator.ts";

const hasOpenSsl = hasProgram("openssl", ["version"]);

let folder: string;
let server: Deno.HttpServer<Deno.NetAddr>;
let root: string;
const fake = gigachatEmulator();

beforeAll(async () => {
  if (!hasOpenSsl) return;
  folder = await Deno.makeTempDir();
  const openssl = async (...args: string[]) => {
    const { success, stderr } = await new Deno.Command("openssl", {
      args,
      cwd: folder,
      stderr: "piped",
      stdout: "null",
    })
      .output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  };
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl(
    "req",
    "-x509",
    ...curve,
    "-keyout",
    "root.key",
    "-out",
    "root.pem",
    "-days",
    "2",
    "-subj",
    "/CN=Private Root",
  );
  await openssl("req", ...curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1");
  await Deno.writeTextFile(`${folder}/san`, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
  await openssl(
    "x509",
    "-req",
    "-in",
    "server.csr",
    "-CA",
    "root.pem",
    "-CAkey",
    "root.key",
    "-CAcreateserial",
    "-out",
    "server.pem",
    "-days",
    "2",
    "-extfile",
    "san",
  );
  root = await Deno.readTextFile(`${folder}/root.pem`);
  server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    cert: await Deno.readTextFile(`${folder}/server.pem`),
    key: await Deno.readTextFile(`${folder}/server.key`),
    onListen: () => {},
  }, fake.handler);
});
afterAll(async () => {
  await server?.shutdown();
  if (folder !== undefined) await Deno.remove(folder, { recursive: true });
});

// In CI it is installed, and nothing is skipped.
test.skipIf(!hasOpenSsl && !Deno.env.get("CI"))(
  "GigaChat is reached through its own root, and not without it",
  async () => {
    expect(hasOpenSsl, "openssl is not installed").toBe(true);
    const origin = `https://127.0.0.1:${server.addr.port}`;
    const through = (pem: string | undefined) =>
      gigachatProvider({
        baseUrl: `${origin}/api/v1`,
        authUrl: `${origin}/api/v2/oauth`,
        fetch: trustingFetch(pem, (options) => Deno.createHttpClient(options)),
      });
    const call = {
      model: "gigachat/GigaChat-2",
      secret: "Z2lnYTpjaGF0",
      prompt: { contents: [{ role: "user", parts: [{ text: "Hello" }] }] },
      signal: new AbortController().signal,
    };
    // As a variable of one line, too.
    for (const pem of [root, root.replaceAll("\n", "\\n")]) {
      expect((await through(pem).text.generate(call)).verdict).toEqual({ ok: true });
    }
    await expect(through(undefined).text.generate(call)).rejects.toMatchObject({
      diagnosis: { fault: "nobody", code: "upstream_unavailable" },
    });
  },
);
