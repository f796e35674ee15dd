import {
  Alert,
  Button,
  Card,
  Group,
  NumberInput,
  Progress,
  SimpleGrid,
  Stack,
  Table,
  Text,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import {
  FILE_KINDS,
  type StorageCleanup,
  type StorageCounter,
  type StorageGrowth,
  type StorageStats,
} from "../api/storage.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useAction } from "../parts/mutation.ts";
import { PartBoundary } from "../parts/error_boundary.tsx";
import { Page } from "../parts/page.tsx";
import { Loaded } from "../parts/states.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";

const SeriesChart = lazy(() => import("../parts/series_chart.tsx"));

const GB = 1e9;
const DAY_MS = 86_400_000;
/** Further ahead a pace of one week says nothing. */
const MOST_DAYS_AHEAD = 365;
const COLOURS = { media: "blue.6", vision: "grape.6", crawl: "teal.6" } as const;

export default function StoragePage() {
  const { t } = useTranslation();
  const { files } = useConsole();
  const stats = useQuery({
    queryKey: ["storage", "stats"],
    queryFn: ({ signal }) => files.stats(signal),
    refetchInterval: EVERY_MS.slow,
  });
  return (
    <Page title={t("storage.title")} about={t("storage.about")}>
      <Loaded query={stats}>
        {(stats) => (
          <Stack>
            <Room stats={stats} />
            <Tenants tenants={stats.tenants} />
            <Growth total={stats.total} />
            <Next />
            <CleanUp stats={stats} />
          </Stack>
        )}
      </Loaded>
    </Page>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Card withBorder component="section" aria-label={title}>
      <Stack gap="sm">
        <Title order={2} size="h4">{title}</Title>
        {children}
      </Stack>
    </Card>
  );
}

function Room({ stats }: { stats: StorageStats }) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Part title={t("storage.room")}>
      <SimpleGrid cols={{ base: 1, md: 2, xl: 3 }}>
        <Meter name={t("storage.total")} counter={stats.total} />
        {FILE_KINDS.map((kind) => (
          <Meter key={kind} name={t(`storage.kind.${kind}`)} counter={stats.kinds[kind]} />
        ))}
        <Meter name={t("storage.spool")} counter={stats.spool} />
      </SimpleGrid>
      <Text size="xs" c="dimmed">
        {t("storage.emergency", { bytes: format.bytes(stats.emergency_threshold_bytes) })}
      </Text>
    </Part>
  );
}

/** In per cent, at most 100; what is reserved counts. */
function shareOf({ limit_bytes, used_bytes, reserved_bytes }: StorageCounter): number {
  return limit_bytes > 0 ? Math.min(100, 100 * (used_bytes + reserved_bytes) / limit_bytes) : 100;
}

function Meter({ name, counter }: { name: string; counter: StorageCounter }) {
  const { t } = useTranslation();
  const format = useFormat();
  const words = t("storage.used_of", {
    used: format.bytes(counter.used_bytes),
    limit: format.bytes(counter.limit_bytes),
  });
  return (
    <div>
      <Group justify="space-between">
        <Text size="sm" fw={600}>{name}</Text>
        <Text size="sm" className="figures">{words}</Text>
      </Group>
      <Share name={`${name}: ${words}`} value={shareOf(counter)} />
      <Text size="xs" c="dimmed" className="figures">
        {t("storage.line", {
          count: counter.objects,
          reserved: format.bytes(counter.reserved_bytes),
          free: format.bytes(counter.free_bytes),
        })}
      </Text>
    </div>
  );
}

function Share({ name, value }: { name: string; value: number }) {
  return <Progress value={value} color={value >= 90 ? "orange" : "blue"} aria-label={name} size="sm" />;
}

