/** The environment in which the Supabase CLI takes a loopback Management API for Supabase's own. */
import type { ManagementApi } from "./management_api.ts";

/** In the CLI's format, and nobody's. */
export const ACCESS_TOKEN = `sbp_${"0".repeat(40)}`;

/**
 * Environment variables for the CLI. `home` is an existing folder: the CLI keeps files there, and must not find those of
 * the user who runs the tests.
 */
export async function cliAccount(
  api: Pick<ManagementApi, "url">,
  home: string,
): Promise<Record<string, string>> {
  const profile = `${home}/profile.yaml`;
  // The hosts of projects and poolers are names that never resolve: a deployment must not try them.
  await Deno.writeTextFile(
    profile,
    `name: loopback\napi_url: ${api.url}\ndashboard_url: ${api.url}/dashboard\nproject_host: project.invalid\npooler_host: pooler.invalid\n`,
  );
  return {
    HOME: home,
    SUPABASE_PROFILE: profile,
    SUPABASE_ACCESS_TOKEN: ACCESS_TOKEN,
    SUPABASE_NO_UPDATE_NOTIFIER: "1",
    SUPABASE_TELEMETRY_DISABLED: "1",
    DO_NOT_TRACK: "1",
  };
}
