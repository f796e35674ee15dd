import {
  Anchor,
  Button,
  Group,
  SegmentedControl,
  SimpleGrid,
  Stack,
  Table,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type {
  ModelPrice,
  Percentiles,
  UsageAnswer,
  UsageFigures,
  UsageParts,
  UsageSplit,
} from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { localeOf, useFormat } from "../i18n/format.ts";
import { type Cost, costOf, sumOfCosts } from "../parts/cost.ts";
import { csvOf } from "../parts/csv.ts";
import { grouped } from "../parts/grouped.ts";
import { Page } from "../parts/page.tsx";
import { saveFile } from "../parts/save_file.ts";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";
import { Prices } from "./prices.tsx";

const SeriesChart = lazy(() => import("../parts/series_chart.tsx"));

const DAYS = { day: 1, week: 7, month: 30 } as const;
type Span = keyof typeof DAYS | "range";
const SPANS = ["day", "week", "month", "range"] as const;
const BY = ["day", "consumer", "model", "key", "endpoint", "stage"] as const;
type By = typeof BY[number];

/** More than these are one line, "others". */
const TOP = 10;
/** Of the gateway: rows by time, consumer and the like, each of them by model, whose prices differ. */
const MOST_ROWS = 10_000;

const COLUMNS = [
  "requests",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "refused",
  "input_tokens",
  "tokens_out",
  "thoughts_tokens",
  "cached_tokens",
] as const;

const SUMMED = [
  "requests",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "refused",
  "input_tokens",
  "output_tokens",
  "thoughts_tokens",
  "cached_tokens",
  "dispatched",
  "wait_ms",
  "latency_ms",
] as const satisfies readonly (keyof UsageFigures)[];

/** A row of the answer, or of the stages. */
type Row =
  & UsageFigures
  & Partial<Pick<UsageAnswer["rows"][number], "day" | "hour" | "consumer" | "model" | "key" | "endpoint">>
  & {
    stage?: string;
  };

interface Line extends UsageFigures {
  name: string;
  cost: Cost;
}

const sumOf = (rows: Row[]) =>
  Object.fromEntries(
    SUMMED.map((field) => [field, rows.reduce((sum, row) => sum + row[field], 0)]),
  ) as unknown as UsageFigures;

/** Rows of one name as one line. */
function lineOf(name: string, rows: Row[], prices: ModelPrice[]): Line {
  const sums = sumOf(rows);
  const cost = sumOfCosts(
    rows.map((row) => costOf(row, prices.find(({ model }) => model === row.model))),
  );
  return { ...sums, name, cost };
}

/** In the order of the answer; of what is not time only the largest, and the others together. */
function linesOf(
  rows: Row[],
  nameOf: (row: Row) => string,
  prices: ModelPrice[],
  others: string | null,
): Line[] {
  const groups = grouped(rows, nameOf);
  if (others === null) return groups.map(([name, its]) => lineOf(name, its, prices));
  const size = (its: Row[]) => its.reduce((sum, row) => sum + row.requests + row.refused, 0);
  const sorted = groups.toSorted(([, one], [, other]) => size(other) - size(one));
  const rest = sorted.slice(TOP).flatMap(([, its]) => its);
  return [
    ...sorted.slice(0, TOP).map(([name, its]) => lineOf(name, its, prices)),
    ...(rest.length > 0 ? [lineOf(others, rest, prices)] : []),
  ];
}

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
  const [since, setSince] = useState("");
  const [until, setUntil] = useState("");
  const [pricing, setPricing] = useState(false);
  // Stages are not among what is summed by the hour; its totals are shown all the same.
  const split: UsageSplit = by === "stage" ? "model" : by === "day" && span === "day" ? "hour" : by;
  const asked = span === "range"
    ? { since: instantOf(since), until: instantOf(until) }
    : { days: DAYS[span] };
  const usage = useQuery({
    queryKey: ["usage", asked, split],
    queryFn: ({ signal }) =>
      api.get(
        "/usage",
        { ...asked, by: split === "model" ? split : `${split},model`, limit: MOST_ROWS },
        signal,
      ),
    refetchInterval: EVERY_MS.slow,
  });
  const parts = useQuery({
    queryKey: ["usage", asked, "parts"],
    queryFn: ({ signal }) => api.get("/usage/parts", asked, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const known = useQuery({
    queryKey: ["prices"],
    queryFn: ({ signal }) => api.get("/prices", {}, signal),
  });
  const prices = known.data?.prices ?? [];
  const dollars = new Intl.NumberFormat(localeOf(i18n.language), {
    style: "currency",
    currency: "USD",
    maximumFractionDigits: 4,
  });
  /** What has no known price is never told as nothing. */
  const costIn = ({ paid, free, isPartial }: Cost) =>
    [
      isPartial
        ? paid > 0 ? t("prices.at_least", { cost: dollars.format(paid) }) : t("prices.unknown")
        : dollars.format(paid),
      ...(free > 0 ? [t("prices.would", { cost: dollars.format(free) })] : []),
    ].join(", ");
  const time = new Intl.DateTimeFormat(localeOf(i18n.language), { hour: "2-digit", minute: "2-digit" });
  const nameOf = (row: Row) =>
    row.stage !== undefined
      ? row.stage
      : split === "model"
      ? row.model ?? "–"
      : row.day ?? (row.hour ? time.format(new Date(row.hour)) : undefined) ?? row.consumer ?? row.endpoint ??
        row.key ?? t(split === "key" ? "usage.no_key" : "usage.project_key");
  return (
    <Page title={t("usage.title")} about={t("usage.about")}>
      <Group>
        <SegmentedControl
          aria-label={t("usage.span")}
          value={span}
          onChange={(value) => setSpan(value as Span)}
          data={SPANS.map((value) => ({ value, label: t(`usage.spans.${value}`) }))}
        />
        <SegmentedControl
          aria-label={t("usage.by")}
          value={by}
          onChange={(value) => setBy(value as By)}
          data={BY.map((value) => ({
            value,
            label: t(`usage.split.${value}`),
          }))}
        />
        {span === "range" && (
          <>
            <TextInput
              type="datetime-local"
              label={t("requests.since")}
              value={since}
              onChange={(event) => setSince(event.currentTarget.value)}
            />
            <TextInput
              type="datetime-local"
              label={t("requests.until")}
              value={until}
              onChange={(event) => setUntil(event.currentTarget.value)}
            />
          </>
        )}
        <Button
          variant="default"
          onClick={() => saveFile("usage.csv", csvOf(usage.data?.rows ?? []))}
        >
          {t("requests.export.csv")}
        </Button>
        <Button
          variant="default"
          onClick={() => saveFile("usage.json", JSON.stringify(usage.data?.rows ?? [], null, 2))}
        >
          {t("requests.export.json")}
        </Button>
        <Button variant="default" onClick={() => setPricing(true)}>{t("prices.title")}</Button>
      </Group>
      <Window opened={pricing} onClose={() => setPricing(false)} title={t("prices.title")} size="lg">
        <Prices
          prices={prices}
          models={[...new Set((usage.data?.rows ?? []).flatMap(({ model }) => model ?? []))]}
        />
      </Window>
      <Loaded query={usage}>
        {({ rows: found, totals: sums, since, now }) => {
          const its = by === "stage" ? parts.data?.stages ?? [] : found;
          const lines = linesOf(its, nameOf, prices, by === "day" ? null : t("usage.others"));
          const rows = lines.map(withTokensOut);
          const totals = withTokensOut(by === "stage" ? sumOf(its) : sums);
          if (rows.length === 0) {
            return (
              <EmptyState title={t("usage.empty")}>
                {t(by === "stage" ? "usage.empty_stages" : "usage.empty_how")}
              </EmptyState>
            );
          }
          const data = rows.map((row) => ({
            name: row.name,
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
              <ListFrame minWidth={1000}>
                <Table aria-label={t("usage.title")}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t(`usage.split.${by}`)}</Table.Th>
                      {COLUMNS.map((name) => <Table.Th key={name} ta="right">{t(`usage.${name}`)}</Table.Th>)}
                      <Table.Th ta="right">{t("usage.latency")}</Table.Th>
                      <Table.Th ta="right">{t("usage.cost")}</Table.Th>
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {rows.map((row) => (
                      <Table.Tr key={row.name}>
                        <Table.Th scope="row">{row.name}</Table.Th>
                        {COLUMNS.map((name) => (
                          <Table.Td key={name} ta="right">{format.number(row[name])}</Table.Td>
                        ))}
                        <Table.Td ta="right">{format.duration(latencyOf(row))}</Table.Td>
                        <Table.Td ta="right">{costIn(row.cost)}</Table.Td>
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
                      <Table.Td ta="right" fw={700}>{format.duration(latencyOf(totals))}</Table.Td>
                      <Table.Td ta="right" fw={700}>
                        {costIn(sumOfCosts(lines.map(({ cost }) => cost)))}
                      </Table.Td>
                    </Table.Tr>
                  </Table.Tfoot>
                </Table>
              </ListFrame>
            </Stack>
          );
        }}
      </Loaded>
      {parts.data && <Parts parts={parts.data} />}
    </Page>
  );
}

/** How long calls took, and why they failed. */
function Parts({ parts: { wait_ms, latency_ms, errors, is_sample } }: { parts: UsageParts }) {
  const { t } = useTranslation();
  const format = useFormat();
  const named: [string, Percentiles][] = [[t("overview.wait"), wait_ms], [t("overview.latency"), latency_ms]];
  return (
    <Stack component="section" gap="xs" aria-label={t("usage.times")}>
      <Title order={2} size="h4">{t("usage.times")}</Title>
      {is_sample && <Text size="sm" c="dimmed">{t("usage.sample")}</Text>}
      {named.map(([name, { p50, p95, p99 }]) => (
        <Group key={name} gap="xs">
          <Text size="sm">{name}</Text>
          <Text size="sm" fw={600} className="figures">
            {[p50, p95, p99].map((value) => format.duration(value)).join(" / ")}
          </Text>
        </Group>
      ))}
      {errors.length > 0 && (
        <Table aria-label={t("usage.errors")} w="max-content">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("requests.error_code")}</Table.Th>
              <Table.Th ta="right">{t("requests.times")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {errors.map(({ code, times }) => (
              <Table.Tr key={code}>
                <Table.Th scope="row">
                  <Anchor component={Link} href={`/requests?error_code=${code}`} size="sm">{code}</Anchor>
                </Table.Th>
                <Table.Td ta="right">{format.number(times)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Stack>
  );
}

const instantOf = (local: string) => local === "" ? undefined : new Date(local).toISOString();

/** Of an attempt that called upstream, on average. */
const latencyOf = ({ latency_ms, dispatched }: UsageFigures) =>
  dispatched === 0 ? null : latency_ms / dispatched;
