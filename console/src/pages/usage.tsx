import {
  Alert,
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
import type { Percentiles, UsageAnswer, UsageParts, UsageSplit } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { localeOf, useFormat } from "../i18n/format.ts";
import { type Cost, costIn } from "../parts/cost.ts";
import { csvOf } from "../parts/csv.ts";
import { PartBoundary } from "../parts/error_boundary.tsx";
import { Page } from "../parts/page.tsx";
import { saveFile } from "../parts/save_file.ts";
import { EmptyState, Loaded } from "../parts/states.tsx";
import {
  exported,
  isByHour,
  linesOfAnswer,
  linesOfStages,
  meanLatencyOf,
  TOP,
  type UsageLines,
} from "../parts/usage_lines.ts";
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

/** Of the gateway: more days than it has. */
const MOST_ROWS = 10_000;
/** Sums that are older than this miss what somebody may look for. */
const LATE_MS = 60_000;

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

export default function UsagePage() {
  const { t, i18n } = useTranslation();
  const { api } = useConsole();
  const [span, setSpan] = useState<Span>("week");
  const [by, setBy] = useState<By>("day");
  const [since, setSince] = useState("");
  const [until, setUntil] = useState("");
  const [pricing, setPricing] = useState(false);
  const asked = span === "range"
    ? { since: instantOf(since), until: instantOf(until) }
    : { days: DAYS[span] };
  // Stages are not among what is summed by the hour; its totals are shown all the same.
  const split: UsageSplit = by === "stage" ? "endpoint" : by === "day" && isByHour(asked) ? "hour" : by;
  const isOverTime = split === "day" || split === "hour";
  const usage = useQuery({
    queryKey: ["usage", asked, split],
    queryFn: ({ signal }) =>
      api.get("/usage", { ...asked, by: split, limit: MOST_ROWS, ...(!isOverTime && { top: TOP }) }, signal),
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
  const dollars = new Intl.NumberFormat(localeOf(i18n.language), {
    style: "currency",
    currency: "USD",
    maximumFractionDigits: 4,
  });
  const cost = (one: Cost) =>
    costIn(one, {
      dollars: (usd) => dollars.format(usd),
      unknown: t("prices.unknown"),
      atLeast: (cost) => t("prices.at_least", { cost }),
      would: (cost) => t("prices.would", { cost }),
      wouldUnknown: t("prices.would_unknown"),
    });
  const time = new Intl.DateTimeFormat(localeOf(i18n.language), {
    hour: "2-digit",
    minute: "2-digit",
    ...(span === "range" && { day: "numeric", month: "short" }),
  });
  const nameOf = (row: UsageAnswer["rows"][number]) =>
    row.day ?? (row.hour ? time.format(new Date(row.hour)) : undefined) ?? row.consumer ?? row.model ??
      row.endpoint ?? row.key ?? t(split === "key" ? "usage.no_key" : "usage.project_key");
  const words = { others: t("usage.others"), sum: "Σ" };
  /** What is shown; null: not there yet. */
  const shown: UsageLines | null = by === "stage"
    ? parts.data ? linesOfStages(parts.data.stages, words) : null
    : usage.data
    ? linesOfAnswer(usage.data, nameOf, words)
    : null;
  const name = by === "stage" ? by : split;
  const covered = usage.data && {
    since: usage.data.since,
    until: usage.data.until,
    complete_until: usage.data.complete_until,
  };
  const rowsOf = ({ lines, total }: UsageLines) => [...lines, total].map((line) => exported(name, line));
  // While another answer is awaited the one before is shown.
  const isShown = shown !== null && !usage.isPlaceholderData && !parts.isPlaceholderData;
  const file = `usage-${name}-${covered?.since.slice(0, 10)}`;
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
          disabled={!isShown}
          onClick={() => shown && saveFile(`${file}.csv`, csvOf(rowsOf(shown)))}
        >
          {t("requests.export.csv")}
        </Button>
        <Button
          variant="default"
          disabled={!isShown}
          onClick={() =>
            shown && saveFile(
              `${file}.json`,
              JSON.stringify(
                { by: name, ...covered, rows: rowsOf(shown).slice(0, -1), total: rowsOf(shown).at(-1) },
                null,
                2,
              ),
            )}
        >
          {t("requests.export.json")}
        </Button>
        <Button variant="default" onClick={() => setPricing(true)}>{t("prices.title")}</Button>
      </Group>
      <Window opened={pricing} onClose={() => setPricing(false)} title={t("prices.title")} size="lg">
        <Prices prices={known.data?.prices ?? []} models={usage.data?.unpriced ?? []} />
      </Window>
      <Loaded query={usage}>
        {(answer) => (
          <Stack>
            <Covered answer={answer} />
            {shown !== null && (shown.lines.length === 0
              ? (
                <EmptyState title={t("usage.empty")}>
                  {t(by === "stage" ? "usage.empty_stages" : "usage.empty_how")}
                </EmptyState>
              )
              : (
                <>
                  <PartBoundary>
                    <Suspense>
                      <Charts lines={shown.lines} />
                    </Suspense>
                  </PartBoundary>
                  <Lines {...shown} heading={t(`usage.split.${by}`)} cost={cost} />
                </>
              ))}
          </Stack>
        )}
      </Loaded>
      {parts.data && <Parts parts={parts.data} />}
    </Page>
  );
}

/** Of which time the figures really are, and what is not in them yet. */
function Covered({ answer: { since, until, complete_until, unpriced, now } }: { answer: UsageAnswer }) {
  const { t } = useTranslation();
  const format = useFormat();
  const end = until !== null && Date.parse(until) < Date.parse(now.now) ? until : now.now;
  const isLate = complete_until === null || Date.parse(end) - Date.parse(complete_until) > LATE_MS;
  return (
    <>
      <Text size="sm" c="dimmed">
        {t("usage.covered", { since: format.time(since), until: format.time(end), day: now.pacific_day })}
      </Text>
      {isLate && (
        <Alert color="yellow" variant="outline" role="status" p="xs">
          <Text size="sm">
            {complete_until === null
              ? t("usage.not_summed")
              : t("usage.complete_until", { at: format.time(complete_until) })}
          </Text>
        </Alert>
      )}
      {unpriced.length > 0 && (
        <Text size="sm" c="dimmed">{t("prices.unpriced", { models: unpriced.join(", ") })}</Text>
      )}
    </>
  );
}

function Charts({ lines }: Pick<UsageLines, "lines">) {
  const { t } = useTranslation();
  const data = lines.map((line) => ({
    name: line.name,
    ...Object.fromEntries(COLUMNS.map((name) => [name, line[name]])),
  }));
  return (
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
  );
}

function Lines({ lines, total, heading, cost }: UsageLines & {
  heading: string;
  cost: (one: Cost) => string;
}) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <ListFrame minWidth={1000}>
      <Table aria-label={t("usage.title")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{heading}</Table.Th>
            {COLUMNS.map((name) => <Table.Th key={name} ta="right">{t(`usage.${name}`)}</Table.Th>)}
            <Table.Th ta="right">{t("usage.latency")}</Table.Th>
            <Table.Th ta="right">{t("usage.cost")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {lines.map((line, at) => (
            <Table.Tr key={at}>
              <Table.Th scope="row">{line.name}</Table.Th>
              {COLUMNS.map((name) => <Table.Td key={name} ta="right">{format.number(line[name])}</Table.Td>)}
              <Table.Td ta="right">{format.duration(meanLatencyOf(line))}</Table.Td>
              <Table.Td ta="right">{cost(line)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
        <Table.Tfoot>
          <Table.Tr>
            <Table.Th scope="row">
              <Text span fw={700} size="sm">{total.name}</Text>
            </Table.Th>
            {COLUMNS.map((name) => (
              <Table.Td key={name} ta="right" fw={700}>{format.number(total[name])}</Table.Td>
            ))}
            <Table.Td ta="right" fw={700}>{format.duration(meanLatencyOf(total))}</Table.Td>
            <Table.Td ta="right" fw={700}>{cost(total)}</Table.Td>
          </Table.Tr>
        </Table.Tfoot>
      </Table>
    </ListFrame>
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
