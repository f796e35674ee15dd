/** The tests of this checkout as their sources tell them: titles, ids, whether they run, whether they assert anything. */
import { dirname, join } from "node:path/posix";
import { parseAst } from "vite";
import { CHECKOUT } from "../../local/paths.ts";

export interface TestSource {
  /** From the checkout's root, and the line. */
  at: string;
  kind: "test" | "describe";
  /** Without its ids. Empty where it is put together while it runs. */
  title: string;
  /** What its rows in docs/ call it: `[G1.limits edge.midnight] title`. Of the test itself, not of the describes around it. */
  ids: string[];
  /** It, or a describe around it, never runs (`skip`, `todo`), or keeps others from running (`only`). */
  off: boolean;
  /** A test's: whether it, or a function of tests/ that it calls, expects anything. */
  asserts: boolean;
}

/** `G1.limits`, `G.random`, `openai.stream-usage`: a topic and a name. */
const ID = "(?:G\\d?|native|openai|anthropic|gemini|security|fault|edge)\\.[a-z]+(?:-[a-z]+)*";
const IDS = new RegExp(`^\\[(${ID}(?: ${ID})*)\\] `);
const ID_IN_PROSE = new RegExp(`\`(${ID})\``, "g");
/** `gemini.md` is a file. */
const ENDINGS = /\.(md|ts|py)$/;

/** The ids that a text of docs/ names, between backticks. */
export function idsIn(text: string): string[] {
  return [...text.matchAll(ID_IN_PROSE)].map((match) => match[1]!).filter((id) => !ENDINGS.test(id));
}

// deno-lint-ignore no-explicit-any -- ESTree, with TypeScript's nodes, as oxc makes it.
type Node = any;

interface Source {
  path: string;
  text: string;
  program: Node;
  /** Functions by name, wherever they stand in the file; of several of one name all. */
  functions: Map<string, Node[]>;
  /** Names that come from other files of tests/, with their paths and their names there. */
  imports: Map<string, { path: string; name: string }>;
  /** What stands for `test` or `describe`: `const noticed = test.skipIf(...)`. */
  aliases: Map<string, string>;
}

const children = (node: Node): Node[] =>
  Object.values(node).flat().filter((value) => typeof (value as Node)?.type === "string") as Node[];

function everyNode(node: Node, visit: (node: Node) => void): void {
  visit(node);
  for (const child of children(node)) everyNode(child, visit);
}

const isFunction = (node: Node) => /^(Arrow)?Function(Expression|Declaration)$/.test(node?.type ?? "");

function read(path: string): Source {
  const text = Deno.readTextFileSync(`${CHECKOUT}/${path}`);
  const program = parseAst(text, { lang: "ts" });
  const functions: Source["functions"] = new Map();
  const imports: Source["imports"] = new Map();
  const aliases: Source["aliases"] = new Map([["test", "test"], ["it", "test"], ["describe", "describe"]]);
  const add = (name: string, fn: Node) => functions.set(name, [...(functions.get(name) ?? []), fn]);
  everyNode(program, (node) => {
    if (node.type === "FunctionDeclaration" && node.id !== null) add(node.id.name, node);
    if (node.type === "VariableDeclarator" && node.init !== null) {
      add(node.id.name ?? "", node.init);
      const kind = aliases.get(rootOf(node.init) ?? "");
      if (kind !== undefined) aliases.set(node.id.name ?? "", kind);
    }
    if ((node.type === "Property" || node.type === "MethodDefinition") && isFunction(node.value)) {
      add(node.key.name ?? "", node.value);
    }
    if (node.type === "ImportDeclaration" && node.source.value.startsWith(".")) {
      const from = join(dirname(path), node.source.value);
      for (const { local, imported } of node.specifiers) {
        if (imported) imports.set(local.name, { path: from, name: imported.name });
      }
    }
  });
  return { path, text, program, functions, imports, aliases };
}

/** The name that a call begins with: `test` of `test.each(rows)("...")`, `expect` of `expect(x).not.toBe(y)`. */
function rootOf(callee: Node): string | null {
  if (callee.type === "Identifier") return callee.name;
  if (callee.type === "MemberExpression") return rootOf(callee.object);
  if (callee.type === "CallExpression") return rootOf(callee.callee);
  return null;
}

/** The words between: `skipIf` of `test.skipIf(x)("...")`. */
function modifiersOf(callee: Node): string[] {
  if (callee.type === "MemberExpression") return [...modifiersOf(callee.object), callee.property.name ?? ""];
  if (callee.type === "CallExpression") return modifiersOf(callee.callee);
  return [];
}

/** A title as it is written; of a template what stands before the first `${`. */
function titleOf(node: Node): string | null {
  if (node?.type === "Literal" && typeof node.value === "string") return node.value;
  if (node?.type === "TemplateLiteral") return node.quasis[0].value.cooked;
  return null;
}

/** Everything under tests/, by path. */
export function readTests(): TestSource[] {
  const sources = new Map(pathsUnder("tests").map((path) => [path, read(path)]));
  const known = new Map<Node, boolean>();

  const asserts = (node: Node, source: Source): boolean => {
    const before = known.get(node);
    if (before !== undefined) return before;
    // Of functions that call each other the first decides.
    known.set(node, false);
    let found = false;
    everyNode(node, (part) => {
      if (found) return;
      // Passed on by name, such as `test("...", isRefused)`, or called.
      const names = part.type === "CallExpression"
        ? [part.callee, ...part.arguments].flatMap((named: Node) =>
          named.type === "Identifier"
            ? [named.name]
            : named.type === "MemberExpression"
            ? [named.property.name]
            : []
        )
        : [];
      if (part.type === "CallExpression" && /^(expect|assert)/.test(rootOf(part.callee) ?? "")) found = true;
      // A property that is false somewhere throws.
      if (part.type === "CallExpression" && modifiersOf(part.callee).join() === "assert") found = true;
      for (const name of names) {
        if (found) return;
        const imported = source.imports.get(name);
        const there = imported === undefined ? source : sources.get(imported.path);
        const fns = there?.functions.get(imported?.name ?? name) ?? [];
        found = fns.some((fn) => fn !== node && asserts(fn, there!));
      }
    });
    known.set(node, found);
    return found;
  };

  const tests: TestSource[] = [];
  const collect = (node: Node, source: Source, off: boolean): void => {
    let isOff = off;
    if (node.type === "CallExpression" && node.arguments.length > 1) {
      const kind = source.aliases.get(rootOf(node.callee) ?? "");
      const title = titleOf(node.arguments[0]);
      if ((kind === "test" || kind === "describe") && title !== null) {
        isOff ||= modifiersOf(node.callee).some((word) => ["skip", "todo", "only", "fails"].includes(word));
        tests.push({
          at: `${source.path}:${source.text.slice(0, node.start).split("\n").length}`,
          kind,
          title: title.replace(IDS, ""),
          ids: IDS.exec(title)?.[1]?.split(" ") ?? [],
          off: isOff,
          asserts: kind === "describe" ||
            asserts({ type: "Body", arguments: node.arguments.slice(1) }, source),
        });
      }
    }
    for (const child of children(node)) collect(child, source, isOff);
  };
  for (const source of sources.values()) collect(source.program, source, false);
  return tests;
}

/** Its TypeScript files, from the checkout's root. */
export function pathsUnder(folder: string): string[] {
  return [...Deno.readDirSync(`${CHECKOUT}/${folder}`)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    if (isDirectory) return name.startsWith(".") || name === "fixtures" ? [] : pathsUnder(path);
    return name.endsWith(".ts") ? [path] : [];
  });
}
