import { expect, test } from "vitest";
import { readPage } from "../../../shared/crawl/article.ts";

const words =
  "The orchestra plays in the park tonight, and everybody who likes music is welcome to come along. ".repeat(
    4,
  );

test("an article's paragraphs, items and cells are lines, also where nothing stands between them; what runs on in a line stays in it", () => {
  const html =
    `<html lang="en"><head><title>Park &amp; music</title></head><body><nav>Home</nav><article><h1>Park</h1>` +
    `<p>${words}<b>Free</b>, <i>as</i>\n  always.</p><p>${words}last<br>line</p><ul><li>soup</li><li>bread</li></ul>` +
    `<p>${words}</p></article><footer>Imprint</footer></body></html>`;
  const { title, article } = readPage(html);
  expect(title).toBe("Park & music");
  expect(article!.text.split("\n")).toEqual([
    `${words}Free, as always.`,
    `${words}last`,
    "line",
    "soup",
    "bread",
    words.trim(),
  ]);
  expect(article!.words).toBe(article!.text.split(/\s+/).length);
});

test("a title is found, also with attributes, and one that never ends is looked for once", () => {
  expect(readPage('<title data-a="b">Park</title>').title).toBe("Park");
  expect(readPage("<titles>No</titles>").title).toBeNull();
  // Each of them was looked through to the end of the page.
  expect(readPage("<title ".repeat(1_000_000)).title).toBeNull();
}, 60_000);

test("markup that is nested too deeply, or broken, is left, and nothing breaks off", () => {
  // Reading it would take minutes.
  expect(readPage(`<title>Deep</title><article>${"<b>".repeat(14_000)}<p>${words}</p>`)).toEqual({
    title: "Deep",
    article: null,
  });
  expect(readPage("<p".repeat(15_000)).article).toBeNull();
  expect(readPage("<b>".repeat(15_001)).article).toBeNull();
  // As many texts as there are marks, of which a million held the worker for eight seconds.
  const friends = (many: number) =>
    readPage(`<html><body>${`<p>${"Tom & Jerry, ".repeat(200)}</p>`.repeat(many)}</body></html>`).article;
  expect(friends(50)).not.toBeNull();
  expect(friends(550)).toBeNull();
  expect(readPage("").article).toBeNull();
});
