/** Functions that tell how much memory they have had, by the count that ends a hosted one. */
import { functionNames } from "../../local/functions_host.ts";

/** Below a function's address: the most bytes that it has had since it was asked last, as a number. */
export const METER_PATH = "/__memory";
/** What a hosted function may have, in bytes. */
export const HOSTED_BYTES = 256 * 1024 * 1024;
const SAMPLE_EVERY_MS = 20;

/**
 * Writes a folder of functions that are those of a checkout with a meter. The count is the hosted runtime's, which ends
 * a function above 256 MB: V8's used heap and what is held outside of it (supabase/edge-runtime,
 * crates/base/src/runtime/mod.rs, `MemCheck`), garbage that nobody has collected included. What a system says of the
 * process (its resident memory) also has compiled code, what its server reads, and pages that the allocator keeps.
 * @param folder where they go, for `StackOptions.functionsDir`
 * @returns the folder
 */
export async function meteredFunctions(folder: string, checkout: string): Promise<string> {
  for (const name of await functionNames(`${checkout}/supabase/functions`)) {
    const original = JSON.stringify(new URL(`file://${checkout}/supabase/functions/${name}/index.ts`).href);
    await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    await Deno.writeTextFile(
      `${folder}/${name}/index.ts`,
      `// deno-lint-ignore-file
// @ts-nocheck
import module from ${original};
let most = 0;
const look = () => {
  const { heapUsed, external } = Deno.memoryUsage();
  most = Math.max(most, heapUsed + external);
};
setInterval(look, ${SAMPLE_EVERY_MS});
export default {
  fetch(request) {
    if (!request.url.endsWith("${METER_PATH}")) return module.fetch(request);
    look();
    const reported = most;
    most = 0;
    return new Response(String(reported));
  },
};
`,
    );
  }
  return folder;
}
