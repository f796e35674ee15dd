/** `compatcanary`, which probes servers that say they are compatible with OpenAI. */
import { describe, expect, test } from "vitest";
import { CHECKOUT } from "../../../local/paths.ts";
import { GEMMA, SIGNING, type TestGateway } from "../test_gateway.ts";

interface Report {
  summary: { passes: number; warnings: number; failures: number };
  results: { id: string; status: string; summary: string }[];
}

export function scanner(gateway: () => TestGateway): void {
  describe("compatcanary", () => {
    test.each([GEMMA, SIGNING])(
      "[openai.chat openai.responses] finds nothing wrong with %s",
      async (model) => {
        const scan = await new Deno.Command("node", {
          args: [
            `${CHECKOUT}/node_modules/compatcanary/src/cli.js`,
            "scan",
            ...["--base-url", `${gateway().baseUrl}/openai/v1`],
            ...["--model", model],
            ...["--profile", "modern"],
            ...["--format", "json"],
            ...["--fail-on", "any"],
          ],
          env: { OPENAI_API_KEY: gateway().key },
        }).output();
        const report: Report = JSON.parse(new TextDecoder().decode(scan.stdout));
        expect(report.results.filter(({ status }) => status !== "pass")).toEqual([]);
        expect([scan.code, report.summary.passes]).toEqual([0, 7]);
      },
    );
  });
}
