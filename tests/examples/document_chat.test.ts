/** The question about a document, run as a program with the key of a service; and again, as its next question. */
import postgres from "postgres";
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

test("is in the console as it went: its messages, calls and picture; its words where the owner lets them be read", async () => {
  const administrators = async (path: string) => {
    const seen = await fetch(`${stack.url}/functions/v1/admin/${path}`, {
      headers: { apikey: stack.keys.secret },
    });
    expect(seen.status).toBe(200);
    return await seen.json();
  };
  const { chats } = await administrators("chats?user_id=demo");
  expect(chats).toMatchObject([{ consumer: "assistant", messages: 6, title: null }]);
  const one = `chats/one?chat_id=${chats[0].id}`;
  const dark = await administrators(one);
  expect(dark).toMatchObject({ shows_text: false, cost: { calls: 3 } });
  // Each answer leads to its call, and costs what that cost.
  const answers = dark.messages.filter(({ role }: { role: string }) => role === "assistant");
  for (const { request_no, total_tokens } of answers) {
    expect(request_no).toBeGreaterThan(0);
    expect(total_tokens).toBeGreaterThan(0);
  }
  const images = (seen: typeof dark) =>
    seen.messages.flatMap((each: { images: { image_name: string | null }[] }) =>
      each.images.map(({ image_name }) => image_name)
    );
  expect(images(dark)).toEqual([null, null, null]);
  expect(JSON.stringify(dark)).not.toMatch(/wall|oak|bmp/);
  const sql = postgres(stack.databaseUrl, { max: 1 });
  try {
    await sql`update eve.settings set value = 1 where name = 'chats_text_for_administrators'`;
    const bright = await administrators(one);
    expect(
      bright.messages.filter(({ role }: { role: string }) => role === "user").map(({ content }: {
        content: string;
      }) => content),
    ).toEqual([
      "Where is the load-bearing wall?",
      "And how far is the load-bearing wall from axis B?",
      "Where are the doors of oak?",
    ]);
    expect(images(bright)).toEqual(["p4-2.bmp", "p4-2.bmp", "p3-1.bmp"]);
  } finally {
    await sql`update eve.settings set value = 0 where name = 'chats_text_for_administrators'`;
    await sql.end();
  }
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
