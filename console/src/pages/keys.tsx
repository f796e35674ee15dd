import {
  Alert,
  Button,
  Code,
  Group,
  NumberInput,
  PasswordInput,
  SegmentedControl,
  Stack,
  Table,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { KeyOfPool, LimitsAnswer, ModelRow } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";
import { LimitsImportForm } from "./limits_import.tsx";
import { boundOf, CAPABILITIES, LIMITS, ModelForm } from "./model_form.tsx";

/** What is changed with it when a key is used or passed over. */
const TOUCHED = ["keys", "lanes", "models", "overview"];

type Dialog =
  | { kind: "key"; key: KeyOfPool | null }
  | { kind: "model"; model: ModelRow }
  | { kind: "import" };

export default function KeysPage() {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const keys = useQuery({
    queryKey: ["keys"],
    queryFn: ({ signal }) => api.get("/keys", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const models = useQuery({
    queryKey: ["models", "all"],
    queryFn: ({ signal }) => api.get("/models/all", {}, signal),
  });
  const limits = useQuery({
    queryKey: ["models", "limits"],
    queryFn: ({ signal }) => api.get("/limits", {}, signal),
  });
  const close = () => setDialog(null);
  return (
    <Page
      title={t("keys.title")}
      about={t("keys.about")}
      actions={
        <Button
          leftSection={<Plus size={16} aria-hidden />}
          onClick={() => setDialog({ kind: "key", key: null })}
        >
          {t("keys.add")}
        </Button>
      }
    >
      <Loaded query={keys}>
        {({ keys }) =>
          keys.length === 0
            ? <EmptyState title={t("keys.empty")}>{t("keys.empty_how")}</EmptyState>
            : <Keys keys={keys} change={(key) => setDialog({ kind: "key", key })} />}
      </Loaded>
      <Group justify="space-between">
        <Title order={2} size="h4">{t("keys.models")}</Title>
        <Button size="xs" variant="default" onClick={() => setDialog({ kind: "import" })}>
          {t("limits_import.open")}
        </Button>
      </Group>
      <Loaded query={models}>
        {({ models }) => (
          <Models
            models={models}
            overrides={limits.data?.overrides ?? []}
            change={(model) => setDialog({ kind: "model", model })}
          />
        )}
      </Loaded>
      <Window
        opened={dialog?.kind === "key"}
        onClose={close}
        title={dialog?.kind === "key" && dialog.key
          ? t("keys.change_one", { name: dialog.key.alias ?? dialog.key.id })
          : t("keys.add")}
      >
        {dialog?.kind === "key" && (
          <KeyForm
            key={dialog.key?.id}
            of={dialog.key}
            encryption={keys.data?.encryption}
            close={close}
          />
        )}
      </Window>
      <Window
        opened={dialog?.kind === "model"}
        onClose={close}
        title={dialog?.kind === "model" ? t("keys.change_one", { name: dialog.model.model }) : ""}
      >
        {dialog?.kind === "model" && (
          <ModelForm
            of={dialog.model}
            models={models.data?.models ?? []}
            limits={limits.data}
            close={close}
          />
        )}
      </Window>
      <Window opened={dialog?.kind === "import"} onClose={close} title={t("limits_import.open")} size="lg">
        {dialog?.kind === "import" && (
          <LimitsImportForm projects={limits.data?.quota_projects ?? []} close={close} />
        )}
      </Window>
    </Page>
  );
}

function Keys({ keys, change }: { keys: KeyOfPool[]; change: (key: KeyOfPool) => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const test = useTest();
  const turn = useAction(
    ({ id, is_active }: KeyOfPool) =>
      api.post("/keys/change", { id, seen: { is_active }, changes: { is_active: !is_active } }),
    { touches: TOUCHED, failed: t("keys.failed") },
  );
  return (
    <ListFrame minWidth={900}>
      <Table aria-label={t("keys.title")}>
        <Table.Thead>
          <Table.Tr>
            {([
              "alias",
              "state",
              "secret",
              "quota_project",
              "priority",
              "today",
              "checked",
              "actions",
            ] as const)
              .map((name) => <Table.Th key={name}>{t(`keys.${name}`)}</Table.Th>)}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {keys.map((key) => {
            const name = key.alias ?? key.id;
            const isStages = key.env_var_name?.startsWith("stage:") ?? false;
            return (
              <Table.Tr key={key.id}>
                <Table.Th scope="row">
                  {name}
                  {key.notes && <Text size="xs" c="dimmed">{key.notes}</Text>}
                </Table.Th>
                <Table.Td>
                  <StateBadge state={STATES[key.state]} label={t(`keys.states.${key.state}`)} />
                  {key.blocked_reason && <Text size="xs">{key.blocked_reason}</Text>}
                  {key.blocked_models.map((block) => (
                    <Text key={block.model} size="xs">{`${block.model}: ${block.reason}`}</Text>
                  ))}
                </Table.Td>
                <Table.Td>
                  {isStages
                    ? t("keys.of_stage")
                    : key.stored
                    ? t("keys.stored", { last: key.stored.last_four })
                    : <Code>{key.env_var_name ?? "–"}</Code>}
                  {key.stored && (
                    <Text size="xs" c="dimmed">
                      {t("keys.entered", {
                        by: key.stored.entered_by,
                        at: format.time(key.stored.entered_at),
                      })}
                    </Text>
                  )}
                </Table.Td>
                <Table.Td>{key.quota_project ?? t("keys.own_project")}</Table.Td>
                <Table.Td ta="right">{format.number(key.priority)}</Table.Td>
                <Table.Td ta="right">
                  {t("keys.today_of", {
                    requests: format.number(key.today.requests),
                    tokens: format.number(key.today.input_tokens),
                  })}
                </Table.Td>
                <Table.Td>
                  {key.check
                    ? `${t(`keys.outcomes.${key.check.outcome}`)}, ${format.ago(key.check.checked_at)}`
                    : "–"}
                  {key.check?.detail && <Text size="xs">{key.check.detail}</Text>}
                </Table.Td>
                <Table.Td>
                  <Group gap={4}>
                    {!isStages && key.env_var_name && (
                      <Button
                        size="compact-xs"
                        variant="default"
                        aria-label={`${t("keys.test")}: ${name}`}
                        loading={test.isPending && "env_var_name" in test.variables &&
                          test.variables.env_var_name === key.env_var_name}
                        onClick={() => test.mutate({ env_var_name: key.env_var_name! })}
                      >
                        {t("keys.test")}
                      </Button>
                    )}
                    <Button
                      size="compact-xs"
                      variant="default"
                      aria-label={`${t("keys.change")}: ${name}`}
                      onClick={() => change(key)}
                    >
                      {t("keys.change")}
                    </Button>
                    <Button
                      size="compact-xs"
                      variant="default"
                      aria-label={`${t(key.is_active ? "keys.pause" : "keys.resume")}: ${name}`}
                      onClick={() => turn.mutate(key)}
                    >
                      {t(key.is_active ? "keys.pause" : "keys.resume")}
                    </Button>
                  </Group>
                </Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </ListFrame>
  );
}

/** As the badge knows them. */
const STATES = { on: "active", off: "off", blocked: "failed", no_secret_name: "warning" } as const;

function useTest() {
  const { t } = useTranslation();
  const { api } = useConsole();
  return useAction((what: { env_var_name: string } | { api_key: string }) => api.post("/keys/test", what), {
    touches: ["keys"],
    failed: t("keys.test_failed"),
    done: ({ status, reason, models }) => ({
      tone: status === "active" ? "good" : "warning",
      message: [t(`keys.tested.${status}`, { count: models?.length ?? 0 }), reason].filter(Boolean).join(" "),
    }),
  });
}

/** What the form of a key edits, as it is compared with what is there. */
const KEY_FIELDS = ["alias", "env_var_name", "quota_project", "priority", "notes"] as const;
const KEY_LABELS = {
  ...Object.fromEntries(KEY_FIELDS.map((name) => [name, name])),
  env_var_name: "secret",
} as {
  [Name in typeof KEY_FIELDS[number]]: Name extends "env_var_name" ? "secret" : Name;
};

/** Where the key is: the name of an Edge secret, or the secret itself, which is stored. */
type Source = "name" | "secret";

function KeyForm({ of, encryption, close }: {
  of: KeyOfPool | null;
  encryption: { ready: boolean; problem: string | null } | undefined;
  close: () => void;
}) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const isStages = of?.env_var_name?.startsWith("stage:") ?? false;
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(of);
  const [theirs, setTheirs] = useState<KeyOfPool | null>(null);
  const [alias, setAlias] = useState(of?.alias ?? "");
  const [source, setSource] = useState<Source>(of?.stored ? "secret" : "name");
  const [secret, setSecret] = useState(of?.stored ? "" : of?.env_var_name ?? "GOOGLE_API_KEY_1");
  const [apiKey, setApiKey] = useState("");
  const [project, setProject] = useState(of?.quota_project ?? "");
  const [priority, setPriority] = useState<number | string>(of?.priority ?? 100);
  const [notes, setNotes] = useState(of?.notes ?? "");
  const fields = {
    ...(!isStages && { alias: alias.trim(), ...(source === "name" && { env_var_name: secret.trim() }) }),
    quota_project: project.trim() || null,
    priority: Number(priority),
    notes: notes.trim() || null,
  };
  /** Empty: the one that is stored stays. */
  const entered: { api_key: string } | Record<string, never> = source === "secret" && apiKey !== ""
    ? { api_key: apiKey.trim() }
    : {};
  const placeOf = (key: KeyOfPool | null) =>
    key?.stored ? t("keys.stored", { last: key.stored.last_four }) : key?.env_var_name ?? "";
  const test = useTest();
  const save = useAction(() => {
    if (base === null) return api.post("/keys/add", { ...fields, ...entered });
    const seen = Object.fromEntries(KEY_FIELDS.map((name) => [name, base[name]]));
    return api.post("/keys/change", { id: base.id, seen, changes: fields, ...entered });
  }, {
    touches: TOUCHED,
    failed: t("keys.failed"),
    stale: async () => {
      const { keys } = await api.get("/keys");
      setTheirs(keys.find(({ id }) => id === base?.id) ?? null);
    },
  });
  async function submit(event: FormEvent) {
    event.preventDefault();
    await save.mutateAsync(undefined).then(close, () => {});
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        {theirs && (
          <Conflict
            fields={[
              ...KEY_FIELDS.filter((name) => name in fields && name !== "env_var_name").map((name) => ({
                label: t(`keys.${KEY_LABELS[name]}`),
                mine: String((fields as Partial<KeyOfPool>)[name] ?? ""),
                theirs: String(theirs[name] ?? ""),
              })),
              {
                label: t("keys.source"),
                mine: entered.api_key
                  ? t("keys.stored", { last: entered.api_key.slice(-4) })
                  : source === "name" && !isStages
                  ? secret.trim()
                  : placeOf(base),
                theirs: placeOf(theirs),
              },
            ]}
            mine={() => {
              setBase(theirs);
              setTheirs(null);
            }}
            theirs={() => {
              setBase(theirs);
              setTheirs(null);
              setAlias(theirs.alias ?? "");
              setSource(theirs.stored ? "secret" : "name");
              setSecret(theirs.stored ? "" : theirs.env_var_name ?? "");
              setApiKey("");
              setProject(theirs.quota_project ?? "");
              setPriority(theirs.priority ?? 100);
              setNotes(theirs.notes ?? "");
            }}
          />
        )}
        {!isStages && (
          <>
            <TextInput
              label={t("keys.alias")}
              required
              maxLength={100}
              value={alias}
              onChange={(event) => setAlias(event.currentTarget.value)}
            />
            <SegmentedControl
              aria-label={t("keys.source")}
              value={source}
              onChange={(value) => setSource(value as Source)}
              data={(["name", "secret"] as const).map((value) => ({
                value,
                label: t(`keys.sources.${value}`),
              }))}
            />
            {source === "name" && (
              <>
                <TextInput
                  label={t("keys.secret")}
                  description={t("keys.secret_about")}
                  required
                  pattern="[A-Z][A-Z0-9_]{0,127}"
                  value={secret}
                  onChange={(event) => setSecret(event.currentTarget.value)}
                />
                <Alert variant="outline" title={t("keys.how_to_set")}>
                  <Code block tabIndex={0}>{`npx supabase secrets set ${secret}=AIza...`}</Code>
                </Alert>
              </>
            )}
            {source === "secret" && (encryption?.ready === false
              ? <Alert color="red" title={t("providers.no_encryption")}>{encryption.problem}</Alert>
              : (
                <PasswordInput
                  visibilityToggleButtonProps={{ "aria-label": t("show") }}
                  label={t("keys.api_key")}
                  description={of?.stored
                    ? t("providers.key_saved", { last: of.stored.last_four })
                    : t("keys.api_key_about")}
                  required={!of?.stored}
                  autoComplete="off"
                  maxLength={4_096}
                  value={apiKey}
                  onChange={(event) => setApiKey(event.currentTarget.value)}
                />
              ))}
          </>
        )}
        <TextInput
          label={t("keys.quota_project")}
          description={t("keys.quota_project_about")}
          maxLength={200}
          value={project}
          onChange={(event) => setProject(event.currentTarget.value)}
        />
        <NumberInput
          label={t("keys.priority")}
          description={t("keys.priority_about")}
          min={0}
          max={1_000_000}
          allowDecimal={false}
          required
          value={priority}
          onChange={setPriority}
        />
        <TextInput
          label={t("keys.notes")}
          maxLength={2_000}
          value={notes}
          onChange={(event) => setNotes(event.currentTarget.value)}
        />
        {test.data && (
          <Text size="sm" role="status">
            {t(`keys.tested.${test.data.status}`, { count: test.data.models?.length ?? 0 })}
          </Text>
        )}
        <Group>
          {!isStages && (
            <Button
              variant="default"
              loading={test.isPending}
              disabled={source === "secret" && apiKey === "" && !of?.stored}
              onClick={() =>
                test.mutate(
                  "api_key" in entered
                    ? { api_key: apiKey.trim() }
                    : { env_var_name: source === "name" ? secret.trim() : of!.env_var_name! },
                )}
            >
              {t("keys.test")}
            </Button>
          )}
          <Button
            type="submit"
            loading={save.isPending}
            disabled={source === "secret" && encryption?.ready === false && !of?.stored}
          >
            {of === null ? t("keys.add") : t("save")}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function Models({ models, overrides, change }: {
  models: ModelRow[];
  overrides: LimitsAnswer["overrides"];
  change: (model: ModelRow) => void;
}) {
  const { t } = useTranslation();
  const format = useFormat();
  const limit = (value: number | null) => boundOf(value, format.number);
  return (
    <ListFrame minWidth={800}>
      <Table aria-label={t("keys.models")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("requests.model")}</Table.Th>
            {LIMITS.map((name) => <Table.Th key={name} ta="right">{t(`keys.${name}`)}</Table.Th>)}
            <Table.Th>{t("keys.can")}</Table.Th>
            <Table.Th>{t("keys.overrides")}</Table.Th>
            <Table.Th>{t("keys.actions")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {models.map((model) => (
            <Table.Tr key={model.model}>
              <Table.Th scope="row">
                {model.model}
                {!model.is_active && <Text size="xs">{t("keys.states.off")}</Text>}
                {model.replaced_by && <Text size="xs">{`→ ${model.replaced_by}`}</Text>}
              </Table.Th>
              {LIMITS.map((name) => <Table.Td key={name} ta="right">{limit(model[name])}</Table.Td>)}
              <Table.Td>
                {CAPABILITIES.filter((name) => model[name]).map((name) => t(`keys.${name}`)).join(", ")}
              </Table.Td>
              <Table.Td>
                {overrides.filter((override) => override.model === model.model).map((override) => (
                  <Text key={override.quota_project} size="xs">
                    {`${override.quota_project}: ${
                      LIMITS.map((name) => limit(override[name])).join(" / ")
                    }`}
                  </Text>
                ))}
              </Table.Td>
              <Table.Td>
                <Button
                  size="compact-xs"
                  variant="default"
                  aria-label={`${t("keys.change")}: ${model.model}`}
                  onClick={() => change(model)}
                >
                  {t("keys.change")}
                </Button>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </ListFrame>
  );
}
