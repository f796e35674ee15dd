/** Python's chats against the running stack while its database is stopped and started: what was answered is there, once and in order. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import postgres from "postgres";
import { CHECKOUT } from "../../local/paths.ts";
import { codeBlocks, readPage, section } from "../docs/pages.ts";
import { makeTestFolder, type TestFolder } from "../harness/folders.ts";
import { PACKAGES_PYTHON } from "../harness/python.ts";
import { hasProgram } from "../harness/programs.ts";
import { startTestStack, type TestStack } from "../harness/stack.ts";

const hasPython = Deno.env.has("CI") || hasProgram("python3");

let stack: TestStack;
let folder: TestFolder;
let sql: postgres.Sql;
beforeAll(async () => {
  folder = await makeTestFolder();
  stack = await startTestStack();
  sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
  await folder?.remove();
});

/** A program in Python that says a line when it gets somewhere, and goes on when it is told to. */
class Talk {
  readonly #child: Deno.ChildProcess;
  readonly #to: WritableStreamDefaultWriter<Uint8Array>;
  readonly #complained: Promise<string>;
  readonly #lines: AsyncGenerator<string>;

  constructor(program: string, env: Record<string, string>, python = "python3") {
    this.#child = new Deno.Command(python, {
      // The packages of others warn of what is theirs.
      args: [...(python === "python3" ? ["-W", "error"] : []), "-c", program],
      cwd: folder.path,
      env: {
        SUPABASE_URL: stack.url,
        SUPABASE_SERVICE_KEY: stack.keys.secret,
        EVE_GATEWAY_URL: "",
        EVE_GATEWAY_SECRET: "",
        PYTHONPATH: `${CHECKOUT}/clients/python`,
        PYTHONDONTWRITEBYTECODE: "1",
        PYTHONIOENCODING: "utf-8",
        ...env,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#to = this.#child.stdin.getWriter();
    this.#complained = new Response(this.#child.stderr).text();
    this.#lines = linesOf(this.#child.stdout);
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`Python ended: ${await this.#complained}`);
    return value;
  }

  async goOn(): Promise<void> {
    await this.#to.write(new TextEncoder().encode("\n"));
  }

