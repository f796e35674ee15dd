/** Grows when the same URL may become another: rows keep the version that made them. */
export const CANONICAL_RULES = 1;

/** Longer than any link that a person would share; the table's bound is the same. */
const MAX_URL_CHARS = 4_096;

/** Names that say who led a reader here, never what they see. In small letters. */
const TRACKING = new Set([
  ..."fbclid gclid gclsrc dclid gbraid wbraid gad_source gad_campaignid msclkid twclid ttclid li_fat_id"
    .split(" "),
  ..."yclid ysclid ymclid yadclid yadordid ybaip yqrid _openstat rb_clickid erid".split(" "),
  ..."igshid igsh mc_cid mc_eid mkt_tok vero_id vero_conv oly_enc_id oly_anon_id wickedid __s".split(" "),
  ..."_ga _gl _hsenc _hsmi __hssc __hstc __hsfp hsctatracking ref_src ref_url".split(" "),
  ..."phpsessid jsessionid".split(" "),
]);

/** `from` names a reader's way only with these values: elsewhere it is a date, a page, or a city to depart from. */
const WAYS = new Set(
  ("rss share sharing telegram tg tgchannel vk vkontakte ok odnoklassniki facebook fb twitter whatsapp viber instagram dzen zen yandex " +
    "yandex_news yxnews google googlenews newsletter email push social copy copylink").split(" "),
);

/** Hosts of the same pages for telephones, and hosts that were renamed. */
const SAME_HOSTS: Readonly<Record<string, string>> = {
  "m.vk.com": "vk.com",
  "www.vk.com": "vk.com",
  "m.ok.ru": "ok.ru",
  "m.youtube.com": "www.youtube.com",
  "youtube.com": "www.youtube.com",
  "m.facebook.com": "www.facebook.com",
  "mbasic.facebook.com": "www.facebook.com",
  "facebook.com": "www.facebook.com",
  "twitter.com": "x.com",
  "www.twitter.com": "x.com",
  "mobile.twitter.com": "x.com",
  "m.twitter.com": "x.com",
  "www.x.com": "x.com",
  "mobile.x.com": "x.com",
  "telegram.me": "t.me",
  "m.habr.com": "habr.com",
  "m.lenta.ru": "lenta.ru",
  "m.gazeta.ru": "www.gazeta.ru",
  "m.kp.ru": "www.kp.ru",
  "amp.theguardian.com": "www.theguardian.com",
  "amp.cnn.com": "www.cnn.com",
  "amp.rbc.ru": "www.rbc.ru",
  "m.imdb.com": "www.imdb.com",
};
const WIKIMEDIA_MOBILE =
  /^([a-z-]+)\.m\.(wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikinews|wikivoyage)\.org$/;

/** `/amp/s/HOST/...` of Google's search, and `/c/s/HOST/...` of its cache; `s`: https. */
const GOOGLE_AMP = /^\/amp\/(s\/)?([a-z0-9-]+(?:\.[a-z0-9-]+)+(?:\/.*)?)$/i;
const AMP_CACHE = /^\/[cv]\/(s\/)?([a-z0-9-]+(?:\.[a-z0-9-]+)+(?:\/.*)?)$/i;

const UNRESERVED = /[A-Za-z0-9._~-]/;

/**
 * The one spelling of all URLs that lead to the same page, by rules that need no answer of its server. Null: it is no http or https URL,
 * carries credentials, or is too long. The same spelling comes back as it is.
 *
 * Host in small letters and ASCII, without a dot at its end; no usual port, and then https: the original is kept beside it and is what is
 * fetched. Path: its case and its last slash are kept, slashes in a row are one. Queries: sorted by name, values of one name in their
 * order, without what only tracks. No fragment but `#!`, which names pages.
 */
export function canonicalUrl(original: string): string | null {
  let text = original;
  // Each turn is shorter: by the address of a cache, or a session's id.
  for (;;) {
    if (text.length > MAX_URL_CHARS) return null;
    const url = URL.parse(text.trim());
    if (url === null || url.protocol !== "https:" && url.protocol !== "http:") return null;
    if (url.username !== "" || url.password !== "") return null;
    const host = hostOf(url);
    if (host === null) return null;
    const inner = behindAmp(host, withSingleSlashes(plainly(url.pathname)), url);
    if (inner !== null && URL.canParse(inner)) {
      text = inner;
      continue;
    }
    const path = plainly(url.pathname);
    const unbound = path.includes(";") ? path.replace(/;jsessionid=[^/;]*/gi, "") : path;
    if (unbound !== path) {
      // Read again: dots or slashes may be left that mean something else now.
      url.pathname = unbound;
      text = url.href;
      continue;
    }
    const scheme = url.port === "" ? "https:" : url.protocol;
    const port = url.port === "" ? "" : `:${url.port}`;
    const hash = url.hash.startsWith("#!") && url.hash.length > 2 ? url.hash : "";
    const canonical = `${scheme}//${host}${port}${withSingleSlashes(path)}${queryOf(url.search)}${hash}`;
    return canonical.length > MAX_URL_CHARS ? null : canonical;
  }
}

/** The host of a canonical URL, without `www.`: what links are grouped by. */
export function domainOf(canonical: string): string {
  return new URL(canonical).hostname.replace(/^www\./, "");
}

function hostOf({ hostname, port }: URL): string | null {
  const host = hostname.endsWith(".") ? hostname.replace(/\.+$/, "") : hostname;
  if (host === "") return null;
  if (port !== "") return host;
  const same = Object.hasOwn(SAME_HOSTS, host) ? SAME_HOSTS[host] : undefined;
  if (same !== undefined) return same;
  return host.includes(".m.") ? host.replace(WIKIMEDIA_MOBILE, "$1.$2.org") : host;
}

function behindAmp(host: string, path: string, { port, search }: URL): string | null {
  if (port !== "") return null;
  const pattern = host === "www.google.com" || host === "google.com"
    ? GOOGLE_AMP
    : host.endsWith(".cdn.ampproject.org")
    ? AMP_CACHE
    : null;
  const found = pattern?.exec(path);
  return found ? `${found[1] === undefined ? "http" : "https"}://${found[2]}${search}` : null;
}

/** A URL in a path keeps its own two. */
function withSingleSlashes(path: string): string {
  return path.includes("//") ? path.replace(/(^|[^:])\/{2,}/g, "$1/") : path;
}

function queryOf(search: string): string {
  if (search === "") return "";
  const kept: { name: string; pair: string }[] = [];
  for (const each of search.slice(1).split("&")) {
    if (each === "") continue;
    const pair = plainly(each);
    const equals = pair.indexOf("=");
    const name = equals < 0 ? pair : pair.slice(0, equals);
    const small = name.toLowerCase();
    if (small.startsWith("utm_") || TRACKING.has(small)) continue;
    if (small === "from" && WAYS.has(pair.slice(equals + 1).toLowerCase())) continue;
    kept.push({ name, pair });
  }
  if (kept.length === 0) return "";
  if (kept.length > 1) kept.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  return `?${kept.map(({ pair }) => pair).join("&")}`;
}

/** RFC 3986, 6.2.2: what needs no escape has none, others have capitals, and a percent sign that escapes nothing is escaped itself. */
function plainly(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(/%([0-9a-f]{2})?/gi, (escape, hex: string | undefined) => {
    if (hex === undefined) return "%25";
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return UNRESERVED.test(character) ? character : escape.toUpperCase();
  });
}
