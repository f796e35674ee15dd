/** Which tests this machine cannot run, and what to do about it: said at the end of a run. In CI none is left out. */
import { chromiumPath } from "../console/browser.ts";
import { installedConsole } from "../console/installed_console.ts";
import { withoutPromtool } from "../observability/promtool.ts";
import { hasPgCron } from "./cron_server.ts";
import { withoutNeo4j } from "./neo4j.ts";
import { hasProgram } from "./programs.ts";
import { FRAMEWORKS_PYTHON, PACKAGES_PYTHON, pythonThat } from "./python.ts";
import { HAS_RADOSGW, VERSITYGW } from "./stores.ts";
import { HAS_TESSERACT } from "./tesseract.ts";

export interface Part {
  what: string;
  toHaveIt: string;
  isHere: () => boolean;
  /** What tests ask of it in `skipIf`. */
  conditions: string[];
}

export const PARTS: readonly Part[] = [
  {
    what: "what needs Python",
    toHaveIt: "install Python 3.10 or newer, as python3",
    isHere: () => pythonThat("import sys; assert sys.version_info >= (3, 10)") !== undefined,
    conditions: ["hasPython", 'hasProgram("python3")', "ANY", "PYTHON === undefined", "PYTHONS"],
  },
  {
    what: "what needs Python's packages",
    toHaveIt: "tests/python/install",
    isHere: () => PACKAGES_PYTHON !== null && FRAMEWORKS_PYTHON !== null,
    conditions: ["PACKAGES_PYTHON", "FRAMEWORKS_PYTHON", "PYTHON === null"],
  },
  {
    what: "tokens that Python's cryptography reads",
    toHaveIt: "install python3-cryptography",
    isHere: () => pythonThat("import cryptography.fernet") !== undefined,
    conditions: ["hasCryptography"],
  },
  {
    what: "the notebook's plot",
    toHaveIt: "install python3-matplotlib",
    isHere: () => pythonThat("import matplotlib") !== undefined,
    conditions: ["SKIPPED"],
  },
  {
    what: "what needs a browser",
    toHaveIt: "install Chromium, or name it in EVE_CHROMIUM",
    isHere: () => chromiumPath() !== undefined,
    conditions: ["CAN_RUN", "HAS_CHROMIUM", "chromiumPath()"],
  },
  {
    what: "clients in Firefox",
    toHaveIt: "install one, and name it in EVE_FIREFOX",
    isHere: () => Deno.env.get("EVE_FIREFOX") !== undefined,
    conditions: [],
  },
  {
    what: "what needs the console's packages",
    toHaveIt: "npm ci --prefix console",
    isHere: installedConsole,
    conditions: ["installedConsole()"],
  },
  {
    what:
      "JavaScript's clients in Node 22, and the stack in Node 22 and 24 (in Deno and in your Node they ran)",
    toHaveIt: "CI=1 npm test -- tests/endpoints/node.test.ts tests/local/start.test.ts",
    isHere: () => false,
    conditions: ['Deno.env.get("CI") === undefined'],
  },
  {
    what: "what needs tesseract",
    toHaveIt: "install tesseract-ocr and tesseract-ocr-rus",
    isHere: () => HAS_TESSERACT,
    conditions: ["HAS_TESSERACT"],
  },
  {
    what: "what needs Prometheus",
    toHaveIt: "install prometheus, which has promtool",
    isHere: () => !withoutPromtool,
    conditions: ["withoutPromtool"],
  },
  {
    what: "OpenTelemetry's collector",
    toHaveIt: "tests/observability/install, and name it in EVE_OTEL_COLLECTOR",
    isHere: () => Deno.env.get("EVE_OTEL_COLLECTOR") !== undefined,
    conditions: [],
  },
  {
    what: "what needs openssl",
    toHaveIt: "install openssl",
    isHere: () => hasProgram("openssl", ["version"]),
    conditions: ["hasOpenSsl"],
  },
  {
    what: "what needs curl",
    toHaveIt: "install curl",
    isHere: () => hasProgram("curl"),
    conditions: ['hasProgram("curl")'],
  },
  {
    what: "what needs Ceph's object gateway",
    toHaveIt: "tests/storage/install",
    isHere: () => HAS_RADOSGW,
    conditions: ["withoutRadosgw"],
  },
  {
    what: "what needs Versity's gateway",
    toHaveIt: "tests/storage/install, with Go",
    isHere: () => VERSITYGW !== null,
    conditions: ["VERSITYGW === null"],
  },
  {
    what: "what needs Neo4j",
    toHaveIt: "tests/graph/install, with Java 17 and Maven",
    isHere: () => !withoutNeo4j,
    conditions: ["withoutNeo4j"],
  },
  {
    what: "what needs pg_cron",
    toHaveIt: "install postgresql-15 and postgresql-15-cron",
    isHere: hasPgCron,
    conditions: ["hasPgCron()"],
  },
  {
    what: "PostgreSQL as root",
    toHaveIt: "run it as root, in a container",
    isHere: () => Deno.uid() === 0,
    conditions: ["Deno.uid() !== 0"],
  },
  {
    what: "what Linux alone can do",
    toHaveIt: "run it on Linux",
    isHere: () => Deno.build.os === "linux",
    conditions: ["Deno.build.os", "process.platform"],
  },
];

/** One line for each part that is left out. */
export function leftOut(parts = PARTS): string[] {
  return parts.filter(({ isHere }) => !isHere())
    .map(({ what, toHaveIt }) => `Left out: ${what}. To have it: ${toHaveIt}`);
}
