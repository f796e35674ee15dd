import { Group, SegmentedControl, SimpleGrid, Stack, Table, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import type { UsageAnswer, UsageFigures, UsageSplit } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { localeOf, useFormat } from "../i18n/format.ts";
import { Page } from "../parts/page.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

const SeriesChart = lazy(() => import("../parts/series_chart.tsx"));

const DAYS = { day: 1, week: 7, month: 30 } as const;
type Span = keyof typeof DAYS;
type By = "day" | "consumer" | "model";

const COLUMNS = [
  "requests",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "refused",
  "input_tokens",
  "tokens_out",
] as const;

/** With what is shown as tokens out: the answer and the thinking, which is paid for like it. */
const withTokensOut = <Row extends UsageFigures>(row: Row) => ({
  ...row,
  tokens_out: row.output_tokens + row.thoughts_tokens,
});

export default function UsagePage() {
  const { t, i18n } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [span, setSpan] = useState<Span>("week");
  const [by, setBy] = useState<By>("day");
  const split: UsageSplit = by === "day" && span === "day" ? "hour" : by;
  const usage = useQuery({
    queryKey: ["usage", DAYS[span], split],
    queryFn: ({ signal }) => api.get("/usage", { days: DAYS[span], by: split }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const time = new Intl.DateTimeFormat(localeOf(i18n.language), { hour: "2-digit", minute: "2-digit" });
  const nameOf = (row: UsageAnswer["rows"][number]) =>
    row.day ?? (row.hour ? time.format(new Date(row.hour)) : undefined) ?? row.model ?? row.consumer ??
      t("usage.project_key");
  return (
    <Page title={t("usage.title")} about={t("usage.about")}>
      <Group>
        <SegmentedControl
          aria-label={t("usage.span")}
          value={span}
          onChange={(value) => setSpan(value as Span)}
          data={(Object.keys(DAYS) as Span[]).map((value) => ({ value, label: t(`usage.spans.${value}`) }))}
        />
        <SegmentedControl
          aria-label={t("usage.by")}
          value={by}
          onChange={(value) => setBy(value as By)}
          data={(["day", "consumer", "model"] as const).map((value) => ({
            value,
            label: t(`usage.split.${value}`),
          }))}
        />
      </Group>
      <Loaded query={usage}>
        {({ rows: found, totals: sums, since, now }) => {
          const rows = found.map(withTokensOut);
          const totals = withTokensOut(sums);
          if (rows.length === 0) {return (
              <EmptyState title={t("usage.empty")}>{t("usage.empty_how")}</EmptyState>
            );}
          const data = rows.map((row) => ({
            name: nameOf(row),
            ...Object.fromEntries(COLUMNS.map((name) => [name, row[name]])),
          }));
          return (
            <Stack>
              <Text size="sm" c="dimmed">
                {t("usage.since", { since: format.time(since), day: now.pacific_day })}
              </Text>
              <Suspense>
                <SimpleGrid cols={{ base: 1, lg: 2 }}>
                  <SeriesChart
                    data={data}
                    along="name"
                    label={t("usage.chart")}
                    series={[
                      { name: "succeeded", label: t("usage.succeeded"), color: "blue.6" },
                      { name: "failed", label: t("usage.failed"), color: "red.6" },
                      { name: "cancelled", label: t("usage.cancelled"), color: "gray.6" },
                      { name: "expired", label: t("usage.expired"), color: "orange.6" },
                      { name: "refused", label: t("usage.refused"), color: "yellow.6" },
                    ]}
                  />
                  <SeriesChart
                    data={data}
                    along="name"
                    label={t("usage.chart_tokens")}
                    series={[
                      { name: "input_tokens", label: t("usage.input_tokens"), color: "teal.6" },
                      { name: "tokens_out", label: t("usage.tokens_out"), color: "grape.6" },
                    ]}
                  />
                </SimpleGrid>
              </Suspense>
              <Table.ScrollContainer minWidth={600} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
                <Table aria-label={t("usage.title")}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t(`usage.split.${by}`)}</Table.Th>
                      {COLUMNS.map((name) => <Table.Th key={name} ta="right">{t(`usage.${name}`)}</Table.Th>)}
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {rows.map((row) => (
                      <Table.Tr key={`${row.day} ${row.hour} ${row.consumer} ${row.model}`}>
                        <Table.Th scope="row">{nameOf(row)}</Table.Th>
                        {COLUMNS.map((name) => (
                          <Table.Td key={name} ta="right">{format.number(row[name])}</Table.Td>
                        ))}
                      </Table.Tr>
                    ))}
                  </Table.Tbody>
                  <Table.Tfoot>
                    <Table.Tr>
                      <Table.Th scope="row">
                        <Text span fw={700} size="sm">Σ</Text>
                      </Table.Th>
                      {COLUMNS.map((name) => (
                        <Table.Td key={name} ta="right" fw={700}>{format.number(totals[name])}</Table.Td>
                      ))}
                    </Table.Tr>
                  </Table.Tfoot>
                </Table>
              </Table.ScrollContainer>
            </Stack>
          );
        }}
      </Loaded>
    </Page>
  );
}