function Tenants({ tenants }: { tenants: StorageStats["tenants"] }) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Part title={t("storage.tenants")}>
      <Scrolling>
        <Table aria-label={t("storage.tenants")}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{t("storage.tenant")}</Table.Th>
              <Table.Th ta="right">{t("storage.files")}</Table.Th>
              <Table.Th ta="right">{t("storage.used")}</Table.Th>
              <Table.Th ta="right">{t("storage.limit")}</Table.Th>
              <Table.Th>{t("storage.share")}</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {tenants.toSorted((a, b) => b.used_bytes - a.used_bytes).map((tenant) => (
              <Table.Tr key={tenant.tenant_id}>
                <Table.Th scope="row">{tenant.tenant_id}</Table.Th>
                <Table.Td ta="right">{format.number(tenant.objects)}</Table.Td>
                <Table.Td ta="right">{format.bytes(tenant.used_bytes)}</Table.Td>
                <Table.Td ta="right">{format.bytes(tenant.limit_bytes)}</Table.Td>
                <Table.Td miw={120}>
                  <Share name={`${t("storage.share")}: ${tenant.tenant_id}`} value={shareOf(tenant)} />
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Scrolling>
    </Part>
  );
}

const Scrolling = ({ children }: { children: ReactNode }) => (
  <ListFrame minWidth={500}>
    {children}
  </ListFrame>
);

function Growth({ total }: { total: StorageCounter }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { files } = useConsole();
  const growth = useQuery({
    queryKey: ["storage", "growth"],
    queryFn: ({ signal }) => files.growth(30, signal),
    staleTime: 60_000,
  });
  return (
    <Part title={t("storage.growth")}>
      <Loaded query={growth}>
        {({ days }) => {
          const weekAgo = new Date(Date.now() - 7 * DAY_MS).toISOString().slice(0, 10);
          const sum = (rows: StorageGrowth["days"]) => rows.reduce((bytes, row) => bytes + row.bytes, 0);
          const month = sum(days);
          const week = sum(days.filter(({ day }) => day > weekAgo));
          if (days.length === 0) return <Text size="sm">{t("storage.growth_none")}</Text>;
          const daysLeft = week > 0 ? Math.floor(total.free_bytes / (week / 7)) : Infinity;
          return (
            <>
              <Text size="sm">
                {t("storage.growth_line", { week: format.bytes(week), month: format.bytes(month) })}{" "}
                {daysLeft <= MOST_DAYS_AHEAD && t("storage.growth_full", { count: daysLeft })}
              </Text>
              <PartBoundary>
                <Suspense>
                  <SeriesChart
                    data={[...new Set(days.map(({ day }) => day))].map((day) => ({
                      day,
                      ...Object.fromEntries(FILE_KINDS.map((kind) => [
                        kind,
                        sum(days.filter((row) => row.day === day && row.kind === kind)),
                      ])),
                    }))}
                    along="day"
                    label={t("storage.growth_chart")}
                    write={format.bytes}
                    series={FILE_KINDS.map((kind) => ({
                      name: kind,
                      label: t(`storage.kind.${kind}`),
                      color: COLOURS[kind],
                    }))}
                  />
                </Suspense>
              </PartBoundary>
            </>
          );
        }}
      </Loaded>
    </Part>
  );
}

/** What a clean-up down to nothing would take: the order in which files leave. */
function Next() {
  const { t } = useTranslation();
  const { files } = useConsole();
  const next = useQuery({
    queryKey: ["storage", "next"],
    queryFn: ({ signal }) => files.cleanUp({ target_gb: 0, dry_run: true }, signal),
    staleTime: 60_000,
  });
  return (
    <Part title={t("storage.next")}>
      <Text size="sm" c="dimmed">{t("storage.next_about")}</Text>
      <Loaded query={next}>
        {(report) =>
          report.deleted_objects === 0
            ? <Text size="sm">{t("storage.next_none")}</Text>
            : <Steps report={report} name={t("storage.next")} />}
      </Loaded>
    </Part>
  );
}

function Steps({ report, name }: { report: StorageCleanup; name: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Scrolling>
      <Table aria-label={name}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("storage.what")}</Table.Th>
            <Table.Th ta="right">{t("storage.older")}</Table.Th>
            <Table.Th ta="right">{t("storage.files")}</Table.Th>
            <Table.Th ta="right">{t("storage.bytes")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {report.steps.filter(({ objects }) => objects > 0).map((step) => (
            <Table.Tr key={step.what}>
              <Table.Th scope="row">{t(`storage.kind.${step.what}`)}</Table.Th>
              <Table.Td ta="right">{t("storage.days", { count: step.min_age_days })}</Table.Td>
              <Table.Td ta="right">{format.number(step.objects)}</Table.Td>
              <Table.Td ta="right">{format.bytes(step.bytes)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scrolling>
  );
}

/** First what would be deleted, then the button that deletes it; another number begins again. */
function CleanUp({ stats: { total, emergency_threshold_bytes } }: { stats: StorageStats }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { files } = useConsole();
  const [target, setTarget] = useState<number | "">(
    Math.ceil(2 * (total.limit_bytes - emergency_threshold_bytes) / GB),
  );
  const [report, setReport] = useState<StorageCleanup | null>(null);
  const run = useAction(
    (dryRun: boolean): Promise<StorageCleanup> =>
      files.cleanUp({ target_free_gb: Number(target), dry_run: dryRun }),
    { touches: ["storage"], failed: t("storage.failed") },
  );
  const start = (dryRun: boolean) => run.mutate(dryRun, { onSuccess: setReport });
  const figures = report && {
    objects: format.number(report.deleted_objects),
    bytes: format.bytes(report.freed_bytes),
    after: format.bytes(report.used_bytes_after),
  };
  return (
    <Part title={t("storage.cleanup")}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          start(true);
        }}
      >
        <Group align="flex-end">
          <NumberInput
            label={t("storage.target")}
            description={t("storage.target_about", { limit: format.bytes(total.limit_bytes) })}
            value={target}
            min={0}
            max={total.limit_bytes / GB}
            decimalScale={3}
            hideControls
            onChange={(value) => {
              setTarget(value === "" ? "" : Number(value));
              setReport(null);
            }}
          />
          <Button
            type="submit"
            variant="default"
            loading={run.isPending && run.variables}
            disabled={target === ""}
          >
            {t("storage.dry_run")}
          </Button>
        </Group>
      </form>
      <div role="status">
        {report && figures && (
          <Stack gap="sm" align="flex-start">
            <Text size="sm">
              {report.deleted_objects === 0 && report.status === "done"
                ? t("storage.enough")
                : `${t(report.dry_run ? "storage.would" : "storage.deleted", figures)} ${
                  t(`storage.status.${report.status}`)
                }`}
            </Text>
          </Stack>
        )}
      </div>
      {report && report.deleted_objects > 0 && <Steps report={report} name={t("storage.cleanup")} />}
      {report?.dry_run && report.deleted_objects > 0 && (
        <Alert color="red" variant="outline">
          <Group justify="space-between">
            <Text size="sm">{t("storage.delete_sure")}</Text>
            <Button color="red" loading={run.isPending} onClick={() => start(false)}>
              {t("storage.delete")}
            </Button>
          </Group>
        </Alert>
      )}
    </Part>
  );
}
