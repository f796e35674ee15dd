import { Button, Checkbox, Fieldset, Group, NumberInput, Select, SimpleGrid, Stack } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { LimitsAnswer, ModelRow } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict, sideBySide } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";

export const LIMITS = ["rpm", "tpm", "rpd"] as const;
export const CAPABILITIES = [
  "supports_system",
  "supports_json",
  "supports_tools",
  "supports_thinking",
] as const;
/** How the minute and the day are shared between the classes: of all quota projects alike. */
export const SHARES = [
  "batch_floor",
  "interactive_reserve",
  "interactive_reserve_day",
  "interactive_floor",
] as const;
/** A number of starts; the others are shares, of which no more than nine tenths may be kept free. */
const COUNTED = "interactive_floor";
const MOST_PERCENT = 90;
type TypedShares = Record<typeof SHARES[number], number | string>;

const sharesShown = (model: ModelRow): TypedShares => ({
  batch_floor: percentOf(model.batch_floor),
  interactive_reserve: percentOf(model.interactive_reserve),
  interactive_reserve_day: percentOf(model.interactive_reserve_day),
  interactive_floor: model.interactive_floor,
});
/** To a tenth of a percent: 0.07 is 7, not 7.000000000000001. */
const percentOf = (share: number) => Math.round(share * 1_000) / 10;
const shareOf = (percent: number | string) => Math.round(Number(percent) * 10) / 1_000;

const TOUCHED = ["lanes", "models", "overview"];

/** Null: without a limit; an empty field says so. */
const limitOf = (value: number | string) => value === "" ? null : Number(value);
const limitsOf = (typed: Record<typeof LIMITS[number], number | string>) => ({
  rpm: limitOf(typed.rpm),
  tpm: limitOf(typed.tpm),
  rpd: limitOf(typed.rpd),
});
export const boundOf = (value: number | null, number: (value: number) => string) =>
  value === null ? "∞" : number(value);

/** A model with the limits that a quota project has, or all have. */
const withLimits = (
  model: ModelRow,
  overrides: LimitsAnswer["overrides"],
  project: string | null,
): ModelRow => {
  const own = overrides.find((one) => one.quota_project === project && one.model === model.model);
  return own ? { ...model, rpm: own.rpm, tpm: own.tpm, rpd: own.rpd } : model;
};

