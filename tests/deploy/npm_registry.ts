/**
 * An npm registry on the loopback interface that has what `npm ci` installed, at those versions and nothing else. It lets
 * Deno resolve `npm:` specifiers the way the hosted bundler does (from a registry, into a cache, with no node_modules
 * folder to help) on a machine without network.
 */
import { createHash } from "node:crypto";
import { CHECKOUT } from "../../local/paths.ts";

export interface NpmRegistry {
  url: string;
  /** `name@version` of what was fetched. */
  fetched: Set<string>;
  stop(): Promise<void>;
}

interface Installed {
  folder: string;
  manifest: { name: string; version: string };
}

/** @param newer offers a newer version of each package, too, one that the ranges of others accept */
export async function startNpmRegistry({ newer = false } = {}): Promise<NpmRegistry> {
  const packages = await installedPackages(newer);
  const fetched = new Set<string>();
  const packed = new Map<string, Promise<Archive>>();
  const pack = (folder: string) => {
    if (!packed.has(folder)) packed.set(folder, archiveOf(folder));
    return packed.get(folder)!;
  };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { origin, pathname } = new URL(request.url);
    const path = decodeURIComponent(pathname).slice(1);
    const [name, file] = path.split("/-/");
    const versions = packages.get(name!);
    if (versions === undefined) return new Response(null, { status: 404 });
    if (file === undefined) return Response.json(await packument(name!, versions, origin, pack));
    const wanted = versions.find(({ manifest }) => file === `${manifest.version}.tgz`);
    if (wanted === undefined) return new Response(null, { status: 404 });
    fetched.add(`${name}@${wanted.manifest.version}`);
    return new Response((await pack(wanted.folder)).bytes as BodyInit);
  });
  return { url: `http://127.0.0.1:${server.addr.port}/`, fetched, stop: () => server.shutdown() };
}

/** What package-lock.json lists and this machine has: packages for other systems are not installed. */
async function installedPackages(newer: boolean): Promise<Map<string, Installed[]>> {
  const lock = JSON.parse(await Deno.readTextFile(`${CHECKOUT}/package-lock.json`));
  const packages = new Map<string, Installed[]>();
  for (const path of Object.keys(lock.packages).filter((path) => path.startsWith("node_modules/"))) {
    const folder = `${CHECKOUT}/${path}`;
    const text = await Deno.readTextFile(`${folder}/package.json`).catch(() => undefined);
    if (text === undefined) continue;
    const manifest = JSON.parse(text);
    const version = manifest.version.replace(/\d+$/, "999");
    packages.set(manifest.name, [
      ...packages.get(manifest.name) ?? [],
      { folder, manifest },
      ...(newer ? [{ folder, manifest: { ...manifest, version } }] : []),
    ]);
  }
  return packages;
}

interface Archive {
  bytes: Uint8Array;
  /** SHA-1 in hexadecimal, as a registry tells it. */
  shasum: string;
}

async function archiveOf(folder: string): Promise<Archive> {
  const tar = new Blob([await tarOf(folder) as BlobPart]);
  const stream = tar.stream().pipeThrough(new CompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return { bytes, shasum: createHash("sha1").update(bytes).digest("hex") };
}

async function packument(
  name: string,
  versions: Installed[],
  origin: string,
  pack: (folder: string) => Promise<Archive>,
) {
  return {
    name,
    "dist-tags": { latest: versions.at(-1)!.manifest.version },
    versions: Object.fromEntries(
      await Promise.all(versions.map(async ({ manifest, folder }) => [manifest.version, {
        ...manifest,
        dist: { tarball: `${origin}/${name}/-/${manifest.version}.tgz`, shasum: (await pack(folder)).shasum },
      }])),
    ),
  };
}

const BLOCK = 512;

/** The package's files as a tar archive, below `package/`, as npm packs them. */
async function tarOf(folder: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const path of filesIn(folder)) {
    const content = await Deno.readFile(`${folder}/${path}`);
    parts.push(tarHeader(`package/${path}`, content.length), content);
    parts.push(new Uint8Array((BLOCK - content.length % BLOCK) % BLOCK));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}

async function* filesIn(folder: string, below = ""): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(`${folder}/${below}`)) {
    // Packages nested in a package are packages of their own.
    if (entry.name === "node_modules") continue;
    if (entry.isDirectory) yield* filesIn(folder, `${below}${entry.name}/`);
    else if (entry.isFile) yield `${below}${entry.name}`;
  }
}

/** A ustar header: fields at fixed offsets, numbers in octal; a long path is cut at a `/` into prefix and name. */
function tarHeader(path: string, size: number): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const put = (offset: number, text: string) => header.set(new TextEncoder().encode(text), offset);
  const cut = path.length <= 100 ? -1 : path.indexOf("/", path.length - 101);
  put(0, path.slice(cut + 1));
  put(100, "0000644\0");
  put(124, size.toString(8).padStart(11, "0") + "\0");
  put(136, "00000000000\0");
  put(148, " ".repeat(8));
  put(156, "0");
  put(257, "ustar\x0000");
  if (cut > 0) put(345, path.slice(0, cut));
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(148, sum.toString(8).padStart(6, "0") + "\0 ");
  return header;
}
