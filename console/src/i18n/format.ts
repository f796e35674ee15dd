import { useTranslation } from "react-i18next";

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
];

const BYTES = [["gigabyte", 1e9], ["megabyte", 1e6], ["kilobyte", 1e3], ["byte", 1]] as const;

export interface Format {
  number(value: number | null | undefined): string;
  /** Bytes, in the unit that suits; 1 GB is 10^9. */
  bytes(value: number): string;
  /** Milliseconds as a person reads them. */
  duration(ms: number | null | undefined): string;
  /** Date and time in the reader's zone. */
  time(iso: string | null | undefined): string;
  clock(iso: string | null | undefined): string;
  /** "3 minutes ago", "in 2 hours". */
  ago(iso: string | null | undefined): string;
}

/** As the browser writes the chosen language: English is of several countries, whose dates and clocks differ. */
export const localeOf = (language: string): string =>
  navigator.languages.find((known) => known.split("-")[0] === language) ?? language;

/** Numbers and times as the chosen language writes them; a dash for what is not there. */
export function useFormat(): Format {
  const { i18n } = useTranslation();
  const language = localeOf(i18n.language);
  const number = (value: number | null | undefined) =>
    value == null ? "–" : new Intl.NumberFormat(language).format(value);
  const unit = (value: number, name: string, digits = 0) =>
    new Intl.NumberFormat(language, {
      style: "unit",
      unit: name,
      unitDisplay: "narrow",
      maximumFractionDigits: digits,
    }).format(value);
  return {
    number,
    bytes(value) {
      const [name, size] = BYTES.find(([, size]) => Math.abs(value) >= size) ?? BYTES.at(-1)!;
      return new Intl.NumberFormat(language, {
        style: "unit",
        unit: name,
        unitDisplay: "short",
        maximumFractionDigits: size === 1 ? 0 : 2,
      }).format(value / size);
    },
    duration(ms) {
      if (ms == null) return "–";
      if (ms < 1_000) return unit(Math.round(ms), "millisecond");
      return ms < 120_000 ? unit(ms / 1_000, "second", 1) : unit(ms / 60_000, "minute", 1);
    },
    time: (iso) =>
      iso == null
        ? "–"
        : new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(
          new Date(iso),
        ),
    clock: (iso) =>
      iso == null ? "–" : new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(new Date(iso)),
    ago(iso) {
      if (iso == null) return "–";
      const distance = new Date(iso).getTime() - Date.now();
      const [name, size] = UNITS.find(([, size]) => Math.abs(distance) >= size) ?? UNITS.at(-1)!;
      return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(
        Math.round(distance / size),
        name,
      );
    },
  };
}
