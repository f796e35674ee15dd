/** Which of a checkout's own files a function is made of, by Deno's own account. */

interface Info {
  modules: {
    specifier: string;
    error?: string;
    dependencies?: { specifier: string; code?: { specifier?: string }; type?: { specifier?: string } }[];
  }[];
}

export interface ModuleGraph {
  /** Needed to run it, as paths below the root. */
  code: Set<string>;
  /** Those, and what is needed for types only. */
  all: Set<string>;
  /** Packages that any of them imports, as they name them. */
  packages: Set<string>;
  /** Imports that lead nowhere. */
  errors: string[];
}

export async function moduleGraph(root: string, entrypoint: string): Promise<ModuleGraph> {
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", `--config=${root}/deno.json`, `${root}/${entrypoint}`],
    cwd: root,
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  const info: Info = JSON.parse(new TextDecoder().decode(stdout));
  const modules = new Map(info.modules.map((module) => [module.specifier, module]));
  const base = new URL(`file://${await Deno.realPath(root)}/`).href;
  const own = (specifier: string) =>
    specifier.startsWith(base) && !specifier.includes("/node_modules/")
      ? decodeURIComponent(specifier.slice(base.length))
      : undefined;

  const reach = (kinds: ("code" | "type")[]) => {
    const found = new Set<string>();
    const queue = [`${base}${entrypoint}`];
    for (let specifier = queue.pop(); specifier !== undefined; specifier = queue.pop()) {
      const path = own(specifier);
      if (path === undefined || found.has(path)) continue;
      found.add(path);
      for (const dependency of modules.get(specifier)?.dependencies ?? []) {
        for (const kind of kinds) {
          const next = dependency[kind]?.specifier;
          if (next !== undefined) queue.push(next);
        }
      }
    }
    return found;
  };
  const all = reach(["code", "type"]);
  const packages = new Set(
    [...modules].filter(([specifier]) => all.has(own(specifier) ?? "")).flatMap(([, { dependencies }]) =>
      (dependencies ?? []).map(({ specifier }) => specifier).filter((specifier) =>
        !/^(\.|node:)/.test(specifier)
      )
    ),
  );
  const errors = info.modules.filter((module) => module.error !== undefined)
    .map((module) => `${module.specifier}: ${module.error}`);
  return { code: reach(["code"]), all, packages, errors };
}