/** Changes a model, and its limits in one quota project or in all. */
export function ModelForm({ of, models, limits: known, project: first = null, close }: {
  of: ModelRow;
  /** All of them, of which one may follow it. */
  models: ModelRow[];
  limits: LimitsAnswer | undefined;
  /** Whose limits are shown first; null: of all quota projects. */
  project?: string | null;
  close: () => void;
}) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const format = useFormat();
  const overrides = known?.overrides ?? [];
  const others = models.filter(({ model, replaced_by }) => !replaced_by && model !== of.model);
  const begun = withLimits(of, overrides, first);
  /** Null: of the model, in all quota projects. */
  const [project, setProject] = useState<string | null>(first);
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(begun);
  const [theirs, setTheirs] = useState<ModelRow | null>(null);
  const [limits, setLimits] = useState<Record<typeof LIMITS[number], number | string>>(() => shown(begun));
  const [can, setCan] = useState<string[]>(CAPABILITIES.filter((name) => of[name]));
  const [successor, setSuccessor] = useState(of.replaced_by);
  const [active, setActive] = useState(of.is_active);
  const [shares, setShares] = useState<TypedShares>(() => sharesShown(begun));
  /** Those that were typed: the others stay to the last digit. An emptied field is no share. */
  const changedShares = project !== null ? {} : Object.fromEntries(
    SHARES.filter((name) => shares[name] !== "" && shares[name] !== sharesShown(base)[name]).map((name) => [
      name,
      name === COUNTED ? Number(shares[name]) : shareOf(shares[name]),
    ]),
  );
  const [most, setMost] = useState<number | string>(of.max_output_tokens ?? "");
  const changes = {
    is_active: active,
    replaced_by: successor,
    max_output_tokens: limitOf(most),
    ...Object.fromEntries(CAPABILITIES.map((name) => [name, can.includes(name)])),
  };
  const typed = { ...base, ...changes, ...limitsOf(limits), ...changedShares };
  /** Somebody else was quicker: what is there now is shown beside what is here. */
  const stale = async () => {
    const [{ models }, { overrides }] = await Promise.all([api.get("/models/all"), api.get("/limits")]);
    const now = models.find(({ model }) => model === base.model);
    if (now) setTheirs(withLimits(now, overrides, project));
  };
  const save = useAction(() => {
    const { provider: _, ...seen } = base;
    const before = shown(base);
    return api.post("/models/change", {
      model: base.model,
      seen,
      changes,
      ...((LIMITS.some((name) => limits[name] !== before[name]) || Object.keys(changedShares).length > 0) && {
        limits: { ...limitsOf(limits), ...changedShares },
      }),
      quota_project: project,
    });
  }, {
    touches: TOUCHED,
    failed: t("keys.failed"),
    stale,
  });
  const compared = (model: ModelRow) => [
    ...LIMITS.map((name) => ({ label: t(`keys.${name}`), value: boundOf(model[name], format.number) })),
    {
      label: t("keys.can"),
      value: CAPABILITIES.filter((name) => model[name]).map((name) => t(`keys.${name}`)).join(", "),
    },
    { label: t("keys.max_output_tokens"), value: String(model.max_output_tokens ?? "") },
    { label: t("keys.successor"), value: model.replaced_by ?? "" },
    ...SHARES.map((name) => ({
      label: t(`keys.${name}`),
      value: name === COUNTED ? format.number(model[name]) : `${percentOf(model[name])} %`,
    })),
    { label: t("keys.is_active"), value: t(model.is_active ? "keys.states.on" : "keys.states.off") },
  ];
  const clear = useAction(
    () => {
      const { rpm, tpm, rpd } = base;
      return api.post("/limits/clear", { quota_project: project, model: of.model, seen: { rpm, tpm, rpd } });
    },
    { touches: TOUCHED, failed: t("keys.failed"), stale },
  );
  async function submit(event: FormEvent) {
    event.preventDefault();
    await save.mutateAsync(undefined).then(close, () => {});
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        {theirs && (
          <Conflict
            fields={sideBySide(compared(typed), compared(theirs))}
            mine={() => {
              setBase(theirs);
              setTheirs(null);
            }}
            theirs={() => {
              setBase(theirs);
              setTheirs(null);
              setLimits(shown(theirs));
              setShares(sharesShown(theirs));
              setCan(CAPABILITIES.filter((name) => theirs[name]));
              setSuccessor(theirs.replaced_by);
              setActive(theirs.is_active);
              setMost(theirs.max_output_tokens ?? "");
            }}
          />
        )}
        <Select
          label={t("keys.limits_of")}
          data={known?.quota_projects ?? []}
          placeholder={t("keys.all_projects")}
          clearable
          clearButtonProps={{ "aria-label": t("clear") }}
          value={project}
          onChange={(chosen) => {
            const now = withLimits(of, overrides, chosen);
            setProject(chosen);
            setBase(now);
            setTheirs(null);
            setLimits(shown(now));
            setShares(sharesShown(now));
          }}
        />
        <Group grow>
          {LIMITS.map((name) => (
            <NumberInput
              key={name}
              label={t(`keys.${name}`)}
              placeholder="∞"
              min={0}
              max={2_147_483_647}
              allowDecimal={false}
              value={limits[name]}
              onChange={(value) => setLimits((now) => ({ ...now, [name]: value }))}
            />
          ))}
        </Group>
        {overrides.some((own) => own.quota_project === project && own.model === of.model) && (
          <Button
            variant="default"
            onClick={() => clear.mutateAsync(undefined).then(close, () => {})}
          >
            {t("keys.clear_override")}
          </Button>
        )}
        {project === null && (
          <Fieldset legend={t("keys.shares")}>
            <SimpleGrid cols={{ base: 1, xs: 2 }}>
              {SHARES.map((name) => (
                <NumberInput
                  key={name}
                  label={t(`keys.${name}`)}
                  suffix={name === COUNTED ? "" : " %"}
                  min={0}
                  max={name === COUNTED ? 2_147_483_647 : MOST_PERCENT}
                  decimalScale={name === COUNTED ? 0 : 1}
                  value={shares[name]}
                  onChange={(value) => setShares((now) => ({ ...now, [name]: value }))}
                />
              ))}
            </SimpleGrid>
          </Fieldset>
        )}
        <Checkbox.Group label={t("keys.can")} value={can} onChange={setCan}>
          <Group mt="xs">
            {CAPABILITIES.map((name) => <Checkbox key={name} value={name} label={t(`keys.${name}`)} />)}
          </Group>
        </Checkbox.Group>
        <NumberInput
          label={t("keys.max_output_tokens")}
          min={1}
          max={10_000_000}
          allowDecimal={false}
          value={most}
          onChange={setMost}
        />
        <Select
          label={t("keys.successor")}
          description={t("keys.successor_about")}
          data={others.map(({ model }) => model)}
          searchable
          clearable
          clearButtonProps={{ "aria-label": t("clear") }}
          value={successor}
          onChange={setSuccessor}
        />
        <Checkbox
          label={t("keys.is_active")}
          checked={active}
          onChange={(event) => setActive(event.currentTarget.checked)}
        />
        <Button type="submit" loading={save.isPending} w="max-content">{t("save")}</Button>
      </Stack>
    </form>
  );
}

const shown = (limits: Record<typeof LIMITS[number], number | null>) => ({
  rpm: limits.rpm ?? "",
  tpm: limits.tpm ?? "",
  rpd: limits.rpd ?? "",
});
