import { Button, Card, Group, SegmentedControl, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

/** On which page a person sees to it. */
const WHERE: Record<string, "providers" | "quota" | "requests" | "jobs" | "storage" | "keys" | "vision"> = {
  key_disabled: "keys",
  secret_missing: "keys",
  model_unavailable: "keys",
  vision_budget_near: "vision",
  vision_budget_used_up: "vision",
  media_missing: "storage",
  provider_key_invalid: "providers",
  model_vanished: "providers",
  lane_exhausted: "quota",
  refusals_high: "quota",
  upstream_errors: "requests",
  dead_letters: "jobs",
  webhook_gone: "jobs",
  storage_emergency_cleanup: "storage",
  storage_full: "storage",
};

export default function AlertsPage() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [state, setState] = useState<"open" | "closed">("open");
  const alerts = useQuery({
    queryKey: ["alerts", state],
    queryFn: ({ signal }) => api.get("/alerts", { state }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const close = useAction((id: number) => api.post("/alerts/close", { id }), {
    touches: ["alerts"],
    failed: t("alerts.close_failed"),
  });
  const acknowledge = useAction((id: number) => api.post("/alerts/acknowledge", { id }), {
    touches: ["alerts"],
    failed: t("alerts.acknowledge_failed"),
  });
  const test = useAction(() => api.post("/alerts/test"), {
    touches: [],
    failed: t("alerts.test_failed"),
    done: ({ channels, problems }) => {
      const failed = channels.filter(({ error }) => error !== null);
      const words = [
        ...problems,
        ...channels.map(({ name, error }) => `${name}: ${error ?? t("alerts.test_arrived")}`),
      ];
      return {
        tone: failed.length + problems.length > 0 || channels.length === 0 ? "warning" : "good",
        message: words.join("; ") || t("alerts.no_channels"),
      };
    },
  });
  return (
    <Page
      title={t("alerts.title")}
      about={t("alerts.about")}
      actions={
        <Group>
          <Button variant="default" loading={test.isPending} onClick={() => test.mutate(undefined)}>
            {t("alerts.test")}
          </Button>
          <SegmentedControl
            aria-label={t("alerts.which")}
            value={state}
            onChange={(value) => setState(value as "open" | "closed")}
            data={(["open", "closed"] as const).map((value) => ({ value, label: t(`alerts.${value}`) }))}
          />
        </Group>
      }
    >
      <Loaded query={alerts}>
        {({ alerts }) =>
          alerts.length === 0
            ? <EmptyState title={t(`alerts.none_${state}`)}>{t("alerts.none_how")}</EmptyState>
            : (
              <Stack>
                {alerts.map((alert) => (
                  <Card
                    key={alert.id}
                    withBorder
                    component="article"
                    aria-label={`${alert.kind} ${alert.subject ?? ""}`}
                  >
                    <Group justify="space-between" align="flex-start">
                      <Stack gap={4}>
                        <Group gap="xs">
                          <StateBadge state={alert.severity} label={t(`alerts.severity.${alert.severity}`)} />
                          <Title order={2} size="h5">{alert.title}</Title>
                        </Group>
                        <Text size="xs" c="dimmed">{`${alert.kind}: ${alert.subject ?? "–"}`}</Text>
                        <Text size="sm">{alert.message}</Text>
                        {alert.advice && (
                          <Text size="sm">
                            <Text span fw={600}>{t("alerts.advice")}</Text>
                            {` ${alert.advice}`}
                          </Text>
                        )}
                        {!alert.closed_at && WHERE[alert.kind] && (
                          <Button
                            component={Link}
                            href={`/${WHERE[alert.kind]}`}
                            size="xs"
                            w="max-content"
                          >
                            {t("alerts.where", { page: t(`${WHERE[alert.kind]!}.title`) })}
                          </Button>
                        )}
                        <Text size="xs" c="dimmed">
                          {t("alerts.since", {
                            at: format.time(alert.opened_at),
                            ago: format.ago(alert.opened_at),
                          })}
                          {alert.closed_at && ` · ${t("alerts.until", { at: format.time(alert.closed_at) })}`}
                        </Text>
                        {alert.acknowledged_at && (
                          <Text size="xs">
                            {t("alerts.acknowledged", {
                              who: alert.acknowledged_by,
                              ago: format.ago(alert.acknowledged_at),
                            })}
                          </Text>
                        )}
                        <Deliveries id={alert.id} />
                      </Stack>
                      {!alert.closed_at && !alert.acknowledged_at && (
                        <Button
                          size="xs"
                          variant="default"
                          aria-label={`${t("alerts.acknowledge")}: ${alert.kind} ${alert.subject ?? ""}`}
                          onClick={() => acknowledge.mutate(alert.id)}
                        >
                          {t("alerts.acknowledge")}
                        </Button>
                      )}
                      {!alert.closed_at && (
                        <Button
                          size="xs"
                          variant="default"
                          aria-label={`${t("alerts.close")}: ${alert.kind} ${alert.subject ?? ""}`}
                          onClick={() => close.mutate(alert.id)}
                        >
                          {t("alerts.close")}
                        </Button>
                      )}
                    </Group>
                  </Card>
                ))}
              </Stack>
            )}
      </Loaded>
    </Page>
  );
}

/** To whom it was told, once somebody asks. */
function Deliveries({ id }: { id: number }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [asked, setAsked] = useState(false);
  const detail = useQuery({
    queryKey: ["alerts", "detail", id],
    queryFn: ({ signal }) => api.get("/alerts/detail", { id }, signal),
    enabled: asked,
  });
  return (
    <details onToggle={(event) => event.currentTarget.open && setAsked(true)}>
      <summary>{t("alerts.told")}</summary>
      {asked && (
        <Loaded query={detail}>
          {({ alert }) => (
            <Stack gap={2}>
              {alert.deliveries.length === 0 && <Text size="xs">{t("alerts.told_nobody")}</Text>}
              {alert.deliveries.map((one) => (
                <Text key={`${one.channel} ${one.event}`} size="xs">
                  {[
                    one.channel,
                    t(one.event === "closed" ? "alerts.told_end" : "alerts.told_begin"),
                    one.told_at ? format.time(one.told_at) : t("alerts.not_told", { count: one.attempts }),
                    one.last_error,
                  ].filter(Boolean).join(" · ")}
                </Text>
              ))}
            </Stack>
          )}
        </Loaded>
      )}
    </details>
  );
}
