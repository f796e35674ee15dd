import type { CrawlAnswer, SummaryAnswer } from "../../../shared/api/crawl_routes.ts";
import { CRAWL_MODES, type CrawlPage, PAGE_STATES } from "../../../shared/database/posts/crawl.ts";
import type { Command, Option } from "../command.ts";
import { EXIT, misuse } from "../failure.ts";
import { postToApi, readFromApi } from "../storage/api.ts";
import { bytes, count, counted, instant, pairs, shortened, table } from "../table.ts";
import { readChoice, readNumber } from "../values.ts";

const tenantOption: Option = { value: "ID", help: "whose; the default tenant's by default" };

export const crawlCommands: Command[] = [
  {
    name: "crawl",
    summary: "a web page with what can be read in it, from the cache while it is fresh",
    about: "Ends with 1 where the page could not be had.",
    arguments: ["URL"],
    options: {
      mode: {
        value: "MODE",
        help: `${CRAWL_MODES.join(", ")}; enabled by default`,
      },
      "no-wait": { help: "has it fetched, and does not wait for it" },
      summarize: { help: "has a model say in a few sentences what its article says" },
      model: { value: "MODEL", help: "which one summarises" },
      prompt: { value: "TEXT", help: "what that one is told to do with the article" },
      "tenant-id": tenantOption,
    },
    examples: [
      "crawl https://example.com/news",
      "crawl https://example.com/news --mode write_only --json",
      "crawl https://example.com/news --summarize --model gemini-2.5-flash",
    ],
    async run(given, { connect, signal, progress }) {
      const summarizes = given.switch("summarize");
      const model = given.option("model");
      if (summarizes !== (model !== undefined)) {
        throw misuse("--summarize and --model go together: say which model is to do it.");
      }
      progress("fetching ...");
      const answer = await postToApi<CrawlAnswer>(connect(), "crawl", {
        url: given.arguments[0],
        mode: readChoice(given, "mode", CRAWL_MODES),
        wait: given.switch("no-wait") ? false : undefined,
        tenant_id: given.option("tenant-id"),
      }, { signal });
      const { page, from_cache, job_id } = answer;
      if (page === null || page.state === "waiting") {
        return { json: answer, text: `It waits to be fetched, by job ${job_id}. Ask again later.` };
      }
      if (summarizes && page.id !== null && page.article !== null) {
        progress("summarising ...");
        const made = await postToApi<SummaryAnswer>(connect(), `crawl/pages/${page.id}/summary`, {
          model,
          prompt: given.option("prompt"),
        }, { signal });
        return { json: { ...answer, page: made.page }, text: described(made.page, from_cache) };
      }
      return {
        json: answer,
        text: described(page, from_cache),
        exitCode: page.state === "fetched" ? EXIT.done : EXIT.failed,
      };
    },
  },
  {
    name: "pages list",
    summary: "web pages that were fetched, those that changed last first",
    arguments: [],
    options: {
      domain: { value: "HOST", help: "only of this host" },
      state: { value: "STATE", help: `only ${PAGE_STATES.join(", ")}` },
      limit: { value: "N", help: "how many, up to 200; 50 by default" },
      before: { value: "TIME", help: "go on from here: updated_at of an earlier list's last page" },
      "tenant-id": tenantOption,
    },
    examples: ["pages list", "pages list --state failed --domain example.com"],
    async run(given, { connect, signal, width }) {
      const found = await readFromApi<{ pages: CrawlPage[] }>(connect(), "crawl/pages", {
        domain: given.option("domain"),
        state: readChoice(given, "state", PAGE_STATES),
        limit: readNumber(given, "limit"),
        before: given.option("before"),
        tenant_id: given.option("tenant-id"),
      }, signal);
      const text = found.pages.length === 0 ? "There are none." : table(
        ["fetched", "state", "posts>", "words>", "page"],
        found.pages.map(({ fetched_at, state, post_ids, article, canonical_url, title }) => [
          instant(fetched_at),
          state,
          count(post_ids.length),
          article === null ? "" : count(article.words),
          shortened(
            [canonical_url, title].filter((part) => part !== null).join("  "),
            Math.max(30, width - 55),
          ),
        ]),
      );
      return { json: found, text };
    },
  },
];

function described(page: CrawlPage, isCached: boolean): string {
  const { article } = page;
  const facts = pairs([
    ["page", page.canonical_url],
    ["state", [page.state, page.reason].filter((part) => part !== null).join(": ")],
    ...(page.final_url === null || page.final_url === page.url
      ? []
      : [["led to", page.final_url] as [string, string]]),
    ["fetched", `${instant(page.fetched_at)}${isCached ? ", from the cache" : ""}`],
    ...(page.expires_at === null ? [] : [["fresh until", instant(page.expires_at)] as [string, string]]),
    ...(page.size_bytes === null
      ? []
      : [["size", `${bytes(page.size_bytes)}, ${page.charset}`] as [string, string]]),
    ["posts", count(page.post_ids.length)],
  ]);
  if (article === null) return facts;
  const from = [article.byline, article.site_name, article.published_at].filter((part) => part !== null);
  return [
    facts,
    [article.title, ...from, counted(article.words, "word")].join("\n"),
    ...(article.summary === null ? [] : [`Summary, by ${article.summary_model}: ${article.summary}`]),
    article.text ?? "",
  ].join("\n\n");
}
