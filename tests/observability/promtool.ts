/** Prometheus's own checker, from Debian's package `prometheus`. Tests skip without it, and never in CI. */
import { hasProgram } from "../harness/programs.ts";

/** Whether to skip what needs it. */
export const withoutPromtool = !hasProgram("promtool") && !Deno.env.get("CI");

/** Runs it; answers its exit code and everything that it printed. */
export async function promtool(args: string[], stdin = ""): Promise<{ code: number; said: string }> {
  const process = new Deno.Command("promtool", { args, stdin: "piped", stdout: "piped", stderr: "piped" })
    .spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const { code, stdout, stderr } = await process.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, said: `${text(stdout)}${text(stderr)}`.trim() };
}

/** What it says of the whole page: that one name, which dashboards of users have, abbreviates its unit. Nothing is wrong with its form. */
export const FINE_BUT_FOR_A_NAME = {
  code: 3,
  said: "storage_bucket_usage_gb metric names should not contain abbreviated units",
};
