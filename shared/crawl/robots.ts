/** Our product token (RFC 9309, 2.2.1): a group for it comes before the group for all. */
export const PRODUCT_TOKEN = "eve-gateway";
/** RFC 9309, 2.5 wants at least so much parsed; what is behind it is not read. */
export const MAX_ROBOTS_BYTES = 500 * 1024;
const MAX_CRAWL_DELAY_S = 30;

export interface Robots {
  /** Whether a path with its query may be fetched. */
  allows(path: string): boolean;
  /** Between two fetches, as the file asks; null: it does not. At most half a minute. */
  crawlDelayMs: number | null;
}

interface Rule {
  allows: boolean;
  pattern: string;
}

export const ALL_ALLOWED: Robots = { allows: () => true, crawlDelayMs: null };
/** The server could not be asked: RFC 9309, 2.3.1.4. */
export const NONE_ALLOWED: Robots = { allows: () => false, crawlDelayMs: null };

/** A robots.txt by RFC 9309: groups of our token joined, or else those of `*`; the longest rule wins, and of two as long `allow` does. */
export function parseRobots(text: string): Robots {
  const ours: Rule[] = [];
  const everybodys: Rule[] = [];
  const delays = { ours: null as number | null, everybodys: null as number | null };
  let hasOurs = false;
  let named: string[] = [];
  let isNaming = false;
  for (const line of text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/)) {
    const found = /^\s*([A-Za-z-]+)\s*:\s*([^#]*)/.exec(line);
    if (found === null) continue;
    const name = found[1]!.toLowerCase();
    const value = found[2]!.trim();
    if (name === "user-agent") {
      if (!isNaming) named = [];
      isNaming = true;
      const token = value.toLowerCase().replace(/\/.*$/, "");
      named.push(token);
      hasOurs ||= token === PRODUCT_TOKEN;
      continue;
    }
    if (name !== "allow" && name !== "disallow" && name !== "crawl-delay") continue;
    isNaming = false;
    for (const [isOurs, rules] of [[true, ours], [false, everybodys]] as const) {
      if (!named.includes(isOurs ? PRODUCT_TOKEN : "*")) continue;
      if (name === "crawl-delay") {
        if (/^\d+(\.\d+)?$/.test(value)) {
          delays[isOurs ? "ours" : "everybodys"] = Math.min(Number(value), MAX_CRAWL_DELAY_S) * 1_000;
        }
      } else if (value !== "") rules.push({ allows: name === "allow", pattern: normal(value) });
    }
  }
  const rules = hasOurs ? ours : everybodys;
  return {
    crawlDelayMs: hasOurs ? delays.ours : delays.everybodys,
    allows(path) {
      if (path === "/robots.txt") return true;
      const target = normal(path);
      let best: Rule | null = null;
      for (const rule of rules) {
        if (!matches(rule.pattern, target)) continue;
        const longer = rule.pattern.length - (best?.pattern.length ?? -1);
        if (longer > 0 || longer === 0 && rule.allows) best = rule;
      }
      return best?.allows ?? true;
    },
  };
}

/** `*`: any characters; `$` at the end: the end. In steps of the product of both lengths at most. */
function matches(pattern: string, path: string): boolean {
  const isWhole = pattern.endsWith("$");
  const pieces = (isWhole ? pattern.slice(0, -1) : pattern).split("*");
  if (!path.startsWith(pieces[0]!)) return false;
  let at = pieces[0]!.length;
  for (const [place, piece] of pieces.entries()) {
    if (place === 0) continue;
    if (isWhole && place === pieces.length - 1) {
      return path.length - piece.length >= at && path.endsWith(piece);
    }
    const found = path.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return !isWhole || at === path.length;
}

/** Both sides escaped in the same way (RFC 9309, 2.2.2). */
function normal(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (escape, hex: string) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase();
  }).replace(/[^\u0021-\u007e]/gu, (character) => encodeURIComponent(character.toWellFormed()));
}
