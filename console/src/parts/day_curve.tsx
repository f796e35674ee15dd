import { Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useConsole } from "../console_context.tsx";
import { localeOf } from "../i18n/format.ts";
import { EVERY_MS } from "../queries.ts";
import SeriesChart from "./series_chart.tsx";

/** Requests of Google's day, hour by hour. */
export default function DayCurve({ since }: { since: string }) {
  const { t, i18n } = useTranslation();
  const { api } = useConsole();
  const usage = useQuery({
    queryKey: ["usage", "curve", since],
    queryFn: ({ signal }) => api.get("/usage", { since, by: "hour" }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  if (!usage.data) return null;
  if (usage.data.rows.length === 0) return <Text size="sm" c="dimmed">{t("quota.curve_empty")}</Text>;
  const hour = new Intl.DateTimeFormat(localeOf(i18n.language), { hour: "2-digit", minute: "2-digit" });
  const known = new Map(usage.data.rows.map((row) => [Date.parse(row.hour ?? ""), row.requests]));
  // Hours without a call are part of the curve.
  const hours: { hour: string; requests: number }[] = [];
  for (let at = Date.parse(since); at <= Date.now(); at += 3_600_000) {
    hours.push({ hour: hour.format(at), requests: known.get(at) ?? 0 });
  }
  return (
    <SeriesChart
      kind="area"
      height={140}
      data={hours}
      along="hour"
      label={t("quota.curve")}
      series={[{ name: "requests", label: t("usage.requests"), color: "blue.6" }]}
    />
  );
}
