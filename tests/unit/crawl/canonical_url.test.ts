import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalUrl, domainOf } from "../../../shared/crawl/canonical_url.ts";

const pages = readFileSync("tests/fixtures/canonical_urls.txt", "utf8").split(/\n(?=[^\s#])/).slice(1).map(
  (block) => {
    const [canonical, ...urls] = block.trimEnd().split("\n");
    return {
      canonical: canonical === "null" ? null : canonical!,
      urls: urls.map((url) => JSON.parse(url) as string),
    };
  },
);
const cases = pages.flatMap(({ canonical, urls }) => urls.map((url) => ({ url, canonical })));

describe("the canonical URL", () => {
  it("is the table's for each of 200 URLs, so that none of its pages are taken for one", () => {
    expect(cases.length).toBeGreaterThanOrEqual(200);
    expect(new Set(pages.map(({ canonical }) => canonical)).size).toBe(pages.length);
    expect(cases.map(({ url }) => ({ url, canonical: canonicalUrl(url) }))).toEqual(cases);
  });

  it("stays what it is when it is asked for once more", () => {
    for (const { canonical } of pages) {
      if (canonical !== null) expect(canonicalUrl(canonical)).toBe(canonical);
    }
    const piece = fc.constantFrom(
      ..."/ // . .. %7e %7E %2f %% %3 %25 ; ;jsessionid=1 : # #! ? & = + a B é кот ~ utm_source=1 from=rss from=5 fbclid b=2 b=1 amp/s/ c/s/ x.com"
        .split(" "),
      " ",
    );
    const url = fc.tuple(
      fc.constantFrom("http://", "https://", "HTTP://"),
      fc.constantFrom(
        "a.com",
        "A.com.",
        "m.vk.com",
        "www.google.com/amp/s/b.ru",
        "b.cdn.ampproject.org/c",
        "b.ru:80",
        "b.ru:8080",
        "кот.рф",
      ),
      fc.oneof(
        fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join("")),
        fc.webPath(),
        fc.string(),
      ),
    ).map((parts) => parts.join(""));
    fc.assert(
      fc.property(url, (text) => {
        const once = canonicalUrl(text);
        if (once !== null) expect(canonicalUrl(once)).toBe(once);
      }),
      { numRuns: 1_000 },
    );
  });

  it("has a domain without www.", () => {
    expect(domainOf("https://www.example.com/a")).toBe("example.com");
  });
});
