import {
  Alert,
  Button,
  Code,
  Group,
  NumberInput,
  PasswordInput,
  SegmentedControl,
  Stack,
  Text,
  TextInput,
} from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import type { KeyOfPool, KeyTest } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { Conflict } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";

/** What is changed with it when a key is used or passed over. */
export const TOUCHED = ["keys", "lanes", "models", "overview"];

/** What a test says, of this key. */
const testedOf = (status: KeyTest["status"], what: KeyToTest) =>
  status === "no_secret" && "env_var_name" in what && what.env_var_name.startsWith("stored:")
    ? "unreadable"
    : status;

type KeyToTest = { env_var_name: string } | { api_key: string };

/** Asks Google about a key, which need not be saved yet, and says what it answered. */
export function useTest() {
  const { t } = useTranslation();
  const { api } = useConsole();
  return useAction(
    async (what: KeyToTest) => {
      const answer = await api.post("/keys/test", what);
      const said = t(`keys.tested.${testedOf(answer.status, what)}`, { count: answer.models?.length ?? 0 });
      return { ...answer, said };
    },
    {
      touches: ["keys"],
      failed: t("keys.test_failed"),
      done: ({ status, reason, said }) => ({
        tone: status === "active" ? "good" : "warning",
        message: [said, reason].filter(Boolean).join(" "),
      }),
    },
  );
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

export function KeyForm({ of, encryption, first = false, close }: {
  of: KeyOfPool | null;
  /** The first one of all: nothing is saved that Google does not accept. */
  first?: boolean;
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
  const [source, setSource] = useState<Source>(of?.stored || first && encryption?.ready ? "secret" : "name");
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
  const toTest: KeyToTest = "api_key" in entered
    ? { api_key: apiKey.trim() }
    : { env_var_name: source === "name" ? secret.trim() : of?.env_var_name ?? "" };
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
    if (first) {
      const tested = await test.mutateAsync(toTest).catch(() => null);
      if (tested?.status !== "active") return;
    }
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
        {test.data && <Text size="sm" role="status">{test.data.said}</Text>}
        <Group>
          {!isStages && (
            <Button
              variant="default"
              loading={test.isPending}
              disabled={source === "secret" && apiKey === "" && !of?.stored}
              onClick={() => test.mutate(toTest)}
            >
              {t("keys.test")}
            </Button>
          )}
          <Button
            type="submit"
            loading={save.isPending || first && test.isPending}
            disabled={source === "secret" && encryption?.ready === false && !of?.stored}
          >
            {of === null ? t("keys.add") : t("save")}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
