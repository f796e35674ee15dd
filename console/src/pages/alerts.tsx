import { Button, Card, Code, Group, SegmentedControl, Stack, Text, Title } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import type { Alert, OperationRun } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { type Fix, FIXES } from "../parts/alert_fixes.ts";
import { adviceOf, titleOf } from "../parts/alert_words.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

/** Of the history there may be thousands. */
const PAGE = 50;

export default function AlertsPage() {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [state, setState] = useState<"open" | "closed">("open");
  const alerts = useInfiniteQuery({
    queryKey: ["alerts", "pages", state],
    queryFn: ({ signal, pageParam }) => api.get("/alerts", { state, before: pageParam, limit: PAGE }, signal),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next_before,
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
        {({ pages }) => (
          <Stack>
            {pages[0]?.alerts.length === 0 && (
              <EmptyState title={t(`alerts.none_${state}`)}>{t("alerts.none_how")}</EmptyState>
            )}
            {pages.flatMap((page) => page.alerts).map((alert) => (
              <One
                key={alert.id}
                alert={alert}
                close={() => close.mutate(alert.id)}
                acknowledge={() => acknowledge.mutate(alert.id)}
              />
            ))}
          </Stack>
        )}
      </Loaded>
      {alerts.hasNextPage && (
        <Group justify="center">
          <Button
            variant="default"
            loading={alerts.isFetchingNextPage}
            onClick={() => alerts.fetchNextPage()}
          >
            {t("more")}
          </Button>
        </Group>
      )}
    </Page>
  );
}

function One({ alert, close, acknowledge }: { alert: Alert; close: () => void; acknowledge: () => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const name = `${alert.kind} ${alert.subject ?? ""}`;
  const advice = adviceOf(alert, t);
  return (
    <Card withBorder component="article" aria-label={name}>
      <Group justify="space-between" align="flex-start">
        <Stack gap={4} style={{ flex: 1, minWidth: 0 }}>
          <Group gap="xs">
            <StateBadge state={alert.severity} label={t(`alerts.severity.${alert.severity}`)} />
            <Title order={2} size="h5">{titleOf(alert, t)}</Title>
          </Group>
          <Text size="xs" c="dimmed">{`${alert.kind}: ${alert.subject ?? "–"}`}</Text>
          <Text size="sm">{alert.message}</Text>
          {advice && (
            <Text size="sm">
              <Text span fw={600}>{t("alerts.advice")}</Text>
              {` ${advice}`}
            </Text>
          )}
          {!alert.closed_at && (
            <Group gap="xs">
              {(FIXES[alert.kind]?.(alert) ?? []).map((fix, at) => (
                <FixButton key={at} fix={fix} variant={at === 0 ? "filled" : "default"} />
              ))}
            </Group>
          )}
          <Text size="xs" c="dimmed">
            {t("alerts.since", { at: format.time(alert.opened_at), ago: format.ago(alert.opened_at) })}
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
        {!alert.closed_at && (
          <Group gap="xs">
            {!alert.acknowledged_at && (
              <Button
                size="xs"
                variant="default"
                aria-label={`${t("alerts.acknowledge")}: ${name}`}
                onClick={acknowledge}
              >
                {t("alerts.acknowledge")}
              </Button>
            )}
            <Button size="xs" variant="default" aria-label={`${t("alerts.close")}: ${name}`} onClick={close}>
              {t("alerts.close")}
            </Button>
          </Group>
        )}
      </Group>
    </Card>
  );
}

function FixButton({ fix, variant }: { fix: Fix; variant: "filled" | "default" }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const put = useAction(
    () =>
      api.post(fix.kind === "do" ? fix.path : "", fix.kind === "do" ? fix.body : {}) as Promise<
        Partial<OperationRun>
      >,
    {
      touches: TOUCHED,
      failed: t("alerts.fix_failed"),
      done: ({ status, error }) =>
        status === undefined ? { message: t("alerts.fix_done") } : {
          tone: status === "succeeded" ? "good" : "warning",
          message: t(`alerts.ran.${status}`, { error }),
        },
    },
  );
  if (fix.kind === "page") {
    return (
      <Button
        component={Link}
        href={`/${fix.page}${fix.below ?? ""}`}
        size="xs"
        variant={variant}
      >
        {t("alerts.where", { page: t(`${fix.page}.title`) })}
      </Button>
    );
  }
  if (fix.kind === "sql") {
    return (
      <details>
        <summary>{t("alerts.sql")}</summary>
        <Code block tabIndex={0}>{fix.statement}</Code>
      </details>
    );
  }
  return (
    <Button size="xs" variant={variant} loading={put.isPending} onClick={() => put.mutate(undefined)}>
      {t(`alerts.fix.${fix.words}`, { operation: fix.body.operation })}
    </Button>
  );
}

/** What a button here may change. */
const TOUCHED = ["alerts", "keys", "lanes", "overview", "webhooks", "dead-letters", "storage"];

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
      <summary>{t("alerts.sent_to")}</summary>
      {asked && (
        <Loaded query={detail}>
          {({ alert }) => (
            <Stack gap={2}>
              {alert.deliveries.length === 0 && <Text size="xs">{t("alerts.sent_nobody")}</Text>}
              {alert.deliveries.map((one) => (
                <Text key={`${one.channel} ${one.event}`} size="xs">
                  {[
                    one.channel,
                    t(one.event === "closed" ? "alerts.sent_end" : "alerts.sent_begin"),
                    one.sent_at ? format.time(one.sent_at) : t("alerts.not_sent", { count: one.attempts }),
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
