/** What callers and upstreams may send: whole, spoilt in places, or anything at all. */
import fc from "fast-check";

type Path = (string | number)[];

/** Values on which programs have stumbled. */
const ODD: unknown[] = [
  null,
  true,
  false,
  "",
  " ",
  0,
  -1,
  -0.5,
  1e308,
  2 ** 53,
  -(2 ** 31),
  [],
  {},
  [[]],
  [null],
  [{}],
  "\u0000",
  "\ud800",
  "\u2028\u202e",
  "__proto__",
  "constructor",
  "toString",
  "models/../../x",
  "data:image/png;base64,%%%",
  "http://169.254.169.254/",
  "9".repeat(400),
  "x".repeat(5_000),
  JSON.parse('{"__proto__": {"a": 1}, "constructor": {"prototype": 1}}'),
  JSON.parse("[".repeat(90) + "]".repeat(90)),
];

const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...ODD) },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.double(),
);

/** Texts on which programs have stumbled, and any others. */
export const oddText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...ODD.filter((value) => typeof value === "string")),
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.nat().map(String),
);

type Change = {
  at: number;
  how: "replace" | "remove" | "add" | "double" | "borrow";
  name: string;
  value: unknown;
};

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.nat({ max: 10_000 }),
  how: fc.constantFrom("replace", "replace", "remove", "add", "double", "borrow"),
  name: fc.oneof(
    fc.constantFrom("__proto__", "type", "role", "parts", "$ref", "content", ""),
    fc.string({ maxLength: 8 }),
  ),
  value: oddValue,
});

/** One of the samples, with up to a handful of changes at places inside it. */
export function spoilt(samples: readonly unknown[]): fc.Arbitrary<unknown> {
  return fc.tuple(fc.constantFrom(...samples), fc.array(change, { maxLength: 5 }))
    .map(([sample, changes]) =>
      changes.reduce<unknown>(
        (root, { value, ...change }) => changed(root, { ...change, value: structuredClone(value) }),
        structuredClone(sample),
      )
    );
}

function changed(root: unknown, { at, how, name, value }: Change): unknown {
  const paths = pathsIn(root);
  const path = paths[at % paths.length]!;
  const last = path.at(-1);
  const parent = path.slice(0, -1).reduce(inside, root);
  const found = path.reduce(inside, root);
  switch (how) {
    case "add":
      return put(root, found, name, value) ?? root;
    case "double":
      return put(root, parent, last, Array.isArray(parent) ? parent[last as number] : [found, found]) ?? root;
    case "borrow":
      return put(root, parent, last, structuredClone(paths[(at * 7) % paths.length]!.reduce(inside, root))) ??
        value;
    case "remove":
      if (Array.isArray(parent)) parent.splice(last as number, 1);
      else if (typeof parent === "object" && parent !== null) {
        delete (parent as Record<string, unknown>)[last!];
      }
      return root;
    case "replace":
      return put(root, parent, last, value) ?? value;
  }
}

/** The root with the field set; undefined where there is none to set. */
function put(root: unknown, parent: unknown, name: string | number | undefined, value: unknown): unknown {
  if (typeof parent !== "object" || parent === null || name === undefined) return undefined;
  if (Array.isArray(parent)) parent.splice(Number(name) || 0, 1, value);
  else Object.defineProperty(parent, name, { value, enumerable: true, configurable: true, writable: true });
  return root;
}

function inside(value: unknown, step: string | number): unknown {
  return (value as Record<string | number, unknown>)[step];
}

/** The place of each value inside; the first is the root's. */
function pathsIn(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null || path.length > 30) return [path];
  return [
    path,
    ...Object.keys(value).flatMap((name) =>
      pathsIn((value as Record<string, unknown>)[name], [...path, Array.isArray(value) ? Number(name) : name])
    ),
  ];
}

/** A body: JSON of the samples, now and then cut, with bytes changed, or nothing of the kind. */
export function body(samples: readonly unknown[]): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  return fc.oneof(
    { weight: 12, arbitrary: spoilt(samples).map(json) },
    { weight: 1, arbitrary: bitten(spoilt(samples).map(json)) },
    { weight: 1, arbitrary: fc.jsonValue().map(json) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => new Uint8Array(bytes)) },
  );
}

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value) ?? "undefined");

/** Bytes of which some are others, and the rest may be missing. */
export function bitten(bytes: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const bites = fc.array(fc.tuple(fc.nat({ max: 20_000 }), fc.nat({ max: 255 })), { maxLength: 4 });
  return fc.tuple(bytes, bites, fc.option(fc.nat({ max: 20_000 }))).map(([whole, bites, cut]) => {
    const copy = new Uint8Array(whole);
    for (const [at, byte] of bites) if (copy.length > 0) copy[at % copy.length] = byte;
    return cut === null ? copy : copy.slice(0, cut % (copy.length + 1));
  });
}

/** Header names with values that may stand in one. */
export function headers(
  names: readonly string[],
  values: readonly string[],
): fc.Arbitrary<Record<string, string>> {
  const text = fc.string({
    unit: fc.integer({ min: 0x20, max: 0xff }).filter((code) => code !== 0x7f).map((code) =>
      String.fromCharCode(code)
    ),
    maxLength: 40,
  });
  const value = fc.oneof(fc.constantFrom(...values), text, fc.nat().map(String));
  return fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 4 });
}

/** Bytes as they arrive: in pieces of any length. */
export function inPieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.slice(from, at[i] ?? bytes.length));
}

export const cuts = fc.array(fc.nat({ max: 20_000 }), { maxLength: 12 });
