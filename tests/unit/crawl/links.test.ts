import { expect, test } from "vitest";
import { linksOf, MAX_LINKS } from "../../../shared/crawl/links.ts";

/** Far beyond what it takes. */
const HANGS_AFTER_MS = 60_000;

const canonical = (text: string, metadata: unknown = {}) =>
  linksOf(text, metadata).map(({ canonical_url }) => canonical_url);

test("a post's links are those of its text and of its metadata's links, each page once, without the sentence around them", () => {
  expect(canonical(
    "Афиша: https://a.example/x?utm_source=tg, (https://b.example/wiki_(park)). И «http://a.example/x»!",
    { links: ["https://c.example/hidden", "https://a.example/x", "not a link", 7] },
  )).toEqual(["https://a.example/x", "https://b.example/wiki_(park)", "https://c.example/hidden"]);
});

test("other URLs of the metadata are no links: where the post is read, who wrote it", () => {
  expect(canonical("no links", { url: "https://t.me/city/1", author: { url: "https://t.me/a" }, links: "x" }))
    .toEqual([]);
  for (const metadata of [null, undefined, "https://a.example", []]) {
    expect(canonical("", metadata)).toEqual([]);
  }
});

test(`no more than ${MAX_LINKS} are followed`, () => {
  const text = Array.from({ length: MAX_LINKS + 5 }, (_, nr) => `https://a.example/${nr}`).join(" ");
  expect(canonical(text)).toHaveLength(MAX_LINKS);
});

test("a link that ends in nothing but brackets is read at once, and one that has its own keeps them", () => {
  // Counting them again for each took minutes.
  const many = ")".repeat(200_000);
  expect(canonical(`https://a.example/x${many}`)).toEqual(["https://a.example/x"]);
  expect(canonical("https://a.example/(x)), https://a.example/[y]]...")).toEqual([
    "https://a.example/(x)",
    "https://a.example/[y]",
  ]);
}, HANGS_AFTER_MS);
