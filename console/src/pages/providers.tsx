import {
  Alert,
  Button,
  Card,
  Drawer,
  Group,
  PasswordInput,
  Select,
  SimpleGrid,
  Stack,
  Text,
  TextInput,
  Timeline,
  Title,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { History, RefreshCw } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import type { HistoryEvent, Stage } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { EVERY_MS } from "../queries.ts";

const ICON = { size: 16, "aria-hidden": true } as const;

/** Settings that a kind of provider takes besides key and model; docs/providers.md says what each means. */
const SETTINGS: Record<string, { name: string; required?: boolean }[]> = {
  openai: [{ name: "base_url" }],
  yandexgpt: [{ name: "folder_id", required: true }],
  gigachat: [{ name: "scope" }],
  speechkit: [{ name: "folder_id" }, { name: "voice" }],
  suno: [{ name: "base_url" }],
};

export default function ProvidersPage() {
  const { t } = useTranslation();
  const { api } = useConsole();
  const providers = useQuery({
    queryKey: ["providers"],
    queryFn: ({ signal }) => api.get("/providers", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  return (
    <Page title={t("providers.title")} about={t("providers.about")}>
      <Loaded query={providers}>
        {({ stages, encryption }) => (
          <>
            {!encryption.ready && (
              <Alert color="yellow" variant="outline" title={t("providers.no_encryption")}>
                {encryption.problem}
              </Alert>
            )}
            {stages.length === 0
              ? <EmptyState title={t("providers.empty")}>{t("providers.empty_how")}</EmptyState>
              : (
                <SimpleGrid cols={{ base: 1, lg: 2 }}>
                  {stages.map((stage) => (
                    <StageCard key={stage.stage_type} stage={stage} mayEnterKeys={encryption.ready} />
                  ))}
                </SimpleGrid>
              )}
          </>
        )}
      </Loaded>
    </Page>
  );
}

function StageCard({ stage, mayEnterKeys }: { stage: Stage; mayEnterKeys: boolean }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [historyOpen, history] = useDisclosure();
  const { config, stage_type } = stage;
  const refresh = useAction(() => api.post("/providers/refresh", { stage_type }), {
    touches: ["providers"],
    done: t("providers.refreshed", { stage: stage_type }),
    failed: t("providers.refresh_failed"),
  });
  return (
    <Card withBorder component="section" aria-label={stage_type} data-stage={stage_type}>
      <Stack>
        <Group justify="space-between" align="flex-start">
          <div>
            <Title order={2} size="h4">{stage_type}</Title>
            <Text size="xs" c="dimmed">{stage.description}</Text>
          </div>
          {config && <StateBadge state={config.status} label={t(`providers.status.${config.status}`)} />}
        </Group>
        {config?.status_reason && (
          <Alert color={config.status === "active" ? "gray" : "yellow"} variant="outline" p="xs">
            {config.status_reason}
          </Alert>
        )}
        {!config && (
          <Text size="sm">
            {stage.environment
              ? t("providers.from_environment", {
                ...stage.environment,
                variable: stage.environment.variable ?? t("providers.keys_of_pool"),
              })
              : t("providers.not_configured")}
          </Text>
        )}
        <StageForm stage={stage} mayEnterKeys={mayEnterKeys} />
        <Group justify="space-between">
          <Text size="xs" c="dimmed">
            {config
              ? t("providers.models_age", {
                count: config.models.length,
                ago: format.ago(config.models_updated_at),
              })
              : null}
          </Text>
          <Group gap="xs">
            {config && (
              <Button
                size="xs"
                variant="default"
                leftSection={<RefreshCw {...ICON} />}
                loading={refresh.isPending}
                onClick={() => refresh.mutate(undefined)}
              >
                {t("providers.refresh")}
              </Button>
            )}
            <Button size="xs" variant="default" leftSection={<History {...ICON} />} onClick={history.open}>
              {t("providers.history")}
            </Button>
          </Group>
        </Group>
      </Stack>
      <Drawer
        opened={historyOpen}
        onClose={history.close}
        position="right"
        title={t("providers.history_of", { stage: stage_type })}
        closeButtonProps={{ "aria-label": t("close") }}
      >
        {historyOpen && <StageHistory stageType={stage_type} />}
      </Drawer>
    </Card>
  );
}

interface Draft {
  kind: string;
  model: string | null;
  key: string;
  settings: Record<string, string>;
}

/** The fields that a person edits, as they are there. */
function seenOf({ config }: Stage) {
  return {
    provider_kind: config?.provider_kind ?? null,
    model: config?.model ?? null,
    key_last_four: config?.key_last_four ?? null,
    settings: config?.settings ?? null,
  };
}

function draftOf({ config, environment, provider_kinds }: Stage): Draft {
  return {
    kind: config?.provider_kind ?? environment?.provider_kind ?? provider_kinds[0]?.kind ?? "",
    model: config?.model ?? null,
    key: "",
    settings: { ...config?.settings },
  };
}

function StageForm({ stage, mayEnterKeys }: { stage: Stage; mayEnterKeys: boolean }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const { config, stage_type } = stage;
  const [draft, setDraft] = useState(() => draftOf(stage));
  /** What the draft was made from. */
  const [base, setBase] = useState(stage);
  // The list may be older than what this form has just saved.
  const isNewer = config !== null &&
    (base.config === null || Date.parse(config.updated_at) > Date.parse(base.config.updated_at));
  const changedMeanwhile = isNewer && JSON.stringify(seenOf(base)) !== JSON.stringify(seenOf(stage));
  const isTouched = JSON.stringify(draft) !== JSON.stringify(draftOf(base));
  const begin = (from: Stage) => {
    setBase(from);
    setDraft(draftOf(from));
  };
  useEffect(() => {
    // What somebody else saved is shown where nothing has been typed; else both are.
    if (changedMeanwhile && !isTouched) begin(stage);
  }, [changedMeanwhile, isTouched]);

  const save = useAction(async (input: Draft) => {
    const answer = await api.post("/providers/update", {
      stage_type,
      provider_kind: input.kind,
      ...(input.model && { model: input.model }),
      ...(input.key && { api_key: input.key }),
      settings: Object.fromEntries(Object.entries(input.settings).filter(([, value]) => value !== "")),
      seen: seenOf(base),
    });
    // At once: what is typed after the answer is another change.
    begin(answer.stage);
    return answer;
  }, {
    touches: ["providers", "history", "alerts"],
    done: ({ stage: { config: saved } }) =>
      saved === null || saved.status === "active"
        ? { message: t("providers.saved", { stage: stage_type }) }
        : {
          tone: "warning",
          message: t("providers.saved_but", {
            stage: stage_type,
            status: t(`providers.status.${saved.status}`),
            reason: saved.status_reason ?? "",
          }),
        },
    failed: t("providers.save_failed"),
  });

  const sameKind = config?.provider_kind === draft.kind;
  const kind = stage.provider_kinds.find((known) => known.kind === draft.kind);
  const models = sameKind ? [...new Set([...(draft.model ? [draft.model] : []), ...config.models])] : [];

  function submit(event: FormEvent) {
    event.preventDefault();
    save.mutate(draft);
  }

  return (
    <form onSubmit={submit} aria-label={t("providers.form", { stage: stage_type })}>
      <Stack gap="sm">
        {changedMeanwhile && isTouched && (
          <Conflict
            fields={[
              { label: t("providers.provider"), mine: draft.kind, theirs: config?.provider_kind ?? "" },
              { label: t("providers.model"), mine: draft.model ?? "", theirs: config?.model ?? "" },
              {
                label: t("providers.key"),
                mine: draft.key ? "••••" : base.config?.key_last_four ?? "",
                theirs: config?.key_last_four ?? "",
              },
              ...[...new Set([...Object.keys(draft.settings), ...Object.keys(config?.settings ?? {})])].map((
                name,
              ) => ({
                label: name,
                mine: draft.settings[name] ?? "",
                theirs: config?.settings[name] ?? "",
              })),
            ]}
            mine={() => setBase(stage)}
            theirs={() => begin(stage)}
          />
        )}
        <Select
          label={t("providers.provider")}
          data={stage.provider_kinds.map(({ kind, title }) => ({ value: kind, label: title }))}
          value={draft.kind}
          allowDeselect={false}
          onChange={(value) =>
            value && setDraft({
              kind: value,
              model: value === config?.provider_kind ? config.model : null,
              key: "",
              settings: value === config?.provider_kind ? { ...config.settings } : {},
            })}
        />
        {(SETTINGS[draft.kind] ?? []).map(({ name, required }) => (
          <TextInput
            key={name}
            label={name}
            required={required}
            value={draft.settings[name] ?? ""}
            onChange={(event) => {
              const value = event.currentTarget.value;
              setDraft((now) => ({ ...now, settings: { ...now.settings, [name]: value } }));
            }}
          />
        ))}
        <PasswordInput
          visibilityToggleButtonProps={{ "aria-label": t("show") }}
          label={t("providers.key")}
          description={sameKind && config.key_last_four
            ? t("providers.key_saved", { last: config.key_last_four })
            : kind?.shares_keys
            ? t("providers.key_shared")
            : t("providers.key_needed")}
          placeholder={sameKind && config.key_last_four ? `•••• ${config.key_last_four}` : ""}
          autoComplete="off"
          disabled={!mayEnterKeys}
          value={draft.key}
          onChange={(event) => {
            const key = event.currentTarget.value;
            setDraft((now) => ({ ...now, key }));
          }}
        />
        <Select
          label={t("providers.model")}
          description={models.length === 0 ? t("providers.models_after_save") : undefined}
          data={models}
          searchable={models.length > 8}
          disabled={models.length === 0}
          value={draft.model}
          allowDeselect={false}
          onChange={(model) => setDraft((now) => ({ ...now, model }))}
          nothingFoundMessage={t("nothing_found")}
        />
        <Group justify="flex-end">
          <Button type="submit" loading={save.isPending}>{t("save")}</Button>
        </Group>
      </Stack>
    </form>
  );
}

function StageHistory({ stageType }: { stageType: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const history = useQuery({
    queryKey: ["history", stageType],
    queryFn: ({ signal }) =>
      api.get(
        "/providers/history",
        { stage_type: stageType, limit: 50 },
        signal,
      ),
  });
  return (
    <Loaded query={history}>
      {({ history }) =>
        history.length === 0
          ? <EmptyState title={t("providers.history_empty")} />
          : (
            <Timeline bulletSize={14} lineWidth={2}>
              {history.map((event) => (
                <Timeline.Item key={event.id} title={t(`providers.event.${event.event}`)}>
                  <Text size="sm">{describe(event)}</Text>
                  {event.after?.status_reason && <Text size="xs">{event.after.status_reason}</Text>}
                  <Text size="xs" c="dimmed">
                    {`${format.time(event.at)} · ${event.actor ?? t("providers.by_itself")}`}
                  </Text>
                </Timeline.Item>
              ))}
            </Timeline>
          )}
    </Loaded>
  );
}

/** What changed, as before → after. */
function describe({ before, after }: HistoryEvent): string {
  const side = (value: HistoryEvent["before"]) =>
    value ? [value.provider_kind, value.model, value.key_last_four && `•••• ${value.key_last_four}`] : [];
  const from = side(before);
  const to = side(after);
  if (from.length === 0 || to.length === 0) return [...from, ...to].filter(Boolean).join(" · ");
  return to.map((value, index) => value === from[index] ? value : `${from[index] || "–"} → ${value || "–"}`)
    .filter(Boolean).join(" · ");
}
