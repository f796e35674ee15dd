import fc from "fast-check";
import { expect, test } from "vitest";
import { addBlock, removeBlock } from "../../../cli/install/config_toml.ts";
import { readParts } from "../../../cli/install/parts.ts";
import { stampsAfter } from "../../../cli/install/stamps.ts";
import { fateOf } from "../../../cli/install/three_way.ts";
import { CHECKOUT } from "../../../local/paths.ts";

const hash = fc.option(fc.constantFrom("a", "b", "c"), { nil: undefined });

test("a file that the user changed is never replaced or deleted, and an unchanged one always follows", () => {
  fc.assert(fc.property(hash, hash, hash, (base, mine, theirs) => {
    const fate = fateOf({ base, mine, theirs });
    if (mine === theirs) expect(fate).toBe("keep");
    else if (mine === base) {
      expect(fate).toBe(base === undefined ? "create" : theirs === undefined ? "delete" : "replace");
    } else expect(fate).toBe(theirs === base ? "keep" : "conflict");
  }));
});

test("migrations are stamped after the user's newest, each with a version of its own, and not after now where there is room", () => {
  const time = fc.date({
    min: new Date("2001-01-01T00:00:00Z"),
    max: new Date("2090-01-01T00:00:00Z"),
    noInvalidDate: true,
  });
  const stamp = time.map((date) => date.toISOString().replace(/\D/g, "").slice(0, 14));
  fc.assert(fc.property(fc.array(stamp), fc.integer({ min: 0, max: 90 }), time, (existing, count, now) => {
    const stamps = stampsAfter(existing, count, now);
    const newest = [...existing].sort().at(-1) ?? "";
    expect(new Set(stamps).size).toBe(count);
    expect([...stamps].sort()).toEqual(stamps);
    for (const one of stamps) expect(one > newest).toBe(true);
    const room = new Date(now.getTime() - 1_000 * (count + 1)).toISOString().replace(/\D/g, "").slice(0, 14);
    if (newest <= room && count > 0) {
      expect(stamps.at(-1)! <= now.toISOString().replace(/\D/g, "").slice(0, 14)).toBe(true);
    }
  }));
});

test.each([
  ["of one line", 'project_id = "x"'],
  ["with a comment at its end", 'project_id = "x"\n# mine\n'],
  ["of Windows", 'project_id = "x"\r\n[api]\r\nport = 1\r\n'],
  ["that is empty", ""],
  ["with functions of one's own", "[functions.hello]\nverify_jwt = true\n\n\n"],
])("the block goes into a config.toml %s, and out again to the byte", (_, config) => {
  const added = addBlock(config, ["llm-invoke", "maintenance"]);
  expect(added.config.startsWith(config)).toBe(true);
  expect(removeBlock(added.config, added.block)).toBe(config);
  // Other lines may come and go around it.
  expect(removeBlock(`# first\n${added.config}\n[later]\n`, added.block)).toBe(
    `# first\n${config}\n[later]\n`,
  );
});

test("a function of the user's with the same name, however it is written, is not touched", () => {
  for (
    const config of [
      "[functions.api]\nverify_jwt = true\n",
      "[functions]\napi = { verify_jwt = true }\n",
      "functions.api.verify_jwt = true\n",
    ]
  ) {
    expect(() => addBlock(config, ["api"])).toThrow("--prefix eve-");
  }
  expect(() => addBlock("[functions\n", ["api"])).toThrow("cannot be read");
});

test("parts bring those that they need", () => {
  expect(readParts("")).toEqual(["gateway"]);
  expect(readParts("chats")).toEqual(["gateway", "media", "chats"]);
  expect(readParts("all")).toEqual(["gateway", "jobs", "media", "chats", "vision", "intake"]);
  expect(() => readParts("jobs,toString")).toThrow('no part "toString"');
});

test("each function is called as the one file of names says, so that a prefix reaches it", () => {
  const folder = `${CHECKOUT}/supabase/functions`;
  for (const { name } of Deno.readDirSync(folder)) {
    expect(Deno.readTextFileSync(`${folder}/${name}/index.ts`), name).toContain(`functionName("${name}")`);
  }
});
