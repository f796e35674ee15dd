/** rate-limiter-flexible from bench/'s own node_modules. */
import { createRequire } from "node:module";

export const peer = createRequire(import.meta.url)("rate-limiter-flexible");
