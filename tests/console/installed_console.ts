import { CHECKOUT } from "../../local/paths.ts";

/** Whether the console's packages are there; `npm start` and CI install them. */
export async function installedConsole(): Promise<boolean> {
  try {
    await Deno.stat(`${CHECKOUT}/console/node_modules/vite`);
    return true;
  } catch {
    return false;
  }
}