  /** The lines that are left, and what it complained of. */
  async end(): Promise<{ lines: string[]; complained: string }> {
    const lines: string[] = [];
    for await (const line of this.#lines) lines.push(line);
    const { code } = await this.#child.status;
    await this.#to.close().catch(() => {});
    const complained = await this.#complained;
    expect(code, complained).toBe(0);
    return { lines, complained };
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const piece of stream) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}

const WRITERS = 20;
const PROGRAM = `
import asyncio, sys
from supabase_client import supabase_client as client

halt = asyncio.Event()

async def writer(name, chats):
    number = 0
    while not halt.is_set() or number == 0:
        for chat in chats:
            text = f"{name} {number}"
            print("wrote", chat, await client.add_message(chat, "user", text), text, flush=True)
        number += 1

async def main():
    loop = asyncio.get_running_loop()
    shared, own = await client.create_chat("Shared"), [await client.create_chat() for _ in range(${WRITERS})]
    print("chats", shared, *own, flush=True)
    writers = [asyncio.create_task(writer(f"writer-{n}", [shared, own[n]])) for n in range(${WRITERS})]
    await loop.run_in_executor(None, sys.stdin.readline)
    # A chat that begins while the database is away.
    begun = await client.create_chat("Begun in between")
    print("wrote", begun, await client.add_message(begun, "user", "in between"), "in between", flush=True)
    print("begun", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    halt.set()
    await asyncio.gather(*writers)

# All writers at once, and one that waits for its turn to stop.
loop_threads = ${WRITERS} + 4
async def with_threads():
    from concurrent.futures import ThreadPoolExecutor
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(loop_threads))
    await main()

asyncio.run(with_threads())
if client._background is not None:
    client._background.join()
print("synced", client.sync(), flush=True)
`;

describe.skipIf(!hasPython)("with the database stopped and started", () => {
  test("20 writers go on, and every message that was answered is there once, in order", async () => {
    const python = new Talk(PROGRAM, { EVE_CHATS_FOLDER: `${folder.path}/writers` });
    const [, shared, ...own] = (await python.line()).split(" ") as [string, string, ...string[]];
    const wrote: { chat: string; id: string; text: string }[] = [];
    const read = (line: string) => {
      const [word, chat, id, ...text] = line.split(" ");
      if (word === "wrote") wrote.push({ chat: chat!, id: id!, text: text.join(" ") });
      return word;
    };
    const written = async (more: number) => {
      const until = wrote.length + more;
      while (wrote.length < until) read(await python.line());
    };

    await written(100);
    await stack.database.stop();
    await written(200);
    await python.goOn();
    while (read(await python.line()) !== "begun");
    await stack.database.start();
    await written(200);
    await python.goOn();
    const { lines } = await python.end();
    lines.forEach(read);
    expect(lines.at(-1)).toMatch(/^synced SyncReport\(sent=\d+, waiting=0, refused=\[\]\)$/);

    const rows =
      await sql`select id, chat_id, content, parent_id from public.messages order by created_at, id`;
    const there = rows.map(({ id, chat_id, content }) => ({ chat: chat_id, id, text: content }));
    // Each message that was answered, and no other, once.
    const sorted = (messages: { id: string }[]) => [...messages].sort((a, b) => a.id < b.id ? -1 : 1);
    expect(sorted(there)).toEqual(sorted(wrote));
    // In the order of its writer.
    const textsIn = (chat: string, writer: string) =>
      there.filter((one) => one.chat === chat && one.text.startsWith(`${writer} `)).map(({ text }) => text);
    own.forEach((chat, n) => {
      const writer = `writer-${n}`;
      const inOrder = textsIn(chat, writer).map((_, number) => `${writer} ${number}`);
      expect(textsIn(chat, writer)).toEqual(inOrder);
      expect(textsIn(shared, writer)).toEqual(inOrder);
      // Who writes alone has one conversation, without branches.
      const path = rows.filter(({ chat_id }) => chat_id === chat);
      expect(path.map(({ parent_id }) => parent_id)).toEqual([
        null,
        ...path.slice(0, -1).map(({ id }) => id),
      ]);
    });
  });

  test("the example of docs/chats.md goes on and shows the whole conversation", async () => {
    const blocks = codeBlocks(section(readPage("docs/chats.md"), "From Python"), "python");
    expect(blocks.length).toBeGreaterThan(2);
    for (const name of ["plan.png", "viewport.png"]) {
      // A PNG of one pixel, each another.
      const png = Uint8Array.from(
        atob(
          "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        ),
        (character) => character.charCodeAt(0),
      );
      await Deno.writeFile(
        `${folder.path}/${name}`,
        new Uint8Array([...png, ...new TextEncoder().encode(name)]),
      );
    }
    const pause = `print("--", flush=True)\nsys.stdin.readline()`;
    const body = blocks.join(`\n${pause}\n`).split("\n").map((line) => `    ${line}`).join("\n");
    const python = new Talk(
      `import asyncio, sys\nasync def main():\n${body}\nasyncio.run(main())\n`,
      { EVE_CHATS_FOLDER: `${folder.path}/chats`, EVE_STORAGE_FOLDER: `${folder.path}/files` },
    );
    for (let part = 1; part < blocks.length; part++) {
      while (await python.line() !== "--");
      if (part === 1) await stack.database.stop();
      if (part === 2) await stack.database.start();
      await python.goOn();
    }
    const { lines, complained } = await python.end();
    expect(complained).toContain("The database does not answer");
    expect(lines).toContain("user: Where is the ventilation of the second floor?");
    expect(lines.filter((line) => /^assistant: \S/.test(line))).toHaveLength(1);
    const [chat] = await sql`select id from public.chats where title = 'Ventilation'`;
    expect(
      await sql`
        select m.role, i.image_name, i.file_sha256 is not null as stored
        from public.messages m left join public.message_images i on i.message_id = m.id
        where m.chat_id = ${chat!.id} order by m.created_at, i.created_at`,
    ).toEqual([
      { role: "user", image_name: "plan.png", stored: true },
      { role: "user", image_name: "viewport.png", stored: true },
      { role: "assistant", image_name: null, stored: false },
    ]);
    expect(await sql`select page_number from public.search_results where chat_id = ${chat!.id}`).toEqual([{
      page_number: 5,
    }]);
    // And the console shows it, its call with it.
    const seen = await fetch(`${stack.url}/functions/v1/admin/chats/one?chat_id=${chat!.id}`, {
      headers: { apikey: stack.keys.secret },
    });
    expect(await seen.json()).toMatchObject({
      chat: { id: chat!.id, messages: 2 },
      cost: { calls: 1 },
      messages: [
        { role: "user", images: [{}, {}], request_no: null },
        { role: "assistant", images: [], request_no: expect.any(Number) },
      ],
    });
  });
});

const PACKAGES = `
import os, httpx
from supabase import create_client

url, secret = os.environ["SUPABASE_URL"], os.environ["SUPABASE_SERVICE_KEY"]

def signed_in(name):
    client = create_client(url, os.environ["SUPABASE_ANON_KEY"])
    client.postgrest.auth(os.environ[name])
    return client

ann, bob = signed_in("ANN"), signed_in("BOB")
chat = ann.table("chats").insert({"title": "Of Ann", "user_id": "ann"}).execute().data[0]["id"]
for text in ("one", "two"):
    ann.table("messages").insert({"chat_id": chat, "role": "user", "content": text}).execute()
ann.table("search_results").insert({"chat_id": chat, "block_text": "found", "coords_px": [1, 2]}).execute()

def texts(client):
    return [row["content"] for row in client.table("messages").select("*").eq("chat_id", chat).order("created_at").execute().data]

print("ann", texts(ann), len(ann.table("chats").select("*").execute().data), flush=True)
print("bob", texts(bob), len(bob.table("chats").select("*").execute().data), flush=True)
try:
    bob.table("messages").insert({"chat_id": chat, "content": "not mine"}).execute()
except Exception as refused:
    print("refused", refused.code, flush=True)

with httpx.Client(base_url=f"{url}/functions/v1/api/v1", headers={"authorization": f"Bearer {secret}"}) as project:
    added = project.post(f"/chats/{chat}/messages", json={"role": "assistant", "content": "three", "client_id": "3"})
    again = project.post(f"/chats/{chat}/messages", json={"role": "assistant", "content": "three", "client_id": "3"})
    print("httpx", added.status_code, again.status_code, added.json() == again.json(), flush=True)
    print("path", [row["content"] for row in project.get(f"/chats/{chat}/messages", params={"path": "current"}).json()["messages"]], flush=True)
print("ann", texts(ann), flush=True)
ann.table("chats").delete().eq("id", chat).execute()
print("gone", texts(ann), flush=True)
`;

test.skipIf(PACKAGES_PYTHON === null)(
  "the packages supabase and httpx read and write chats, each as far as they may",
  async () => {
    const python = new Talk(PACKAGES, {
      SUPABASE_ANON_KEY: stack.keys.publishable,
      ANN: await accessToken("ann"),
      BOB: await accessToken("bob"),
    }, PACKAGES_PYTHON!);
    expect((await python.end()).lines).toEqual([
      "ann ['one', 'two'] 1",
      "bob [] 0",
      "refused 42501",
      "httpx 201 200 True",
      "path ['one', 'two', 'three']",
      "ann ['one', 'two', 'three']",
      "gone []",
    ]);
  },
);

/** The local stack's sign-up answers an instant in a form that the package's own does not read. */
async function accessToken(name: string): Promise<string> {
  const response = await fetch(`${stack.url}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: stack.keys.publishable, "content-type": "application/json" },
    body: JSON.stringify({ email: `${name}@example.com`, password: "long enough 1" }),
  });
  const { access_token } = await response.json();
  expect(access_token).toEqual(expect.any(String));
  return access_token;
}
