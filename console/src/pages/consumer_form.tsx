import {
  Button,
  Checkbox,
  Group,
  NumberInput,
  SegmentedControl,
  Select,
  Stack,
  TagsInput,
  Text,
  TextInput,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import type { Consumer } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { Conflict, sideBySide } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";

type ScopeName = Consumer["scopes"][number];

/** A secret that was just made; the gateway keeps only its digest. */
export interface Secret {
  name: string;
  kind: Consumer["kind"];
  secret: string;
}

/** What a consumer may use: a record, so that the compiler misses one that is left out. */
const SCOPES: Record<ScopeName, true> = { llm: true, media: true, chats: true, vision: true, intake: true };
const SCOPE_NAMES = Object.keys(SCOPES) as ScopeName[];

const NUMBERS = ["rpm", "requests_per_day", "tokens_per_day"] as const;

/** What the form edits, as it is compared with what is there. */
const EDITED = ["models", "max_class", ...NUMBERS, "scopes", "tenant_id"] as const;
type Edited = Pick<Consumer, typeof EDITED[number]>;

/** What was seen of a consumer, as the gateway compares it. */
export const seenOf = (consumer: Consumer): Edited =>
  Object.fromEntries(EDITED.map((field) => [field, consumer[field]])) as Edited;

/** The same in words. */
export const editedWords = (of: Edited, t: TFunction): { label: string; value: string }[] => [
  { label: t("consumers.max_class"), value: t(`class.${of.max_class}`) },
  {
    label: t("consumers.scopes"),
    value: SCOPE_NAMES.filter((scope) => of.scopes.includes(scope))
      .map((scope) => t(`consumers.scope_names.${scope}`)).join(", "),
  },
  { label: t("consumers.tenant"), value: of.tenant_id },
  { label: t("consumers.models"), value: of.models?.join(", ") ?? "" },
  ...NUMBERS.map((name) => ({ label: t(`consumers.${name}`), value: String(of[name] ?? "") })),
];

const scopesOf = (consumer: Consumer | undefined) =>
  SCOPE_NAMES.filter((scope) => consumer?.scopes.includes(scope) ?? scope === "llm");

const numbersOf = (consumer: Consumer | undefined) =>
  Object.fromEntries(NUMBERS.map((name) => [name, consumer?.[name] ?? null])) as Record<
    typeof NUMBERS[number],
    number | null
  >;

/** Adds a consumer, or changes what one may do. */
export function ConsumerForm({ consumer, done }: { consumer?: Consumer; done: (made?: Secret) => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const known = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => api.get("/models", {}, signal),
    staleTime: 60_000,
  });
  const tenants = useQuery({
    queryKey: ["tenants"],
    queryFn: ({ signal }) => api.get("/tenants", {}, signal),
  });
  const [name, setName] = useState("");
  const [kind, setKind] = useState<Consumer["kind"]>("service");
  /** What the form was filled from; after a conflict what is there now. */
  const [base, setBase] = useState(consumer);
  const [theirs, setTheirs] = useState<Consumer | null>(null);
  const [maxClass, setMaxClass] = useState<Consumer["max_class"]>(consumer?.max_class ?? "interactive");
  const [scopes, setScopes] = useState(() => scopesOf(consumer));
  // Null until one is chosen: a new consumer is then the default tenant's, whichever that is.
  const [tenant, setTenant] = useState<string | null>(consumer?.tenant_id ?? null);
  const [models, setModels] = useState<string[]>(consumer?.models ?? []);
  const [numbers, setNumbers] = useState(() => numbersOf(consumer));
  const fill = (from: Consumer) => {
    setBase(from);
    setTheirs(null);
    setMaxClass(from.max_class);
    setScopes(scopesOf(from));
    setTenant(from.tenant_id);
    setModels(from.models ?? []);
    setNumbers(numbersOf(from));
  };
  const save = useAction(
    async () => {
      const scope = { models: models.length > 0 ? models : null, max_class: maxClass, ...numbers };
      const access = {
        ...(scopes.join() !== scopesOf(base).join() && { scopes }),
        ...(tenant !== null && tenant !== base?.tenant_id && { tenant_id: tenant }),
      };
      if (base === undefined) {
        return (await api.post("/consumers/add", { name: name.trim(), kind, ...scope, ...access })).secret;
      }
      await api.post("/consumers/change", {
        name: base.name,
        seen: seenOf(base),
        changes: scope,
        ...access,
      });
    },
    {
      touches: ["consumers", "tenants", "overview"],
      failed: t("consumers.failed"),
      stale: async () => {
        const { consumers: [now] } = await api.get("/consumers", { name: base!.name });
        if (now) setTheirs(now);
      },
    },
  );
  const typed = { max_class: maxClass, scopes, tenant_id: tenant ?? "", models, ...numbers };
  function submit(event: FormEvent) {
    event.preventDefault();
    save.mutate(undefined, {
      onSuccess: (secret) => done(secret ? { name: name.trim(), kind, secret } : undefined),
    });
  }
  return (
    <form onSubmit={submit}>
      <Stack>
        {theirs && (
          <Conflict
            fields={sideBySide(editedWords(typed, t), editedWords(theirs, t))}
            mine={() => {
              setBase(theirs);
              setTheirs(null);
            }}
            theirs={() => fill(theirs)}
          />
        )}
        {!consumer && (
          <>
            <TextInput
              label={t("consumers.name")}
              required
              data-autofocus
              maxLength={100}
              value={name}
              onChange={(event) => setName(event.currentTarget.value)}
            />
            <Choice
              label={t("consumers.kind")}
              about={t(`consumers.kind_about.${kind}`)}
              value={kind}
              set={(value) => setKind(value as Consumer["kind"])}
              data={(["service", "notebook"] as const).map((value) => ({
                value,
                label: t(`consumers.kinds.${value}`),
              }))}
            />
          </>
        )}
        <Choice
          label={t("consumers.max_class")}
          about={t("consumers.max_class_about")}
          value={maxClass}
          set={(value) => setMaxClass(value as Consumer["max_class"])}
          data={(["interactive", "batch"] as const).map((value) => ({ value, label: t(`class.${value}`) }))}
        />
        <Checkbox.Group
          label={t("consumers.scopes")}
          description={t("consumers.scopes_about")}
          error={scopes.length === 0 && t("consumers.scopes_none")}
          value={scopes}
          onChange={(chosen) => setScopes(SCOPE_NAMES.filter((scope) => chosen.includes(scope)))}
        >
          <Group mt="xs">
            {SCOPE_NAMES.map((scope) => (
              <Checkbox key={scope} value={scope} label={t(`consumers.scope_names.${scope}`)} />
            ))}
          </Group>
        </Checkbox.Group>
        <Select
          label={t("consumers.tenant")}
          description={t("consumers.tenant_about")}
          data={tenants.data?.tenants.map(({ id, name }) => ({
            value: id,
            label: name === null ? id : `${id} (${name})`,
          })) ?? []}
          value={tenant ?? tenants.data?.tenants.find(({ is_default }) => is_default)?.id ?? null}
          allowDeselect={false}
          searchable
          onChange={setTenant}
        />
        <TagsInput
          label={t("consumers.models")}
          description={t("consumers.models_about")}
          data={known.data?.models.map(({ model }) => model) ?? []}
          value={models}
          onChange={setModels}
        />
        {NUMBERS.map((name) => (
          <NumberInput
            key={name}
            label={t(`consumers.${name}`)}
            placeholder={t("consumers.no_limit")}
            min={1}
            allowDecimal={false}
            value={numbers[name] ?? ""}
            onChange={(value) =>
              setNumbers((now) => ({ ...now, [name]: value === "" ? null : Number(value) }))}
          />
        ))}
        <Group justify="flex-end">
          <Button type="submit" loading={save.isPending} disabled={scopes.length === 0}>
            {consumer ? t("save") : t("consumers.add")}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}

function Choice({ label, about, value, set, data }: {
  label: string;
  about: string;
  value: string;
  set: (value: string) => void;
  data: { value: string; label: string }[];
}) {
  return (
    <Stack gap={4}>
      <Text size="sm" fw={500}>{label}</Text>
      <SegmentedControl aria-label={label} value={value} onChange={set} data={data} />
      <Text size="xs" c="dimmed">{about}</Text>
    </Stack>
  );
}
