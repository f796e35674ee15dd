/** JavaScript's clients in the Node that their users run them in; beside, in openai.test.ts and gemini.test.ts, Deno runs them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { installIfNeeded } from "../../local/packages.mjs";
import { closeTestGateway, type OpenedGateway, openTestGateway } from "./opened_gateway.ts";
import { rowsOfJavascript } from "./compatibility.ts";
import { described, TEST_GATEWAY } from "./running_stack.ts";

const NODES = `${CHECKOUT}/tests/local/nodes`;

interface Report {
  testResults: { assertionResults: { fullName: string; status: string; failureMessages: string[] }[] }[];
}

/** In CI alone: Deno runs the same tests everywhere, and this Node is another 50 MB to fetch. */
describe.skipIf(Deno.env.get("CI") === undefined)("JavaScript's clients in Node 22", () => {
  let gateway: OpenedGateway;
  let folder: string;
  beforeAll(async () => {
    await installIfNeeded({ folder: NODES, development: false });
    folder = await Deno.makeTempDir();
    gateway = await openTestGateway();
  });
  afterAll(async () => {
    await closeTestGateway(gateway);
    await Deno.remove(folder, { recursive: true });
  });

  test("do all that they do in Deno", async () => {
    const report = `${folder}/report.json`;
    const { stdout, stderr } = await new Deno.Command(`${NODES}/node_modules/node-22/bin/node`, {
      args: [
        `${CHECKOUT}/node_modules/vitest/vitest.mjs`,
        "run",
        ...["--config", "tests/endpoints/node.vitest.ts"],
        ...["--reporter", "json", "--outputFile", report],
      ],
      cwd: CHECKOUT,
      env: { [TEST_GATEWAY]: described(gateway.stack) },
    }).output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    const text = await Deno.readTextFile(report).catch(() => "");
    expect(text, said).not.toBe("");
    const results = (JSON.parse(text) as Report).testResults.flatMap(({ assertionResults }) =>
      assertionResults
    );
    expect(
      results.filter(({ status }) => status !== "passed").map(({ fullName, status, failureMessages }) =>
        `${fullName}: ${status}\n${failureMessages.join("\n")}`
      ),
      said,
    ).toEqual([]);
    expect(results.length).toBeGreaterThanOrEqual(rowsOfJavascript().length);
  });
});
