/** Where things are in the checkout. */
import { fileURLToPath } from "node:url";

/** A path from a `file:` URL, for the current system. */
export function fromFileUrl(url: URL): string {
  return fileURLToPath(url);
}

/** The checkout's root folder, without a trailing slash. */
export const CHECKOUT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");
