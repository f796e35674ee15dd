/** A real Chromium for the tests of the console: Debian's, or the one that EVE_CHROMIUM names (empty: none). */
import axe from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { PATIENCE_MS } from "../harness/patience.ts";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where Chromium is; undefined when this machine has none. */
export function chromiumPath(): string | undefined {
  const named = Deno.env.get("EVE_CHROMIUM");
  if (named === "") return undefined;
  return [...(named ? [named] : []), ...PLACES].find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/** Ends with `close()`. The sandbox needs rights that root in a container has not. */
export function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: chromiumPath()!, args: ["--no-sandbox"], timeout: PATIENCE_MS });
}

/** A page that remembers what went wrong inside it. */
export async function openPage(
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<{ page: Page; problems: string[] }> {
  const context = await browser.newContext({
    locale: "en-GB",
    reducedMotion: "reduce",
    viewport: { width: 1280, height: 900 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    // What the browser says of every answer that is no 200; the page shows these to its user.
    const aboutStatus = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !aboutStatus) problems.push(message.text());
  });
  return { page, problems };
}

export async function signIn(
  page: Page,
  url: string,
  who: { email: string; password: string },
): Promise<void> {
  await page.goto(url);
  await page.getByLabel("E-mail").fill(who.email);
  await page.locator("input[type=password]").fill(who.password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

/** The rules that a law or a contract names; the rest of axe-core's are advice. */
const RULES = { light: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], dark: ["color-contrast"] };

/**
 * What axe-core finds serious or worse on the page as it is now, or in a part of it; in the dark only its colours are looked at again.
 * @param part a CSS selector
 */
export async function accessibilityProblems(
  page: Page,
  scheme: "light" | "dark",
  part?: string,
): Promise<string[]> {
  if (!await page.evaluate("'axe' in window")) await page.evaluate(axe.source);
  // On its way from one colour to another a text is hard to read.
  await page.locator(`html[data-mantine-color-scheme="${scheme}"]`).waitFor();
  await page.evaluate(`new Promise(requestAnimationFrame).then(() => Promise.allSettled(
    document.getAnimations().filter(({ effect }) => effect.getComputedTiming().endTime < Infinity)
      .map(({ finished }) => finished)
  ))`);
  const options = {
    runOnly: { type: scheme === "dark" ? "rule" : "tag", values: RULES[scheme] },
    resultTypes: ["violations"],
  };
  const { violations } = await page.evaluate(
    `axe.run(${JSON.stringify(part ?? "html")}, ${JSON.stringify(options)})`,
  ) as axe.AxeResults;
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
}
