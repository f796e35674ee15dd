import {
  Alert,
  Button,
  Code,
  CopyButton,
  Group,
  NumberInput,
  Progress,
  Select,
  Stack,
  Table,
  Text,
  TextInput,
} from "@mantine/core";
import { useDebouncedValue, useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import type { Consumer } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Conflict, sideBySide } from "../parts/conflict.tsx";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { Pages } from "../parts/pages.tsx";
import { Snippet } from "../parts/snippet.tsx";
import { FIRST_MODEL, SECRET_HERE, SNIPPETS } from "../parts/snippets.ts";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { Window } from "../parts/window.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { EVERY_MS } from "../queries.ts";
import { ConsumerCache } from "./consumer_cache.tsx";
import { ConsumerForm, editedWords, type Secret, seenOf } from "./consumer_form.tsx";
import { SecretShown } from "./secret_shown.tsx";
import { Tenants } from "./tenants.tsx";

const PAGE = 25;
/** While a person types. */
const PAUSE_MS = 300;

type Dialog = { kind: "add" } | {
  kind: "scope" | "tokens" | "remove" | "rotate" | "snippet";
  consumer: Consumer;
};

export default function ConsumersPage() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const [secret, setSecret] = useState<Secret | null>(null);
  const [search, setSearch] = useState("");
  const [asked] = useDebouncedValue(search, PAUSE_MS);
  /** After whom each page that has been opened begins. */
  const [pages, setPages] = useState<string[]>([]);
  const after = pages.at(-1);
  const consumers = useQuery({
    queryKey: ["consumers", asked, after],
    queryFn: ({ signal }) => api.get("/consumers", { search: asked, after, limit: PAGE }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  /** Somebody has changed who was about to be switched: as they were seen, and as they are. */
  const [changed, setChanged] = useState<{ seen: Consumer; now: Consumer } | null>(null);
  const enable = useAction(
    ({ seen, enabled }: { seen: Consumer; enabled: boolean }) =>
      api.post("/consumers/enable", {
        name: seen.name,
        enabled,
        seen: { ...seenOf(seen), is_active: seen.is_active },
      }),
    {
      touches: ["consumers"],
      failed: t("consumers.failed"),
      stale: async ({ seen }) => {
        const { consumers: [now] } = await api.get("/consumers", { name: seen.name });
        if (now) setChanged({ seen, now });
      },
    },
  );
  const close = () => setDialog(null);
  return (
    <Page
      title={t("consumers.title")}
      about={t("consumers.about")}
      actions={
        <Button
          leftSection={<Plus size={16} aria-hidden />}
          onClick={() => setDialog({ kind: "add" })}
        >
          {t("consumers.add")}
        </Button>
      }
    >
      <TextInput
        label={t("consumers.search")}
        maw={320}
        value={search}
        onChange={(event) => {
          setSearch(event.currentTarget.value);
          setPages([]);
        }}
      />
      <Loaded query={consumers}>
        {({ consumers, total, next_after }) =>
          consumers.length === 0
            ? (
              <EmptyState title={t(asked === "" ? "consumers.empty" : "nothing_found")}>
                {asked === "" && t("consumers.empty_how")}
              </EmptyState>
            )
            : (
              <>
                <ListFrame minWidth={1000}>
                  <Table aria-label={t("consumers.title")}>
                    <Table.Thead>
                      <Table.Tr>
                        {([
                          "name",
                          "kind",
                          "scopes",
                          "tenant",
                          "models",
                          "requests_today",
                          "tokens_today",
                          "live_tokens",
                          "actions",
                        ] as const).map((name) => <Table.Th key={name}>{t(`consumers.${name}`)}</Table.Th>)}
                      </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                      {consumers.map((consumer) => (
                        <Table.Tr key={consumer.id} data-consumer={consumer.name}>
                          <Table.Td>
                            <Text size="sm" fw={600}>{consumer.name}</Text>
                            {consumer.previous_secret_until && (
                              <Text size="xs" c="dimmed">
                                {t("consumers.two_secrets", {
                                  until: format.time(consumer.previous_secret_until),
                                })}
                              </Text>
                            )}
                            {!consumer.is_active && <StateBadge state="failed" label={t("consumers.off")} />}
                          </Table.Td>
                          <Table.Td>
                            {`${t(`consumers.kinds.${consumer.kind}`)}, ${t(`class.${consumer.max_class}`)}`}
                          </Table.Td>
                          <Table.Td>
                            {consumer.scopes.map((scope) => t(`consumers.scope_names.${scope}`)).join(", ")}
                          </Table.Td>
                          <Table.Td>{consumer.tenant_id}</Table.Td>
                          <Table.Td>{consumer.models?.join(", ") ?? t("all")}</Table.Td>
                          <Table.Td>
                            <Today
                              label={t("consumers.requests_today")}
                              today={consumer.requests_today}
                              used={consumer.requests_of_budget}
                              limit={consumer.requests_per_day}
                            />
                          </Table.Td>
                          <Table.Td>
                            <Today
                              label={t("consumers.tokens_today")}
                              today={consumer.tokens_today}
                              used={consumer.tokens_of_budget}
                              limit={consumer.tokens_per_day}
                            />
                          </Table.Td>
                          <Table.Td>
                            {consumer.kind === "notebook"
                              ? (
                                <Button
                                  variant="subtle"
                                  size="compact-xs"
                                  aria-label={`${format.number(consumer.live_tokens)}: ${
                                    t("consumers.tokens_of", { name: consumer.name })
                                  }`}
                                  onClick={() => setDialog({ kind: "tokens", consumer })}
                                >
                                  {format.number(consumer.live_tokens)}
                                </Button>
                              )
                              : "–"}
                          </Table.Td>
                          <Table.Td>
                            <Group gap={4}>
                              <Action
                                label={t("consumers.scope")}
                                of={consumer}
                                onClick={() => setDialog({ kind: "scope", consumer })}
                              />
                              <Action
                                label={t("consumers.snippet_open")}
                                of={consumer}
                                onClick={() => setDialog({ kind: "snippet", consumer })}
                              />
                              <Action
                                label={t("consumers.rotate")}
                                of={consumer}
                                onClick={() => setDialog({ kind: "rotate", consumer })}
                              />
                              <Action
                                label={consumer.is_active ? t("consumers.disable") : t("consumers.enable")}
                                of={consumer}
                                onClick={() =>
                                  enable.mutate({ seen: consumer, enabled: !consumer.is_active })}
                              />
                              <Action
                                label={t("consumers.remove")}
                                of={consumer}
                                onClick={() => setDialog({ kind: "remove", consumer })}
                              />
                            </Group>
                          </Table.Td>
                        </Table.Tr>
                      ))}
                    </Table.Tbody>
                  </Table>
                </ListFrame>
                <Pages
                  words={t("consumers.total", { count: total })}
                  back={pages.length > 0 ? () => setPages((now) => now.slice(0, -1)) : null}
                  next={next_after === null ? null : () => setPages((now) => [...now, next_after])}
                />
              </>
            )}
      </Loaded>
      <Tenants />
      <Window opened={dialog?.kind === "add"} onClose={close} title={t("consumers.add")}>
        <ConsumerForm done={(made) => (close(), made && setSecret(made))} />
      </Window>
      <Window opened={dialog?.kind === "scope"} onClose={close} title={t("consumers.scope")}>
        {dialog?.kind === "scope" && (
          <>
            <ConsumerForm consumer={dialog.consumer} done={close} />
            <ConsumerCache consumer={dialog.consumer.name} />
          </>
        )}
      </Window>
      <Window opened={dialog?.kind === "tokens"} onClose={close} title={t("consumers.live_tokens")}>
        {dialog?.kind === "tokens" && <Tokens consumer={dialog.consumer.name} />}
      </Window>
      <Window opened={dialog?.kind === "remove"} onClose={close} title={t("consumers.remove")}>
        {dialog?.kind === "remove" && <Removal consumer={dialog.consumer.name} done={close} />}
      </Window>
      <Window opened={dialog?.kind === "rotate"} onClose={close} title={t("consumers.rotate")}>
        {dialog?.kind === "rotate" && (
          <Rotation
            consumer={dialog.consumer}
            done={(made) => {
              close();
              if (made) setSecret(made);
            }}
          />
        )}
      </Window>
      <Window
        opened={dialog?.kind === "snippet"}
        onClose={close}
        title={t("consumers.snippet_of", { name: dialog?.kind === "snippet" ? dialog.consumer.name : "" })}
      >
        {dialog?.kind === "snippet" && <ItsSnippet consumer={dialog.consumer} />}
      </Window>
      <Window
        opened={changed !== null}
        onClose={() => setChanged(null)}
        title={t("consumers.switch", { name: changed?.seen.name })}
      >
        {changed && (
          <Conflict
            fields={[
              ...sideBySide(editedWords(changed.seen, t), editedWords(changed.now, t)),
              {
                label: t("consumers.is_active"),
                mine: t(changed.seen.is_active ? "yes" : "no"),
                theirs: t(changed.now.is_active ? "yes" : "no"),
              },
            ]}
            mine={() => {
              enable.mutate({ seen: changed.now, enabled: !changed.seen.is_active });
              setChanged(null);
            }}
            theirs={() => setChanged(null)}
          />
        )}
      </Window>
      <Window
        locked
        opened={secret !== null}
        onClose={() => setSecret(null)}
        title={t("consumers.secret_of", { name: secret?.name })}
      >
        {secret && <SecretShown {...secret} done={() => setSecret(null)} />}
      </Window>
    </Page>
  );
}

function Action({ label, of, onClick }: { label: string; of: Consumer; onClick: () => void }) {
  return (
    <Button variant="default" size="compact-xs" aria-label={`${label}: ${of.name}`} onClick={onClick}>
      {label}
    </Button>
  );
}

/** What was done, and how much of the day's budget that is. */
function Today({ label, today, used, limit }: {
  label: string;
  today: number;
  used: number | null;
  limit: number | null;
}) {
  const { t } = useTranslation();
  const format = useFormat();
  if (used === null || limit === null) return <>{format.number(today)}</>;
  const words = t("consumers.of_budget", { used: format.number(used), limit: format.number(limit) });
  const share = limit === 0 ? 100 : Math.min(100, 100 * used / limit);
  return (
    <div>
      <Text size="sm">{used === today ? words : `${format.number(today)} · ${words}`}</Text>
      <Progress
        size="xs"
        value={share}
        color={share >= 100 ? "red" : share >= 80 ? "orange" : "blue"}
        aria-label={`${label}: ${words}`}
      />
    </div>
  );
}

/** A call as a program, with the place of a secret that nobody but its holder has. */
function ItsSnippet({ consumer: { kind, models } }: { consumer: Consumer }) {
  const { t } = useTranslation();
  return (
    <Stack>
      <Text size="sm">{t("consumers.snippet_about", { place: SECRET_HERE })}</Text>
      <Snippet
        kinds={SNIPPETS}
        body={{ model: models?.[0] ?? FIRST_MODEL, prompt: "Hello" }}
        secret={SECRET_HERE}
        notebook={kind === "notebook"}
      />
    </Stack>
  );
}

function Budget({ label, used, limit }: { label: string; used: number; limit: number | null }) {
  const format = useFormat();
  if (limit === null) return <>{format.number(used)}</>;
  return (
    <div>
      <Text size="sm">{`${format.number(used)} / ${format.number(limit)}`}</Text>
      <Progress size="xs" value={limit === 0 ? 100 : Math.min(100, 100 * used / limit)} aria-label={label} />
    </div>
  );
}

/** In seconds: how long the secret that is there goes on working beside the new one. */
const GRACES = { day: 86_400, week: 604_800, hour: 3_600, none: 0 } as const;
type Grace = keyof typeof GRACES;

function Rotation({ consumer, done }: { consumer: Consumer; done: (made?: Secret) => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [grace, setGrace] = useState<Grace>("day");
  const rotate = useAction(
    () => api.post("/consumers/rotate", { name: consumer.name, grace_s: GRACES[grace] }),
    { touches: ["consumers"], failed: t("consumers.failed") },
  );
  return (
    <Stack>
      <Text>{t("consumers.rotate_about", { name: consumer.name })}</Text>
      <Select
        label={t("consumers.grace")}
        data={(Object.keys(GRACES) as Grace[]).map((value) => ({
          value,
          label: t(`consumers.graces.${value}`),
        }))}
        value={grace}
        allowDeselect={false}
        onChange={(value) => value && setGrace(value)}
      />
      {grace === "none" && <Alert color="red" variant="outline">{t("consumers.grace_none")}</Alert>}
      {consumer.previous_secret_until && (
        <Alert color="yellow" variant="outline">
          {t("consumers.grace_older", { until: format.time(consumer.previous_secret_until) })}
        </Alert>
      )}
      <Group justify="flex-end">
        <Button variant="default" onClick={() => done()}>{t("cancel")}</Button>
        <Button
          loading={rotate.isPending}
          onClick={() =>
            rotate.mutate(undefined, {
              onSuccess: ({ secret }) => done({ name: consumer.name, kind: consumer.kind, secret }),
            })}
        >
          {t("consumers.rotate_do")}
        </Button>
      </Group>
    </Stack>
  );
}

function Tokens({ consumer }: { consumer: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const tokens = useQuery({
    queryKey: ["tokens", consumer],
    queryFn: ({ signal }) => api.get("/tokens", { consumer }, signal),
    refetchInterval: EVERY_MS.requests,
  });
  const revoke = useAction((token_id: string) => api.post("/tokens/revoke", { token_id }), {
    touches: ["tokens", "consumers"],
    done: t("consumers.token_revoked"),
    failed: t("consumers.failed"),
  });
  return (
    <Stack>
      <Issue consumer={consumer} />
      <Loaded query={tokens}>
        {({ tokens }) =>
          tokens.length === 0 ? <EmptyState title={t("consumers.no_tokens")} /> : (
            <Stack>
              {tokens.map((token) => (
                <Group key={token.id} justify="space-between" wrap="nowrap">
                  <div>
                    <Code>{token.id.slice(0, 8)}</Code>
                    <Text size="xs">
                      {token.scopes.map((scope) => t(`consumers.scope_names.${scope}`)).join(", ")}
                    </Text>
                    <Text size="xs" c="dimmed">
                      {t("consumers.token_ends", { ends: format.ago(token.expires_at) })}
                    </Text>
                    <Budget
                      label={t("consumers.requests_budget")}
                      used={token.requests_used}
                      limit={token.requests_budget}
                    />
                  </div>
                  <Button
                    size="compact-xs"
                    color="red"
                    variant="outline"
                    onClick={() => revoke.mutate(token.id)}
                  >
                    {t("consumers.revoke")}
                  </Button>
                </Group>
              ))}
            </Stack>
          )}
      </Loaded>
    </Stack>
  );
}

function Removal({ consumer, done }: { consumer: string; done: () => void }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [sure, { open }] = useDisclosure();
  const remove = useAction(() => api.post("/consumers/remove", { name: consumer }), {
    touches: ["consumers"],
    failed: t("consumers.failed"),
  });
  return (
    <Stack>
      <Text>{t("consumers.remove_about", { name: consumer })}</Text>
      <Group justify="flex-end">
        <Button variant="default" onClick={done}>{t("cancel")}</Button>
        <Button
          color="red"
          loading={remove.isPending}
          onClick={() => {
            open();
            remove.mutate(undefined, { onSuccess: done });
          }}
          disabled={sure && remove.isPending}
        >
          {t("consumers.remove")}
        </Button>
      </Group>
    </Stack>
  );
}

/** A token for a notebook, without its enrolment secret. */
function Issue({ consumer }: { consumer: string }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [minutes, setMinutes] = useState<number | string>(30);
  const [requests, setRequests] = useState<number | string>("");
  const issue = useAction(
    () =>
      api.post("/tokens/issue", {
        consumer,
        ...(minutes !== "" && { ttl_s: 60 * Number(minutes) }),
        ...(requests !== "" && { requests: Number(requests) }),
      }),
    { touches: ["tokens", "consumers"], failed: t("consumers.failed") },
  );
  return (
    <Stack gap="xs">
      <Group align="flex-end" grow>
        <NumberInput
          label={t("consumers.issue_ttl")}
          min={1}
          max={1_440}
          allowDecimal={false}
          value={minutes}
          onChange={setMinutes}
        />
        <NumberInput
          label={t("consumers.issue_requests")}
          placeholder={t("consumers.no_limit")}
          min={1}
          max={2_147_483_647}
          allowDecimal={false}
          value={requests}
          onChange={setRequests}
        />
      </Group>
      <Button w="max-content" loading={issue.isPending} onClick={() => issue.mutate(undefined)}>
        {t("consumers.issue")}
      </Button>
      {issue.data && (
        <>
          <Alert color="yellow" variant="outline">
            {t("consumers.issued", {
              scope: issue.data.scope,
              minutes: Math.floor(issue.data.expires_in / 60),
            })}
          </Alert>
          <Code block data-testid="token" style={{ overflowWrap: "anywhere", whiteSpace: "pre-wrap" }}>
            {issue.data.access_token}
          </Code>
          <CopyButton value={issue.data.access_token}>
            {({ copied, copy }) => (
              <Button size="xs" variant="default" w="max-content" onClick={copy}>
                {copied ? t("copied") : t("copy")}
              </Button>
            )}
          </CopyButton>
        </>
      )}
    </Stack>
  );
}
