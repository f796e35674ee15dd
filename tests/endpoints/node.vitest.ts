/** How `node.test.ts` has Node's Vitest run the tests of JavaScript's clients. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/endpoints/clients_in_node.ts"],
    pool: "forks",
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});
