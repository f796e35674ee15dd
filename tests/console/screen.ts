/** The console at one width, in one colour scheme and one language, for flows that are the same in all of them. */
import { expect } from "vitest";
import type { Locator, Page } from "playwright-core";
import { en } from "../../console/src/i18n/en.ts";
import { ru } from "../../console/src/i18n/ru.ts";
import { accessibilityProblems } from "./browser.ts";

export const WIDTHS = [390, 768, 1440] as const;
export const SCHEMES = ["light", "dark"] as const;
export const LANGUAGES = ["en", "ru"] as const;

export interface Look {
  /** Pixels: a phone, a tablet, a screen. */
  width: typeof WIDTHS[number];
  scheme: typeof SCHEMES[number];
  language: typeof LANGUAGES[number];
}

const TEXTS = { en, ru } as const;
const HEIGHT = 900;

type Values = Record<string, string | number>;

function leaf(language: Look["language"], path: string): string | undefined {
  const found = path.split(".").reduce<unknown>(
    (texts, name) => (texts as Record<string, unknown> | undefined)?.[name],
    TEXTS[language],
  );
  return typeof found === "string" ? found : undefined;
}

function leaves(texts: object): string[] {
  return Object.values(texts).flatMap((value) => typeof value === "string" ? [value] : leaves(value));
}

/** Of a language, what nobody would read on a page in the other: sentences, not names or codes. */
function sentences(language: Look["language"], other: Look["language"]): string[] {
  const others = new Set(leaves(TEXTS[other]));
  return leaves(TEXTS[language]).filter((text) =>
    text.length >= 12 && text.includes(" ") && !text.includes("{{") && !others.has(text)
  );
}

const FOREIGN = { en: sentences("ru", "en"), ru: sentences("en", "ru") };

export class Screen {
  #look: Look | undefined;
  /** Where a flow has been looked at by axe-core, and how many places of it have been come by. */
  #checked = new Set<string>();
  #flow = "";
  #place = 0;

  constructor(readonly page: Page) {}

  /** The flow that begins: what it shows is checked by axe-core once in either scheme, the narrowest width first. */
  begin(flow: string): void {
    this.#flow = flow;
    this.#place = 0;
  }

  get appearance(): Look {
    if (!this.#look) throw new Error("show first");
    return this.#look;
  }

  /** As somebody has it who comes to the page for the first time. The language is chosen in the page's head. */
  async show(look: Look): Promise<void> {
    await this.page.emulateMedia({ colorScheme: look.scheme });
    await this.page.setViewportSize({ width: look.width, height: HEIGHT });
    await this.page.evaluate(`localStorage.setItem("eve-console-language", "${look.language}")`);
    await this.page.reload();
    this.#look = look;
    await this.page.getByRole("banner").waitFor();
  }

  /** A text of the console in its language, by its name in console/src/i18n. `count` chooses the form of number. */
  t(path: string, values: Values = {}): string {
    return this.#text(path, values).replaceAll(/\{\{(\w+)\}\}/g, (_, name) => String(values[name] ?? ""));
  }

  /** The same for a text of which only a part is known. */
  like(path: string, values: Values = {}): RegExp {
    const text = this.#text(path, values).replaceAll(/[.*+?^$()[\]|\\]/g, "\\$&");
    return new RegExp(
      text.replaceAll(
        /\{\{(\w+)\}\}/g,
        (_, name) =>
          values[name] === undefined ? ".*" : String(values[name]).replaceAll(/[.*+?^$()[\]|\\{}]/g, "\\$&"),
      ),
    );
  }

  number(value: number): string {
    return new Intl.NumberFormat(this.appearance.language === "en" ? "en-GB" : "ru").format(value);
  }

  #text(path: string, values: Values): string {
    const { language } = this.appearance;
    const form = new Intl.PluralRules(language).select(Number(values.count ?? 0));
    const text = leaf(language, path) ?? leaf(language, `${path}_${form}`);
    if (text === undefined) throw new Error(`The console has no text ${path} in ${language}`);
    return text;
  }

  /** Goes to a page by the menu, which a phone has behind a button. `name` is as in the texts. */
  async open(name: string): Promise<void> {
    const title = this.t(`${name}.title`);
    const link = this.page.getByRole("navigation", { name: this.t("navigation") })
      .getByRole("link", { name: title });
    const menu = this.page.getByRole("button", { name: this.t("menu"), exact: true });
    if (await menu.isVisible()) await menu.click();
    await link.click();
    await this.page.getByRole("heading", { level: 1, name: title, exact: true }).waitFor();
  }

  dialog(name: string | RegExp): Locator {
    return this.page.getByRole("dialog", { name });
  }

  button(path: string, within: Page | Locator = this.page): Locator {
    return within.getByRole("button", { name: this.t(path), exact: true });
  }

  /** By its whole label, to which the star of what is required does not belong. */
  field(path: string, within: Page | Locator = this.page): Locator {
    return within.getByRole("textbox", { name: this.t(path), exact: true });
  }

  /** What holds of every page and dialog, whatever is on it. */
  async check(): Promise<void> {
    const { width, scheme, language } = this.appearance;
    const { page } = this;
    expect(await page.evaluate("document.documentElement.scrollWidth"), "as wide as the screen")
      .toBeLessThanOrEqual(width);
    expect(await page.locator("html").getAttribute("lang")).toBe(language);
    const text = await page.evaluate("document.body.innerText") as string;
    expect(text).not.toContain("{{");
    expect(FOREIGN[language].filter((sentence) => text.includes(sentence)), "of the other language")
      .toEqual([]);
    const place = `${scheme} ${this.#place++} ${this.#flow}`;
    if (this.#flow !== "" && this.#checked.has(place)) return;
    this.#checked.add(place);
    expect(await accessibilityProblems(page, scheme)).toEqual([]);
  }
}
