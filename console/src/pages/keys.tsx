import { Button, Code, Group, Stack, Table, Text, TextInput, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import type { KeyOfPool, LimitsAnswer, ModelRow } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { blockReason } from "../parts/block_words.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";
import { KeyForm, TOUCHED, useTest } from "./key_form.tsx";
import { LimitsImportForm } from "./limits_import.tsx";
import { boundOf, CAPABILITIES, LIMITS, ModelForm } from "./model_form.tsx";

type Dialog =
  | { kind: "key"; key: KeyOfPool | null }
  | { kind: "remove"; key: KeyOfPool }
  | { kind: "model"; model: ModelRow }
  | { kind: "new_model" }
  | { kind: "import" };

/** @param given by the address: `key` and an id, or `model` and its name, is what is changed */
export default function KeysPage(
  { given }: { given: { what?: string | undefined; name?: string | undefined } },
) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [, navigate] = useLocation();
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
  useEffect(() => {
    if (given.name === undefined || dialog !== null) return;
    const name = decodeURIComponent(given.name);
    const key = given.what === "key" && keys.data?.keys.find(({ id }) => id === name);
    const model = given.what === "model" && limits.data &&
      models.data?.models.find(({ model }) => model === name);
    if (key) setDialog({ kind: "key", key });
    if (model) setDialog({ kind: "model", model });
  }, [given.what, given.name, keys.data, models.data, limits.data]);
  const close = () => {
    setDialog(null);
    if (given.name !== undefined) navigate("/keys", { replace: true });
  };
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
          keys.length === 0 ? <EmptyState title={t("keys.empty")}>{t("keys.empty_how")}</EmptyState> : (
            <Keys
              keys={keys}
              change={(key) => setDialog({ kind: "key", key })}
              remove={(key) => setDialog({ kind: "remove", key })}
            />
          )}
      </Loaded>
      <Group justify="space-between">
        <Title order={2} size="h4">{t("keys.models")}</Title>
        <Group gap="xs">
          <Button size="xs" variant="default" onClick={() => setDialog({ kind: "new_model" })}>
            {t("keys.add_model")}
          </Button>
          <Button size="xs" variant="default" onClick={() => setDialog({ kind: "import" })}>
            {t("limits_import.open")}
          </Button>
        </Group>
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
      <Window opened={dialog?.kind === "remove"} onClose={close} title={t("keys.remove")}>
        {dialog?.kind === "remove" && <Removal of={dialog.key} close={close} />}
      </Window>
      <Window opened={dialog?.kind === "new_model"} onClose={close} title={t("keys.add_model")}>
        {dialog?.kind === "new_model" && (
          <NewModel
            known={models.data?.models ?? []}
            added={(model) => {
              setDialog(null);
              navigate(`/keys/model/${encodeURIComponent(model)}`);
            }}
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

function Keys({ keys, change, remove }: {
  keys: KeyOfPool[];
  change: (key: KeyOfPool) => void;
  remove: (key: KeyOfPool) => void;
}) {
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
                  {key.blocked_reason && <Text size="xs">{blockReason(key.blocked_reason, t)}</Text>}
                  {key.blocked_models.map((block) => (
                    <Text key={block.model} size="xs">
                      {`${block.model}: ${blockReason(block.reason, t)}`}
                    </Text>
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
                    ? `${t(`keys.outcomes.${outcomeOf(key, key.check.outcome)}`)}, ${
                      format.ago(key.check.checked_at)
                    }`
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
                    <Button
                      component={Link}
                      href={`/requests?${new URLSearchParams({ key: name, outcome: "failed" })}`}
                      size="compact-xs"
                      variant="default"
                      aria-label={`${t("keys.failures")}: ${name}`}
                    >
                      {t("keys.failures")}
                    </Button>
                    {!isStages && (
                      <Button
                        size="compact-xs"
                        variant="default"
                        aria-label={`${t("keys.remove")}: ${name}`}
                        onClick={() => remove(key)}
                      >
                        {t("keys.remove")}
                      </Button>
                    )}
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

/** By its name; what it may and can is then set in its form. */
function NewModel({ known, added }: { known: ModelRow[]; added: (model: string) => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [name, setName] = useState("");
  const model = name.trim().replace(/^models\//, "");
  const isKnown = known.some((one) => one.model === model);
  const add = useAction(
    () => api.post("/limits/set", { changes: [{ model }], add_models: true }),
    { touches: ["lanes", "models", "overview"], failed: t("keys.failed") },
  );
  async function submit(event: FormEvent) {
    event.preventDefault();
    await add.mutateAsync(undefined).then(() => added(model), () => {});
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        <TextInput
          label={t("keys.model_name")}
          description={t("keys.model_name_about")}
          data-autofocus
          required
          maxLength={128}
          value={name}
          error={isKnown && t("keys.model_known")}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Button type="submit" disabled={model === "" || isKnown} loading={add.isPending} w="max-content">
          {t("keys.add_model")}
        </Button>
      </Stack>
    </form>
  );
}

function Removal({ of, close }: { of: KeyOfPool; close: () => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const remove = useAction(() => api.post("/keys/remove", { id: of.id }), {
    touches: TOUCHED,
    failed: t("keys.failed"),
  });
  return (
    <Stack>
      <Text>{t("keys.remove_about", { name: of.alias ?? of.id })}</Text>
      <Group justify="flex-end">
        <Button variant="default" onClick={close}>{t("cancel")}</Button>
        <Button
          color="red.8"
          loading={remove.isPending}
          onClick={() => remove.mutate(undefined, { onSuccess: close })}
        >
          {t("keys.remove")}
        </Button>
      </Group>
    </Stack>
  );
}

/** As the badge knows them. */
const STATES = { on: "active", off: "off", blocked: "failed", no_secret_name: "warning" } as const;

/** Of a secret that is stored no name is missing: it cannot be decrypted. */
const outcomeOf = (key: KeyOfPool, outcome: NonNullable<KeyOfPool["check"]>["outcome"]) =>
  outcome === "secret_missing" && key.env_var_name?.includes(":") ? "unreadable" : outcome;

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
