/** The question about a document, run as a program with the key of a service; and again, as its next question. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";
import { run, runEve } from "./example_stack.ts";

let stack: TestStack;
let env: Record<string, string>;
let isBack: Promise<void> | undefined;
beforeAll(async () => {
  stack = await startTestStack({ emulator: { latencyMs: 5 } });
  const { secret } = await runEve(
    stack,
    ...["consumers", "add", "assistant", "--kind", "service", "--scopes", "llm,media,chats"],
  );
  env = { EVE_GATEWAY_URL: stack.url, EVE_GATEWAY_SECRET: secret };
});
afterAll(() => stack?.stop());

const ask = (question: string) =>
  run(Deno.execPath(), ["run", "-A", "--cached-only", "examples/document_chat.ts", question], env);

test("is answered, with places, a picture and the history", async () => {
  const first = await ask("Where is the load-bearing wall?");
  expect(first.code, first.complained).toBe(0);
  expect(first.said).toMatch(/\n\nuser: Where is the load-bearing wall\?\nassistant: .+ \(\d+ tokens\)\n/s);
  expect(first.said).toContain("found on page 4 at 24, 40, 96, 44: The load-bearing wall stands");
  const address = /picture p4-2\.bmp: (\S+)/.exec(first.said)?.[1];
  const picture = await fetch(address!, { headers: { authorization: `Bearer ${env.EVE_GATEWAY_SECRET}` } });
  expect(picture.headers.get("content-type")).toBe("image/bmp");
  expect((await picture.arrayBuffer()).byteLength).toBe(54 + 120 * 80 * 3);
  // The next question goes on in the same conversation, and the same picture is no second file.
  const second = await ask("And how far is the load-bearing wall from axis B?");
  expect(second.code, second.complained).toBe(0);
  expect(second.said.match(/^(user|assistant): /gm)).toEqual([
    "user: ",
    "assistant: ",
    "user: ",
    "assistant: ",
  ]);
  expect(await runEve(stack, "storage", "usage")).toMatchObject({ kinds: { media: { objects: 1 } } });
});

test("goes on where it was when the database is away for a while, and writes nothing twice", async () => {
  await stack.database.stop();
  const running = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--cached-only", "examples/document_chat.ts", "Where are the doors of oak?"],
    cwd: CHECKOUT,
    env,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said = new Response(running.stdout).text();
  let complained = "";
  for await (const part of running.stderr.pipeThrough(new TextDecoderStream())) {
    complained += part;
    if (complained.includes("Trying again") && !isBack) isBack = stack.database.start();
  }
  await isBack;
  expect((await running.status).code, complained).toBe(0);
  expect(complained).toContain("database_unavailable");
  expect((await said).match(/^user: Where are the doors of oak\?$/gm)).toHaveLength(1);
  expect((await said).match(/^(user|assistant): /gm)).toHaveLength(6);
  expect((await said).match(/^found on page 3/gm)).toHaveLength(1);
});

test("says what is wrong, and no secret", async () => {
  const { code, complained } = await run(
    Deno.execPath(),
    ["run", "-A", "--cached-only", "examples/document_chat.ts"],
    { ...env, EVE_GATEWAY_SECRET: "eve_service_wrong" },
  );
  expect(code).toBe(1);
  expect(complained).toContain("credential_invalid");
  expect(complained).not.toContain("eve_service_wrong");
});
