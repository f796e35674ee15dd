import {
  Button,
  Card,
  Group,
  Progress,
  Select,
  SimpleGrid,
  Stack,
  Text,
  Title,
  Tooltip,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Allowance, Lane } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { blockReason } from "../parts/block_words.ts";
import { PartBoundary } from "../parts/error_boundary.tsx";
import { byFullness, isIdle } from "../parts/lane_order.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { EVERY_MS } from "../queries.ts";
import { ModelForm } from "./model_form.tsx";

const DayCurve = lazy(() => import("../parts/day_curve.tsx"));

export default function QuotaPage() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [project, setProject] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  const [changing, setChanging] = useState<Lane | null>(null);
  const lanes = useQuery({
    queryKey: ["lanes"],
    queryFn: ({ signal }) => api.get("/lanes", {}, signal),
    refetchInterval: EVERY_MS.lanes,
  });
  return (
    <Page title={t("quota.title")} about={t("quota.about")}>
      <Window
        opened={changing !== null}
        onClose={() => setChanging(null)}
        title={t("quota.limits_of", { model: changing?.model, project: changing?.quota_project })}
      >
        {changing && <LaneLimits lane={changing} close={() => setChanging(null)} />}
      </Window>
      <Loaded query={lanes}>
        {({ lanes, now }) => {
          const projects = [...new Set(lanes.map((lane) => lane.quota_project))];
          const found = lanes.filter((lane) => project === null || lane.quota_project === project)
            .toSorted(byFullness);
          const idle = found.filter(isIdle);
          // All of them while none is used: a page of nothing says nothing.
          const shown = all || idle.length === found.length ? found : found.filter((lane) => !isIdle(lane));
          if (lanes.length === 0) {return (
              <EmptyState title={t("quota.empty")}>{t("quota.empty_how")}</EmptyState>
            );}
          return (
            <Stack>
              <Group justify="space-between" align="flex-end">
                <Select
                  label={t("quota.project")}
                  placeholder={t("all")}
                  data={projects}
                  clearable
                  clearButtonProps={{ "aria-label": t("clear") }}
                  value={project}
                  onChange={setProject}
                />
                <Text size="sm" c="dimmed">
                  {t("quota.day", { day: now.pacific_day, ends: format.ago(now.pacific_day_ends) })}
                </Text>
              </Group>
              <PartBoundary>
                <Suspense>
                  <DayCurve since={now.pacific_day_begins} />
                </Suspense>
              </PartBoundary>
              <SimpleGrid cols={{ base: 1, md: 2, xl: 3 }}>
                {shown.map((lane) => (
                  <LaneCard
                    key={`${lane.quota_project} ${lane.model}`}
                    lane={lane}
                    change={() => setChanging(lane)}
                  />
                ))}
              </SimpleGrid>
              {idle.length > 0 && idle.length < found.length && (
                <Button
                  variant="default"
                  w="max-content"
                  onClick={() => setAll((now) => !now)}
                >
                  {all ? t("quota.hide_idle") : t("quota.show_idle", { count: idle.length })}
                </Button>
              )}
            </Stack>
          );
        }}
      </Loaded>
    </Page>
  );
}

/** What may be changed of a lane, once it has been read. */
function LaneLimits({ lane, close }: { lane: Lane; close: () => void }) {
  const { api } = useConsole();
  const read = useQuery({
    queryKey: ["models", "of a lane"],
    queryFn: async ({ signal }) => {
      const [{ models }, limits] = await Promise.all([
        api.get("/models/all", {}, signal),
        api.get("/limits", {}, signal),
      ]);
      return { models, limits };
    },
    // A form is filled once, from what is there now.
    gcTime: 0,
  });
  return (
    <Loaded query={read}>
      {({ models, limits }) => {
        const of = models.find(({ model }) => model === lane.model);
        return of && (
          <ModelForm of={of} models={models} limits={limits} project={lane.quota_project} close={close} />
        );
      }}
    </Loaded>
  );
}

