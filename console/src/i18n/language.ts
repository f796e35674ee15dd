import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import type { en } from "./en.ts";

export const LANGUAGES = { en: "English", ru: "Русский" } as const;
export type Language = keyof typeof LANGUAGES;

const KEPT_AS = "eve-console-language";

/** A visitor downloads the one that is shown. */
const TEXTS: Record<Language, () => Promise<Record<string, unknown>>> = {
  en: async () => (await import("./en.ts")).en,
  ru: async () => (await import("./ru.ts")).ru,
};

/** The one that was chosen, else the browser's, else English. */
export async function startLanguage(): Promise<void> {
  const wanted = localStorage.getItem(KEPT_AS) ?? navigator.language.slice(0, 2);
  const language = wanted in LANGUAGES ? wanted as Language : "en";
  await i18next.use(initReactI18next).init({
    resources: { [language]: { translation: await TEXTS[language]() } },
    lng: language,
    interpolation: { escapeValue: false },
  });
  document.documentElement.lang = language;
}

export async function chooseLanguage(language: Language): Promise<void> {
  localStorage.setItem(KEPT_AS, language);
  if (!i18next.hasResourceBundle(language, "translation")) {
    i18next.addResourceBundle(language, "translation", await TEXTS[language]());
  }
  document.documentElement.lang = language;
  await i18next.changeLanguage(language);
}

declare module "i18next" {
  interface CustomTypeOptions {
    resources: { translation: typeof en };
  }
}
