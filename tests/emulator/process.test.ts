/** The emulator as a process of its own, with no more permissions than it needs. */
import { expect, test } from "vitest";

const MAIN = new URL("../../local/emulator/main.ts", import.meta.url).pathname;

function run(config: unknown): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-net", "--allow-env", MAIN],
    env: { EMULATOR_CONFIG: typeof config === "string" ? config : JSON.stringify(config) },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

test("it says where it listens, and answers there", async () => {
  const child = run({ port: 0, latencyMs: 0 });
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  try {
    const { value } = await lines.read();
    const url = /^listening (http:\/\/127\.0\.0\.1:\d+)\n$/.exec(value ?? "")?.[1];
    expect(url).toBeDefined();
    for (const key of ["demo-key-a", "demo-key-b", "demo-key-c"]) {
      const answer = await fetch(`${url}/v1beta/models/gemma-4-31b-it:generateContent?key=${key}`, {
        method: "POST",
        body: JSON.stringify({ contents: [{ parts: [{ text: "Say hi" }] }] }),
      });
      expect(answer.status).toBe(200);
      await answer.text();
    }
    const stats = await (await fetch(`${url}/__control/stats`)).json();
    expect(stats.lanes.map(({ project, today }: { project: string; today: number }) => [project, today]))
      .toEqual([["demo-one", 2], ["demo-two", 1]]);
  } finally {
    child.kill();
    await lines.cancel();
    await child.stderr.cancel();
    await child.status;
  }
});

test.each([
  ["not JSON", "{", /EMULATOR_CONFIG is not JSON/],
  ["a wrong option", { ports: 1 }, /configuration is not usable[\s\S]*ports/],
])("with %s it ends with one clear message", async (_, config, message) => {
  const { code, stderr } = await run(config).output();
  expect(code).toBe(1);
  expect(new TextDecoder().decode(stderr)).toMatch(message);
});