function LaneCard({ lane, change }: { lane: Lane; change: () => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Card withBorder component="section" aria-label={`${lane.model}, ${lane.quota_project}`}>
      <Stack gap="xs">
        <Group justify="space-between" wrap="nowrap" align="flex-start">
          <div>
            <Title order={2} size="h5">{lane.model}</Title>
            <Tooltip label={t("quota.keys", { keys: lane.keys.join(", ") })}>
              <Text size="xs" c="dimmed">{lane.quota_project}</Text>
            </Tooltip>
          </div>
          <StateBadge state={lane.state} label={t(`quota.state.${lane.state}`)} />
        </Group>
        {lane.blocked_until && (
          <Text size="sm">
            {t("quota.blocked", {
              until: format.time(lane.blocked_until),
              reason: blockReason(lane.blocked_reason, t),
            })}
          </Text>
        )}
        <Minute lane={lane} />
        <Meter label={t("quota.tokens")} value={lane.tokens} />
        <Meter label={t("quota.requests_day")} value={lane.requests_day} />
        <Text size="xs" c="dimmed" className="figures">
          {t("quota.line", {
            queued: format.number(lane.queued),
            running: format.number(lane.running),
            free: lane.free === null ? "∞" : format.number(lane.free),
          })}
          {lane.frees_at && lane.state !== "paused" &&
            `. ${t("quota.frees", { when: format.ago(lane.frees_at) })}`}
        </Text>
        <Button
          size="compact-xs"
          variant="default"
          w="max-content"
          aria-label={`${t("quota.change")}: ${lane.model}, ${lane.quota_project}`}
          onClick={change}
        >
          {t("quota.change")}
        </Button>
      </Stack>
    </Card>
  );
}

/** The starts of a minute: what has ended, what runs, what is booked for later, and what is free. */
function Minute({ lane }: { lane: Lane }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { used, limit } = lane.requests;
  if (limit === null) return <Meter label={t("quota.requests")} value={lane.requests} />;
  const running = Math.min(lane.running, used);
  const parts = [
    { name: "ended", count: used - running, color: "blue.6" },
    { name: "running", count: running, color: "teal.6" },
    { name: "booked", count: Math.min(lane.queued, Math.max(limit - used, 0)), color: "yellow.5" },
  ] as const;
  const words = t("quota.used_of", { used: format.number(used), limit: format.number(limit) });
  return (
    <div>
      <Group justify="space-between">
        <Text size="xs">{t("quota.requests")}</Text>
        <Text size="xs" className="figures">{words}</Text>
      </Group>
      <Progress.Root
        size="sm"
        role="img"
        aria-label={`${t("quota.requests")}: ${words}, ${
          parts.map(({ name, count }) => `${t(`quota.parts.${name}`)} ${format.number(count)}`).join(", ")
        }`}
      >
        {parts.map(({ name, count, color }) => (
          <Tooltip key={name} label={`${t(`quota.parts.${name}`)}: ${format.number(count)}`}>
            <Progress.Section
              value={limit === 0 ? 0 : Math.min(100, 100 * count / limit)}
              color={color}
              withAria={false}
            />
          </Tooltip>
        ))}
      </Progress.Root>
    </div>
  );
}

function Meter({ label, value }: { label: string; value: Allowance }) {
  const { t } = useTranslation();
  const format = useFormat();
  const share = value.limit ? Math.min(100, 100 * value.used / value.limit) : 0;
  const words = value.limit === null
    ? t("quota.unlimited", { used: format.number(value.used) })
    : t("quota.used_of", { used: format.number(value.used), limit: format.number(value.limit) });
  return (
    <div>
      <Group justify="space-between">
        <Text size="xs">{label}</Text>
        <Text size="xs" className="figures">{words}</Text>
      </Group>
      <Progress
        value={share}
        color={share >= 100 ? "orange" : "blue"}
        aria-label={`${label}: ${words}`}
        size="sm"
      />
    </div>
  );
}
