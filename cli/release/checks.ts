/** What has to be so before a version is released, told from the checkout's files. */

export interface Files {
  /** A file's text, undefined where it is not there. */
  read: (path: string) => string | undefined;
  /** Names in a folder. */
  list: (path: string) => string[];
}

export const LOCKS = [
  "package-lock.json",
  "console/package-lock.json",
  "bench/package-lock.json",
  "bench/estimate/package-lock.json",
  "tests/deploy/runtime/package-lock.json",
  "tests/local/nodes/package-lock.json",
];

/** Where the version stands besides package.json, which is the one to change. */
const VERSION_COPIES = [
  "console/package.json",
  "shared/contract/version.ts",
  "clients/python/eve_gateway.py",
];

const VERSION = /^\d+\.\d+\.\d+$/;

/** What is wrong, one line each, with what to do; none: it may be released. */
export function problems({ read, list }: Files): string[] {
  const version = versionOf(read);
  if (!VERSION.test(version)) {
    return [`package.json has the version "${version}", which is not of the form 1.2.3.`];
  }
  return [
    ...copies(read, version),
    ...changelog(read, version),
    ...LOCKS.flatMap((path) =>
      withoutIntegrity(read(path) ?? "{}").map((name) =>
        `${path}: ${name} has no integrity. npm run release -- --fill-locks asks the registry for it.`
      )
    ),
    ...withoutChecksum(unlisted(read("supabase/migrations.sha256") ?? "", list("supabase/migrations"))),
  ];
}

function withoutChecksum(names: string[]): string[] {
  if (names.length === 0) return [];
  const what = names.length === 1
    ? `${names[0]} is`
    : `${names.length} migrations, ${names[0]} among them, are`;
  return [
    `${what} not in supabase/migrations.sha256: (cd supabase && sha256sum migrations/*.sql > migrations.sha256)`,
  ];
}

export function versionOf(read: Files["read"]): string {
  return JSON.parse(read("package.json")!).version;
}

function copies(read: Files["read"], version: string): string[] {
  return VERSION_COPIES.flatMap((path) => {
    const text = read(path);
    if (text === undefined) return [];
    const there = path.endsWith(".json")
      ? JSON.parse(text).version
      : /(?:VERSION|__version__) = "([^"]+)"/.exec(text)?.[1];
    return there === version ? [] : [`${path} has the version ${there}, package.json ${version}.`];
  });
}

/** The section of a version, without its title. */
export function sectionOf(
  changelog: string,
  version: string,
): { date: string | undefined; text: string } | undefined {
  const sections = changelog.split(/^## /m).slice(1);
  const found = sections.find((section) => section.split(/[\s,]/)[0] === version);
  if (found === undefined) return undefined;
  const [title, ...lines] = found.split("\n");
  return { date: /\d{4}-\d\d-\d\d/.exec(title!)?.[0], text: lines.join("\n").trim() };
}

function changelog(read: Files["read"], version: string): string[] {
  const section = sectionOf(read("CHANGELOG.md") ?? "", version);
  if (section === undefined) return [`CHANGELOG.md has no section "## ${version}, YYYY-MM-DD".`];
  return [
    ...(section.date === undefined
      ? [`CHANGELOG.md does not say when ${version} came: "## ${version}, YYYY-MM-DD".`]
      : []),
    ...(section.text === "" ? [`CHANGELOG.md says nothing of ${version}.`] : []),
  ];
}

interface LockEntry {
  version?: string;
  resolved?: string;
  integrity?: string;
  link?: boolean;
  license?: string;
  dev?: boolean;
  dependencies?: Record<string, string>;
}

/** Entries of a package-lock.json that npm would install without looking at what it got; folders of the checkout are its own. */
export function withoutIntegrity(lock: string): string[] {
  const { packages = {} } = JSON.parse(lock) as { packages?: Record<string, LockEntry> };
  return Object.entries(packages).filter(([path, { resolved, integrity, link }]) =>
    path.includes("node_modules/") && link !== true && integrity === undefined &&
    !/^file:(?!\.\.)/.test(resolved ?? "")
  ).map(([path]) => path);
}

function unlisted(sums: string, migrations: readonly string[]): string[] {
  const listed = new Set(sums.split("\n").map((line) => line.split(/\s+/)[1]));
  return migrations.filter((name) => name.endsWith(".sql") && !listed.has(`migrations/${name}`)).sort();
}

export interface Licensed {
  name: string;
  version: string;
  license: string;
}

/** Packages that these lead to, each once, with what their makers allow. */
export function licensesOf(lock: string, names: Iterable<string>): Licensed[] {
  const { packages } = JSON.parse(lock) as { packages: Record<string, LockEntry> };
  const found = new Map<string, Licensed>();
  const visit = (name: string, from: string) => {
    const path = resolved(packages, name, from);
    if (path === undefined || found.has(path)) return;
    const { version, license, dependencies } = packages[path]!;
    found.set(path, { name, version: version ?? "?", license: license ?? "unknown" });
    for (const dependency of Object.keys(dependencies ?? {})) visit(dependency, path);
  };
  for (const name of names) visit(name, "");
  return [...found.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** As Node finds a package: in the nearest `node_modules` on the way up. */
function resolved(packages: Record<string, LockEntry>, name: string, from: string): string | undefined {
  for (let at = from;; at = at.slice(0, Math.max(at.lastIndexOf("/node_modules/"), 0))) {
    const path = `${at === "" ? "" : `${at}/`}node_modules/${name}`;
    if (packages[path] !== undefined) return path;
    if (at === "") return undefined;
  }
}
