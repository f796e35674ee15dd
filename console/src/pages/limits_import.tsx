import { Alert, Button, Checkbox, Group, List, Select, Stack, Table, Text, Textarea } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { LimitsImport } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useAction } from "../parts/mutation.ts";
import { ListFrame } from "../parts/list_frame.tsx";
import { boundOf, LIMITS } from "./model_form.tsx";

/** A table of limits, as it was copied: what it would change is shown, and then changed, all of it or nothing. */
export function LimitsImportForm({ projects, close }: { projects: string[]; close: () => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [text, setText] = useState("");
  const [project, setProject] = useState<string | null>(null);
  const [addModels, setAddModels] = useState(false);
  const [plan, setPlan] = useState<LimitsImport | null>(null);
  const asked = { text, quota_project: project, add_models: addModels && project === null };
  const look = useAction(() => api.post("/limits/import", asked), {
    touches: [],
    failed: t("limits_import.failed"),
  });
  const save = useAction(() => api.post("/limits/import", { ...asked, planned: plan?.changes }), {
    touches: ["lanes", "models", "overview"],
    done: ({ changes }) => ({ message: t("limits_import.saved", { count: changes.length }) }),
    failed: t("keys.failed"),
    // What somebody else has changed meanwhile is in the comparison that is shown now.
    stale: () => void look.mutateAsync(undefined).then(setPlan, () => {}),
  });
  /** What was compared was another table. */
  const edited = <Value,>(set: (value: Value) => void) => (value: Value) => {
    set(value);
    setPlan(null);
  };
  return (
    <Stack>
      <Textarea
        label={t("limits_import.table")}
        description={t("limits_import.about")}
        autosize
        minRows={4}
        maxRows={12}
        maxLength={200_000}
        value={text}
        onChange={(event) => edited(setText)(event.currentTarget.value)}
      />
      <Select
        label={t("keys.limits_of")}
        data={projects}
        placeholder={t("keys.all_projects")}
        clearable
        clearButtonProps={{ "aria-label": t("clear") }}
        value={project}
        onChange={edited(setProject)}
      />
      {project === null && (
        <Checkbox
          label={t("limits_import.add_models")}
          checked={addModels}
          onChange={(event) => edited(setAddModels)(event.currentTarget.checked)}
        />
      )}
      {plan && <Plan plan={plan} stale={look.isPending} />}
      <Group>
        <Button
          variant={plan ? "default" : "filled"}
          disabled={text.trim() === ""}
          loading={look.isPending}
          onClick={() => void look.mutateAsync(undefined).then(setPlan, () => {})}
        >
          {t("limits_import.compare")}
        </Button>
        {plan && plan.changes.length > 0 && plan.problems.length === 0 && (
          <Button
            loading={save.isPending}
            onClick={() => void save.mutateAsync(undefined).then(close, () => {})}
          >
            {t("limits_import.save", { count: plan.changes.length })}
          </Button>
        )}
      </Group>
    </Stack>
  );
}

function Plan({ plan, stale }: { plan: LimitsImport; stale: boolean }) {
  const { t } = useTranslation();
  const format = useFormat();
  const limit = (value: number | null) => boundOf(value, format.number);
  return (
    <Stack gap="xs" aria-busy={stale} role="status">
      {plan.problems.length > 0 && (
        <Alert color="red" variant="outline" title={t("limits_import.problems")}>
          <List size="sm">
            {plan.problems.map(({ line, message }) => (
              <List.Item key={line + message}>{t("limits_import.line", { line, message })}</List.Item>
            ))}
          </List>
        </Alert>
      )}
      {plan.changes.length > 0 && (
        <ListFrame minWidth={420}>
          <Table aria-label={t("limits_import.changes")}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t("requests.model")}</Table.Th>
                {LIMITS.map((name) => <Table.Th key={name} ta="right">{t(`keys.${name}`)}</Table.Th>)}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {plan.changes.map(({ model, before, after }) => (
                <Table.Tr key={model}>
                  <Table.Th scope="row">
                    {model}
                    {before === null && <Text size="xs">{t("limits_import.new")}</Text>}
                  </Table.Th>
                  {LIMITS.map((name) => (
                    <Table.Td key={name} ta="right">
                      {before === null || before[name] === after[name]
                        ? limit(after[name])
                        : `${limit(before[name])} → ${limit(after[name])}`}
                    </Table.Td>
                  ))}
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </ListFrame>
      )}
      {plan.changes.length === 0 && plan.problems.length === 0 && (
        <Text size="sm">{t("limits_import.none")}</Text>
      )}
      {plan.unchanged.length > 0 && (
        <Text size="sm" c="dimmed">
          {t("limits_import.unchanged", { models: plan.unchanged.join(", ") })}
        </Text>
      )}
      {plan.unknown.length > 0 && (
        <Text size="sm">
          {t("limits_import.unknown", { models: plan.unknown.map(({ name }) => name).join(", ") })}
        </Text>
      )}
    </Stack>
  );
}
