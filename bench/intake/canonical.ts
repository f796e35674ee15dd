/**
 * URLs a second that become canonical, beside `normalize-url` with the same intent (tracking parameters, sorted query, no fragment).
 * The URLs are those of the test's table. Rounds of both alternate, and the medians are compared, so that load meets both.
 */
import { CHECKOUT } from "../../local/paths.ts";
import { canonicalUrl } from "../../shared/crawl/canonical_url.ts";
import { installPackages } from "../install.ts";
import type { Part } from "./part.ts";

const ROUNDS = 31;
const PASSES = 100;

export async function canonical(): Promise<Part> {
  await installPackages("bench");
  const { default: normalizeUrl } = await import(
    new URL("../node_modules/normalize-url/index.js", import.meta.url).href
  );
  const options = {
    stripHash: true,
    forceHttps: true,
    removeTrailingSlash: false,
    stripWWW: false,
  };
  const urls = (await Deno.readTextFile(`${CHECKOUT}/tests/fixtures/canonical_urls.txt`))
    .split("\n")
    .filter((line) => line.startsWith("  ")).map((line) => JSON.parse(line) as string)
    // What the other one takes, too.
    .filter((url) =>
      url.trim().startsWith("http") && canonicalUrl(url) !== null &&
      isTaken(() => normalizeUrl(url, options))
    );
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(perSecond(urls, canonicalUrl));
    theirs.push(perSecond(urls, (url) => normalizeUrl(url, options)));
  }
  const [gateway, peer] = [median(ours), median(theirs)];
  return {
    figures: {
      urls: urls.length,
      canonical_per_s: Math.round(gateway),
      normalize_url_per_s: Math.round(peer),
    },
    ratios: { canonical_to_normalize_url: Number((gateway / peer).toFixed(2)) },
    goals: { canonical_to_normalize_url: { least: 1 } },
  };
}

function perSecond(
  urls: readonly string[],
  make: (url: string) => unknown,
): number {
  const since = performance.now();
  for (let pass = 0; pass < PASSES; pass++) for (const url of urls) make(url);
  return urls.length * PASSES * 1_000 / (performance.now() - since);
}

function isTaken(make: () => unknown): boolean {
  try {
    make();
    return true;
  } catch {
    return false;
  }
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}
