/** What a deployment tells the schedule, and what it says where it cannot. */
import { expect, test } from "vitest";
import { connectSchedule } from "../../cli/deploy/connect_schedule.ts";

const REF = "abcdefghijklmnopqrst";
const KEY = "sb_secret_0123456789abcdef";
const ADDRESS = `https://${REF}.supabase.co/functions/v1/maintenance/connect`;

function connectOptions(options: { keys?: unknown; succeeds?: boolean; statuses?: number[] }) {
  const asked: { url: string; apikey: string | null }[] = [];
  const commands: string[][] = [];
  const pauses: number[] = [];
  const statuses = options.statuses ?? [200];
  return {
    asked,
    commands,
    pauses,
    options: {
      run: (args: string[]) => {
        commands.push(args);
        const keys = options.keys ?? [
          { type: "publishable", api_key: "sb_publishable_x" },
          { type: "secret", api_key: KEY },
        ];
        return Promise.resolve({
          success: options.succeeds ?? true,
          stdout: JSON.stringify({ keys }),
          stderr: "",
        });
      },
      target: { project: `--remote=${REF}`, database: "--remote" },
      ref: REF,
      fetch: ((url: string, init: RequestInit) => {
        asked.push({ url, apikey: new Headers(init.headers).get("apikey") });
        const status = statuses[asked.length - 1] ?? statuses.at(-1)!;
        return Promise.resolve(new Response('{"status":"said"}', { status }));
      }) as typeof fetch,
      sleep: (ms: number) => {
        pauses.push(ms);
        return Promise.resolve();
      },
    },
  };
}

test("the function is asked once, with the project's own secret key", async () => {
  const { options, asked, commands } = connectOptions({});
  expect(await connectSchedule(options)).toEqual([expect.stringContaining("pg_cron runs the maintenance")]);
  expect(asked).toEqual([{ url: ADDRESS, apikey: KEY }]);
  // The key is on no command line.
  expect(commands).toEqual([[
    "projects",
    "api-keys",
    `--remote=${REF}`,
    "--reveal",
    "--output-format=json",
  ]]);
});

test("a function that is not served yet is asked again", async () => {
  const { options, asked, pauses } = connectOptions({ statuses: [404, 503, 200] });
  expect((await connectSchedule(options)).join()).toContain("from now on");
  expect([asked.length, pauses.length]).toEqual([3, 2]);
});

test.each([
  ["the keys may not be read", { succeeds: false }, "may not read", 0],
  [
    "they come without their middle",
    { keys: [{ type: "secret", api_key: "sb_secret_ab····yz" }] },
    "may not read",
    0,
  ],
  [
    "there are legacy keys only",
    { keys: [{ type: "legacy", api_key: "eyJhbGciOi.x.y" }] },
    "may not read",
    0,
  ],
  ["it refuses the key", { statuses: [401] }, "answered 401", 1],
  ["it is never served", { statuses: [404] }, "answered 404", 4],
])("where %s, it says what to do and stops nothing", async (_, given, why, times) => {
  const { options, asked } = connectOptions(given);
  const said = (await connectSchedule(options)).join("\n");
  expect(said).toContain(why);
  expect(said).toContain(`curl -X POST ${ADDRESS}`);
  expect(said).not.toContain(KEY);
  expect(asked).toHaveLength(times);
});

test("without a network it says that too", async () => {
  const { options } = connectOptions({});
  const unreachable = (() => Promise.reject(new TypeError("dns error"))) as typeof fetch;
  expect((await connectSchedule({ ...options, fetch: unreachable })).join()).toContain("(dns error)");
});
