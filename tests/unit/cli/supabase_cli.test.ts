import { expect, test } from "vitest";
import { supabaseCli } from "../../../cli/deploy/supabase_cli.ts";

test("where only what serves is installed, the Supabase CLI is said to be missing, and how to have it", async () => {
  await expect(supabaseCli("/nowhere")(["secrets", "list"])).rejects.toThrow(
    "The Supabase CLI is not installed in this checkout: run npm ci.",
  );
});
