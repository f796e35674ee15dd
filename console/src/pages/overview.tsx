import { Anchor, Card, Group, SimpleGrid, Stack, Table, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { Alert, Lane, LanesAnswer, Overview, Percentiles } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { titleOf } from "../parts/alert_words.ts";
import { PartBoundary } from "../parts/error_boundary.tsx";
import { blockReason } from "../parts/block_words.ts";
import { grouped } from "../parts/grouped.ts";
import { fullness } from "../parts/lane_order.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { Loaded } from "../parts/states.tsx";
import { Waiting } from "../parts/waiting.tsx";
import { EVERY_MS } from "../queries.ts";

const FirstSteps = lazy(() => import("./first_steps.tsx"));

/** More are on the page of quota. */
const LANES_SHOWN = 5;
/** Of the last hour's requests: more than this that fail are worth a look. */
const MANY_FAILED = 0.1;

export default function OverviewPage() {
  const { t } = useTranslation();
  const { api } = useConsole();
  /** A secret is shown there, which is gone for good with it. */
  const [holding, setHolding] = useState(false);
  const overview = useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => api.get("/overview", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const lanes = useQuery({
    queryKey: ["lanes"],
    queryFn: ({ signal }) => api.get("/lanes", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const alerts = useQuery({
    queryKey: ["alerts", "open"],
    queryFn: ({ signal }) => api.get("/alerts", { state: "open" }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  return (
    <Page title={t("overview.title")} about={t("overview.about")}>
      <Loaded query={overview}>
        {(hour) => (
          <Stack gap="lg">
            {(holding || !(hour.has_keys && hour.has_consumers && hour.has_requests)) && (
              <Part title={t("overview.first")}>
                <PartBoundary>
                  <Suspense fallback={<Waiting />}>
                    <FirstSteps hour={hour} hold={setHolding} />
                  </Suspense>
                </PartBoundary>
              </Part>
            )}
            <Health
              hour={hour}
              lanes={lanes.data?.lanes}
              alerts={alerts.data?.alerts}
              unknown={[
                ...(isKnown(overview) ? [] : [t("overview.hour")]),
                ...(isKnown(lanes) ? [] : [t("quota.title")]),
                ...(isKnown(alerts) ? [] : [t("alerts.title")]),
              ]}
            />
            <Hour hour={hour} />
          </Stack>
        )}
      </Loaded>
      <Loaded query={lanes}>{(answer) => <Lanes answer={answer} />}</Loaded>
    </Page>
  );
}

/** Whether the newest answer is one: an old one does not say how it is now. */
const isKnown = ({ data, failureReason }: { data: unknown; failureReason: Error | null }) =>
  data !== undefined && failureReason === null;

/** What is wrong, in words. Well it is only where all that tells is there; `unknown` names what is not. */
function Health({ hour, lanes = [], alerts = [], unknown }: {
  hour: Overview;
  lanes?: Lane[] | undefined;
  alerts?: Alert[] | undefined;
  unknown: string[];
}) {
  const { t } = useTranslation();
  const format = useFormat();
  const bad = alerts.filter(({ severity }) => severity !== "info");
  const reasons = [
    ...(hour.requests > 0 && hour.failed / hour.requests > MANY_FAILED
      ? [t("overview.many_failed", { share: Math.round(100 * hour.failed / hour.requests) })]
      : []),
    ...(lanes.length > 0 && lanes.every(({ state }) => state !== "open") ? [t("overview.all_closed")] : []),
    ...(!hour.has_keys ? [t("overview.no_key")] : []),
  ];
  const nothingWrong = reasons.length + bad.length + hour.bad_keys.length === 0;
  const state = !nothingWrong ? "not_healthy" : unknown.length > 0 ? "unknown" : "healthy";
  return (
    <Part title={t(`overview.${state}`)} label={t("overview.health")}>
      {reasons.map((reason) => <Text key={reason} size="sm">{reason}</Text>)}
      {bad.map((alert) => (
        <Group key={alert.id} gap="xs">
          <StateBadge state={alert.severity} label={t(`alerts.severity.${alert.severity}`)} />
          <Anchor component={Link} href="/alerts" size="sm">
            {`${titleOf(alert, t)}: ${alert.subject}`}
          </Anchor>
        </Group>
      ))}
      {hour.bad_keys.map(({ name, reason, until }) => (
        <Group key={name} gap="xs">
          <StateBadge state="blocked" label={t("keys.states.blocked")} />
          <Anchor component={Link} href="/keys" size="sm">
            {t(until === null ? "overview.bad_key" : "overview.resting_key", {
              name,
              reason: blockReason(reason, t),
              until: format.time(until),
            })}
          </Anchor>
        </Group>
      ))}
      {state === "healthy" && <Text size="sm" c="dimmed">{t("overview.healthy_how")}</Text>}
      {unknown.length > 0 && (
        <Text size="sm" c="dimmed">{t("overview.unknown_how", { what: unknown.join(", ") })}</Text>
      )}
    </Part>
  );
}

function Hour({ hour }: { hour: Overview }) {
  const { t } = useTranslation();
  const format = useFormat();
  const three = ({ p50, p95, p99 }: Percentiles) =>
    [p50, p95, p99].map((value) => format.duration(value)).join(" / ");
  const figures: [string, string][] = [
    [t("overview.requests"), `${format.number(hour.requests)}${hour.is_sample ? "+" : ""}`],
    [t("overview.failed"), format.number(hour.failed)],
    [t("overview.refused"), format.number(hour.refused)],
    [t("overview.wait"), three(hour.wait_ms)],
    [t("overview.latency"), three(hour.latency_ms)],
  ];
  return (
    <Part title={t("overview.hour")}>
      <SimpleGrid cols={{ base: 1, xs: 2, lg: 5 }}>
        {figures.map(([name, value]) => (
          <div key={name}>
            <Text size="xs" c="dimmed">{name}</Text>
            <Text fw={600} className="figures">{value}</Text>
          </div>
        ))}
      </SimpleGrid>
      {hour.errors.length > 0 && (
        <Group gap="md">
          <Text size="sm">{t("overview.errors")}</Text>
          {hour.errors.map(({ code, times }) => (
            <Anchor key={code} component={Link} href={`/requests?error_code=${code}`} size="sm">
              {`${code}: ${format.number(times)}`}
            </Anchor>
          ))}
        </Group>
      )}
    </Part>
  );
}

function Lanes({ answer: { lanes, now } }: { answer: LanesAnswer }) {
  const { t } = useTranslation();
  const format = useFormat();
  const tight = lanes.filter((lane) => fullness(lane) > 0).toSorted((one, other) =>
    fullness(other) - fullness(one)
  ).slice(0, LANES_SHOWN);
  const minutes = Math.max(0, (Date.parse(now.pacific_day_ends) - Date.parse(now.now)) / 60_000);
  const models = grouped(lanes, ({ model }) => model);
  return (
    <SimpleGrid cols={{ base: 1, lg: 2 }}>
      <Part title={t("overview.tightest")}>
        {tight.length === 0 && <Text size="sm" c="dimmed">{t("overview.all_free")}</Text>}
        {tight.map((lane) => (
          <Group key={`${lane.quota_project} ${lane.model}`} justify="space-between" gap="xs">
            <Text size="sm">{`${lane.model}, ${lane.quota_project}`}</Text>
            <Group gap="xs">
              <Text size="sm" className="figures">
                {lane.frees_at
                  ? t("quota.frees", { when: format.ago(lane.frees_at) })
                  : `${Math.round(100 * fullness(lane))} %`}
              </Text>
              <StateBadge state={lane.state} label={t(`quota.state.${lane.state}`)} />
            </Group>
          </Group>
        ))}
        <Anchor component={Link} href="/quota" size="sm">{t("overview.to_quota")}</Anchor>
      </Part>
      <Part title={t("overview.left")}>
        <Text size="xs" c="dimmed">
          {t("overview.left_about", { ends: format.ago(now.pacific_day_ends) })}
        </Text>
        <Table aria-label={t("overview.left")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("requests.model")}</Table.Th>
              <Table.Th ta="right">{t("overview.left_requests")}</Table.Th>
              <Table.Th ta="right">{t("overview.left_tokens")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {models.map(([model, its]) => (
              <Table.Tr key={model}>
                <Table.Th scope="row">{model}</Table.Th>
                <Table.Td ta="right">
                  {whole(its.map(({ requests_day }) => requests_day.remaining), format.number)}
                </Table.Td>
                <Table.Td ta="right">
                  {whole(
                    its.map(({ tokens, requests_day }) =>
                      requests_day.remaining === 0
                        ? 0
                        : tokens.limit === null
                        ? null
                        : Math.round(tokens.limit * minutes)
                    ),
                    format.number,
                  )}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Part>
    </SimpleGrid>
  );
}

/** Null among them is without end. */
const whole = (values: (number | null)[], write: (value: number) => string) =>
  values.includes(null) ? "∞" : write(values.reduce<number>((sum, value) => sum + (value ?? 0), 0));

function Part({ title, label = title, children }: { title: string; label?: string; children: ReactNode }) {
  return (
    <Card withBorder component="section" aria-label={label}>
      <Stack gap="xs">
        <Title order={2} size="h5">{title}</Title>
        {children}
      </Stack>
    </Card>
  );
}
