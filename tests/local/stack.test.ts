/** What the parts of the stack owe each other: privileges stay the migrations', a dead database comes back. */
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestStack, type TestStack } from "../harness/stack.ts";

let stack: TestStack;
let sql: postgres.Sql;

beforeAll(async () => {
  stack = await startTestStack({ functionsDir: new URL("functions", import.meta.url).pathname });
  sql = postgres(stack.databaseUrl, { max: 2, onnotice: () => {} });
});

afterAll(async () => {
  await sql?.end({ timeout: 5 });
  await stack?.stop();
});

test("a user signs up and reads as authenticated, under row-level security", async () => {
  const client = createClient(stack.url, stack.keys.publishable, { auth: { persistSession: false } });
  const { data, error } = await client.auth.signUp({ email: "anna@example.com", password: "long enough 1" });
  expect(error).toBeNull();
  expect(data.user?.email).toBe("anna@example.com");
  expect((await client.from("google_ai_api_keys").select()).error?.code).toBe("42501");
});

test("serving the API leaves privileges as the migrations made them", async () => {
  const secret = createClient(stack.url, stack.keys.secret, { auth: { persistSession: false } });
  expect((await secret.from("google_ai_api_keys").select()).error).toBeNull();
  const open = await sql`
    select grantee || ' ' || privilege_type || ' ' || table_schema || '.' || table_name as grant
    from information_schema.role_table_grants
    where grantee in ('anon', 'authenticated', 'PUBLIC') and table_schema in ('public', 'eve', 'auth', 'vault', 'cron')
    order by 1
  `;
  // Signed-in users have chats of their own (20261125000900_chats_rights.sql), and read their tenants' posts
  // (20261126000900_vision_rights.sql), under row-level security.
  expect(open.map(({ grant }) => grant)).toEqual([
    "authenticated DELETE public.chat_shares",
    "authenticated DELETE public.chats",
    "authenticated DELETE public.search_results",
    "authenticated SELECT public.articles",
    "authenticated SELECT public.chats",
    "authenticated SELECT public.graph_edges",
    "authenticated SELECT public.graph_nodes",
    "authenticated SELECT public.message_images",
    "authenticated SELECT public.post_links",
    "authenticated SELECT public.post_media_map",
    "authenticated SELECT public.posts",
    "authenticated SELECT public.search_results",
  ]);
});

test("a secret put into the vault is read back decrypted, a scheduled job is on record", async () => {
  await sql`select vault.create_secret('value', 'name', 'what for')`;
  const [secret] =
    await sql`select decrypted_secret, description from vault.decrypted_secrets where name = 'name'`;
  expect(secret).toEqual({ decrypted_secret: "value", description: "what for" });

  await sql`select cron.schedule('sweep', '* * * * *', 'select 1')`;
  await sql`select cron.schedule('sweep', '*/5 * * * *', 'select 2')`;
  expect([...await sql`select jobname, schedule, command, active from cron.job where jobname = 'sweep'`])
    .toEqual([
      { jobname: "sweep", schedule: "*/5 * * * *", command: "select 2", active: true },
    ]);
  await expect(sql`select cron.schedule('bad', 'often', 'select 1')`).rejects.toThrow(
    "invalid schedule: often",
  );
  const [gone] = await sql`select cron.unschedule('sweep') as done`;
  expect(gone).toEqual({ done: true });

  await sql`select net.http_post('http://127.0.0.1/x', '{"a": 1}', '{"q": "é"}')`;
  const [queued] =
    await sql`select method, url, convert_from(body, 'utf8') as body from net.http_request_queue`;
  expect(queued).toEqual({ method: "POST", url: "http://127.0.0.1/x?q=%C3%A9", body: '{"a": 1}' });
});

test("postgres is no superuser, as it is not when hosted", async () => {
  await expect(sql`alter system set work_mem = '1GB'`).rejects.toThrow("permission denied");
});

test("a database server that is killed comes back, and the API finds it again", async () => {
  const before = stack.database.pid!;
  Deno.kill(before, "SIGKILL");
  await expect.poll(() => stack.database.pid !== before && stack.database.pid)
    .toBeTruthy();
  await expect.poll(async () => {
    const url = `${stack.url}/rest/v1/google_ai_api_keys?select=key_alias&limit=1`;
    return (await (await fetch(url, { headers: { apikey: stack.keys.secret } })).json())[0]?.key_alias;
  }).toBe("demo-a");
  expect(stack.logged.join("\n")).toContain("PostgreSQL ended by itself; starting it again");
});
