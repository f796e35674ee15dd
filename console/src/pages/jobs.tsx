import {
  Alert,
  Anchor,
  Badge,
  Button,
  Code,
  Drawer,
  Group,
  Progress,
  SegmentedControl,
  Select,
  Stack,
  Table,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { EyeOff } from "lucide-react";
import { type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import type { AdminJob, Batch, DeadLetter, JobState, Webhook } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { VirtualBody } from "../parts/virtual_body.tsx";
import { EVERY_MS } from "../queries.ts";

const PAGE = 50;
/** While a person types. */
const PAUSE_MS = 300;
const PARTS = ["jobs", "batches", "webhooks", "dead_letters"] as const;
const STATES: readonly JobState[] = ["queued", "running", "succeeded", "failed", "cancelled", "expired"];
const KINDS = ["llm", "response", "batch", "provider_job"] as const;
const NO_FILTER = { state: "", kind: "", consumer: "", batch_id: "" };

/** @param given by the address: `job` and its id, `state` and its name, or `part` and that of a part of the page */
export default function JobsPage(
  { given }: { given: { what?: string | undefined; name?: string | undefined } },
) {
  const { t } = useTranslation();
  const [part, setPart] = useState(() =>
    PARTS.find((name) => given.what === "part" && name === given.name) ?? "jobs"
  );
  const [, navigate] = useLocation();
  const shown = given.what === "job" ? "jobs" : part;
  const [batchId, setBatchId] = useState("");
  return (
    <Page
      title={t("jobs.title")}
      about={t("jobs.about")}
      actions={
        <SegmentedControl
          aria-label={t("jobs.part")}
          value={shown}
          onChange={(value) => {
            setBatchId("");
            if (given.what !== undefined) navigate("/jobs");
            setPart(value as (typeof PARTS)[number]);
          }}
          data={PARTS.map((value) => ({ value, label: t(`jobs.parts.${value}`) }))}
        />
      }
    >
      {shown === "jobs" && (
        <Jobs
          key={batchId}
          batchId={batchId}
          state={given.what === "state" ? given.name : undefined}
          jobId={given.what === "job" ? given.name : undefined}
        />
      )}
      {shown === "batches" && (
        <Batches
          open={(id) => {
            setBatchId(id);
            setPart("jobs");
          }}
        />
      )}
      {shown === "webhooks" && <Webhooks />}
      {shown === "dead_letters" && <DeadLetters />}
    </Page>
  );
}

/** A table by its columns, of which the first names the row. */
function Rows({ name, columns, children }: { name: string; columns: string[]; children: ReactNode }) {
  return (
    <ListFrame minWidth={720}>
      <Table highlightOnHover aria-label={name}>
        <Table.Thead>
          <Table.Tr>{columns.map((column) => <Table.Th key={column}>{column}</Table.Th>)}</Table.Tr>
        </Table.Thead>
        <VirtualBody>{children}</VirtualBody>
      </Table>
    </ListFrame>
  );
}

function More({ query }: {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}) {
  const { t } = useTranslation();
  if (!query.hasNextPage) return null;
  return (
    <Group justify="center">
      <Button variant="default" loading={query.isFetchingNextPage} onClick={() => query.fetchNextPage()}>
        {t("more")}
      </Button>
    </Group>
  );
}

const hasEnded = ({ finished_at }: AdminJob) => finished_at !== null;

function Jobs({ batchId, state, jobId }: {
  batchId: string;
  state: string | undefined;
  jobId: string | undefined;
}) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const kindName = useKindName();
  const [filter, setFilter] = useState({
    ...NO_FILTER,
    batch_id: batchId,
    state: STATES.find((name) => name === state) ?? "",
  });
  const [asked] = useDebouncedValue(filter, PAUSE_MS);
  const [, navigate] = useLocation();
  const shown = jobId ?? null;
  const setShown = (id: string | null) => navigate(id === null ? "/jobs" : `/jobs/job/${id}`);
  const jobs = useInfiniteQuery({
    queryKey: ["jobs", asked],
    queryFn: ({ signal, pageParam }) =>
      api.get("/jobs", { ...asked, before: pageParam, limit: PAGE }, signal),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: (query) => (query.state.data?.pages.length ?? 0) > 1 ? false : EVERY_MS.requests,
  });
  const cancel = useAction((id: string) => api.post("/job-cancel", { ids: [id] }), {
    touches: ["jobs"],
    done: t("jobs.cancelled"),
    failed: t("jobs.cancel_failed"),
  });
  const rows = jobs.data?.pages.flatMap((page) => page.jobs) ?? [];
  const choice = (name: "state" | "kind", values: readonly { value: string; label: string }[]) => (
    <Select
      label={t(`jobs.${name}`)}
      data={[{ value: "", label: t("jobs.any") }, ...values]}
      value={filter[name]}
      allowDeselect={false}
      onChange={(value) => setFilter((now) => ({ ...now, [name]: value ?? "" }))}
    />
  );
  return (
    <Stack>
      <Group component="search" align="flex-end">
        {choice("state", STATES.map((value) => ({ value, label: t(`jobs.states.${value}`) })))}
        {choice("kind", KINDS.map((value) => ({ value, label: t(`jobs.kinds.${value}`) })))}
        <TextInput
          label={t("jobs.consumer")}
          value={filter.consumer}
          onChange={({ currentTarget: { value } }) => setFilter((now) => ({ ...now, consumer: value }))}
        />
        {filter.batch_id !== "" && (
          <Button
            variant="default"
            onClick={() => setFilter((now) => ({ ...now, batch_id: "" }))}
          >
            {`${t("jobs.batch")} ${filter.batch_id.slice(0, 8)} ×`}
          </Button>
        )}
      </Group>
      <Loaded query={jobs}>
        {() =>
          rows.length === 0 ? <EmptyState title={t("jobs.none")}>{t("jobs.none_how")}</EmptyState> : (
            <Rows
              name={t("jobs.title")}
              columns={[
                t("jobs.submitted"),
                t("jobs.one"),
                t("jobs.state"),
                t("jobs.kind"),
                t("jobs.consumer"),
                t("jobs.models"),
                t("jobs.took"),
                "",
              ]}
            >
              {rows.map((job) => (
                <Table.Tr key={job.id}>
                  <Table.Td>{format.time(job.submitted_at)}</Table.Td>
                  <Table.Td>
                    <Button
                      variant="subtle"
                      size="compact-xs"
                      aria-label={t("jobs.open", { id: job.request_id ?? job.id })}
                      onClick={() => setShown(job.id)}
                    >
                      {(job.request_id ?? job.id).slice(0, 36)}
                    </Button>
                  </Table.Td>
                  <Table.Td>
                    <StateBadge state={job.state} label={t(`jobs.states.${job.state}`)} />
                  </Table.Td>
                  <Table.Td>{kindName(job.kind)}</Table.Td>
                  <Table.Td>{job.consumer ?? t("requests.project_key")}</Table.Td>
                  <Table.Td>{job.models?.join(", ") ?? "–"}</Table.Td>
                  <Table.Td>{format.duration(between(job.started_at, job.finished_at))}</Table.Td>
                  <Table.Td>
                    {!hasEnded(job) && (
                      <Button
                        size="compact-xs"
                        variant="default"
                        aria-label={t("jobs.cancel_one", { id: job.request_id ?? job.id })}
                        onClick={() => cancel.mutate(job.id)}
                      >
                        {t("jobs.cancel")}
                      </Button>
                    )}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Rows>
          )}
      </Loaded>
      <More query={jobs} />
      <Side title={t("jobs.one")} opened={shown !== null} close={() => setShown(null)}>
        {shown !== null && <OneJob id={shown} />}
      </Side>
    </Stack>
  );
}

const between = (from: string | null, until: string | null) =>
  from === null || until === null ? null : Date.parse(until) - Date.parse(from);

/** Kinds are rows of a table, so there may be others. */
function useKindName(): (kind: string) => string {
  const { t } = useTranslation();
  return (kind) => {
    const known = KINDS.find((name) => name === kind);
    return known === undefined ? kind : t(`jobs.kinds.${known}`);
  };
}

function Side({ title, opened, close, children }: {
  title: string;
  opened: boolean;
  close: () => void;
  children: ReactNode;
}) {
  const { t } = useTranslation();
  return (
    <Drawer
      opened={opened}
      onClose={close}
      position="right"
      size="xl"
      title={title}
      closeButtonProps={{ "aria-label": t("close") }}
    >
      {children}
    </Drawer>
  );
}

const FACTS = ["request_id", "batch_id", "class", "tries", "losses", "error_code", "error_detail"] as const;
const TIMES = ["run_at", "started_at", "finished_at", "expires_at"] as const;

function OneJob({ id }: { id: string }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const kindName = useKindName();
  const detail = useQuery({
    queryKey: ["jobs", "one", id],
    queryFn: ({ signal }) => api.get("/job-detail", { id }, signal),
    placeholderData: undefined,
    refetchInterval: (query) => query.state.data?.job.finished_at ? false : EVERY_MS.requests,
  });
  return (
    <Loaded query={detail}>
      {({ job, said }) => (
        <Stack>
          <Group>
            <StateBadge state={job.state} label={t(`jobs.states.${job.state}`)} />
            <Text size="sm">{`${kindName(job.kind)} · ${job.models?.join(", ") ?? "–"}`}</Text>
          </Group>
          <Code>{job.id}</Code>
          <Table aria-label={t("jobs.one")}>
            <Table.Tbody>
              {FACTS.map((name) => [name, job[name]] as const).filter(([, value]) => value !== null)
                .map(([name, value]) => (
                  <Fact key={name} name={t(`jobs.facts.${name}`)} value={String(value)} />
                ))}
              {TIMES.filter((name) => job[name] !== null).map((name) => (
                <Fact key={name} name={t(`jobs.facts.${name}`)} value={format.time(job[name])} />
              ))}
            </Table.Tbody>
          </Table>
          {said === null
            ? <Alert variant="outline" color="gray" icon={<EyeOff aria-hidden />}>{t("jobs.not_said")}</Alert>
            : (
              <>
                <Json title={t("jobs.body")} value={said.body} />
                <Json title={t("jobs.result")} value={said.result} />
              </>
            )}
        </Stack>
      )}
    </Loaded>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <Table.Tr>
      <Table.Th scope="row">{name}</Table.Th>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{value}</Table.Td>
    </Table.Tr>
  );
}

function Json({ title, value }: { title: string; value: unknown }) {
  if (value === null || value === undefined) return null;
  return (
    <Stack gap={4}>
      <Title order={3} size="h6">{title}</Title>
      <Code block tabIndex={0}>{JSON.stringify(value, null, 2)}</Code>
    </Stack>
  );
}

function Batches({ open }: { open: (id: string) => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const batches = useInfiniteQuery({
    queryKey: ["batches"],
    queryFn: ({ signal, pageParam }) => api.get("/batches", { before: pageParam, limit: PAGE }, signal),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next,
    refetchInterval: (query) => (query.state.data?.pages.length ?? 0) > 1 ? false : EVERY_MS.requests,
  });
  const rows = batches.data?.pages.flatMap((page) => page.batches) ?? [];
  return (
    <Stack>
      <Loaded query={batches}>
        {() =>
          rows.length === 0
            ? <EmptyState title={t("jobs.no_batches")}>{t("jobs.none_how")}</EmptyState>
            : (
              <Rows
                name={t("jobs.parts.batches")}
                columns={[
                  t("jobs.submitted"),
                  t("jobs.batch"),
                  t("jobs.state"),
                  t("jobs.consumer"),
                  t("jobs.endpoint"),
                  t("jobs.progress"),
                ]}
              >
                {rows.map((batch) => (
                  <Table.Tr key={batch.id}>
                    <Table.Td>{format.time(batch.created_at)}</Table.Td>
                    <Table.Td>
                      <Button
                        variant="subtle"
                        size="compact-xs"
                        onClick={() => open(batch.id)}
                      >
                        {batch.id.slice(0, 8)}
                      </Button>
                    </Table.Td>
                    <Table.Td>
                      <StateBadge
                        state={batch.state === "completed" ? "succeeded" : batch.state}
                        label={t(`jobs.batch_states.${batch.state}`)}
                      />
                    </Table.Td>
                    <Table.Td>{batch.consumer ?? t("requests.project_key")}</Table.Td>
                    <Table.Td>{batch.endpoint}</Table.Td>
                    <Table.Td miw={200}>
                      <Lines batch={batch} />
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Rows>
            )}
      </Loaded>
      <More query={batches} />
    </Stack>
  );
}

function Lines({ batch: { id, total, completed, failed, expired } }: { batch: Batch }) {
  const { t } = useTranslation();
  const format = useFormat();
  const words = t("jobs.progress_of", {
    done: format.number(completed + failed + expired),
    total: format.number(total),
    failed: format.number(failed + expired),
  });
  const share = (lines: number) => total === 0 ? 0 : 100 * lines / total;
  return (
    <Stack gap={2}>
      <Progress.Root size="sm">
        <Progress.Section
          value={share(completed)}
          color="green"
          aria-label={`${t("jobs.batch")} ${id.slice(0, 8)}: ${words}`}
        />
        {failed + expired > 0 && (
          <Progress.Section
            value={share(failed + expired)}
            color="red"
            aria-label={`${t("jobs.batch")} ${id.slice(0, 8)}: ${t("jobs.states.failed")}`}
          />
        )}
      </Progress.Root>
      <Text size="xs" className="figures">{words}</Text>
    </Stack>
  );
}

function Webhooks() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [shown, setShown] = useState<Webhook | null>(null);
  const webhooks = useQuery({
    queryKey: ["webhooks"],
    queryFn: ({ signal }) => api.get("/webhooks", {}, signal),
    refetchInterval: EVERY_MS.slow,
  });
  const test = useAction((id: string) => api.post("/webhooks/test", { id }), {
    touches: ["webhooks"],
    done: t("jobs.tested"),
    failed: t("jobs.test_failed"),
  });
  return (
    <Loaded query={webhooks}>
      {({ webhooks }) =>
        webhooks.length === 0
          ? <EmptyState title={t("jobs.no_webhooks")}>{t("jobs.no_webhooks_how")}</EmptyState>
          : (
            <>
              <Rows
                name={t("jobs.parts.webhooks")}
                columns={[
                  t("jobs.address"),
                  t("jobs.consumer"),
                  t("jobs.state"),
                  t("jobs.pending"),
                  t("jobs.dead"),
                  t("jobs.last_delivered"),
                  "",
                ]}
              >
                {webhooks.map((webhook) => (
                  <Table.Tr key={webhook.id}>
                    <Table.Td style={{ overflowWrap: "anywhere" }}>
                      <Anchor
                        component="button"
                        type="button"
                        size="sm"
                        ta="left"
                        aria-label={t("jobs.deliveries_of", { url: webhook.url })}
                        onClick={() => setShown(webhook)}
                      >
                        {webhook.url}
                      </Anchor>
                    </Table.Td>
                    <Table.Td>{webhook.consumer}</Table.Td>
                    <Table.Td>
                      <StateBadge
                        state={webhook.is_active ? "active" : "paused"}
                        label={t(webhook.is_active ? "jobs.on" : "jobs.off")}
                      />
                    </Table.Td>
                    <Table.Td>{format.number(webhook.pending)}</Table.Td>
                    <Table.Td>{format.number(webhook.dead_letters)}</Table.Td>
                    <Table.Td>{format.ago(webhook.last_delivered_at)}</Table.Td>
                    <Table.Td>
                      <Button
                        size="compact-xs"
                        variant="default"
                        aria-label={t("jobs.test_one", { url: webhook.url })}
                        onClick={() => test.mutate(webhook.id)}
                      >
                        {t("jobs.test")}
                      </Button>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Rows>
              <Side title={t("jobs.deliveries")} opened={shown !== null} close={() => setShown(null)}>
                {shown !== null && <Deliveries webhook={shown} />}
              </Side>
            </>
          )}
    </Loaded>
  );
}

function Deliveries({ webhook: { id, url } }: { webhook: Webhook }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const deliveries = useQuery({
    queryKey: ["webhooks", "deliveries", id],
    queryFn: ({ signal }) => api.get("/webhooks/deliveries", { id, limit: PAGE }, signal),
    placeholderData: undefined,
    refetchInterval: EVERY_MS.requests,
  });
  const again = useAction(
    (delivery: number) => api.post("/webhooks/redeliver", { id, delivery_id: delivery }),
    { touches: ["webhooks"], done: t("jobs.redelivered"), failed: t("jobs.redeliver_failed") },
  );
  return (
    <Loaded query={deliveries}>
      {({ deliveries }) =>
        deliveries.length === 0 ? <EmptyState title={t("jobs.no_deliveries")} /> : (
          <Rows
            name={t("jobs.deliveries_of", { url })}
            columns={[t("jobs.at"), t("jobs.event"), t("jobs.state"), t("jobs.tries"), t("jobs.error"), ""]}
          >
            {deliveries.map((delivery) => (
              <Table.Tr key={delivery.delivery_id}>
                <Table.Td>{format.time(delivery.time)}</Table.Td>
                <Table.Td>{delivery.type}</Table.Td>
                <Table.Td>
                  <StateBadge
                    state={DELIVERY_COLOURS[delivery.state]}
                    label={t(`jobs.delivery_states.${delivery.state}`)}
                  />
                </Table.Td>
                <Table.Td>{format.number(delivery.attempts)}</Table.Td>
                <Table.Td>{delivery.last_error ?? "–"}</Table.Td>
                <Table.Td>
                  {delivery.state !== "pending" && (
                    <Button
                      size="compact-xs"
                      variant="default"
                      aria-label={t("jobs.redeliver_one", { id: delivery.delivery_id })}
                      onClick={() => again.mutate(delivery.delivery_id)}
                    >
                      {t("jobs.redeliver")}
                    </Button>
                  )}
                </Table.Td>
              </Table.Tr>
            ))}
          </Rows>
        )}
    </Loaded>
  );
}

const DELIVERY_COLOURS = {
  pending: "running",
  delivered: "succeeded",
  dead: "failed",
  dropped: "off",
} as const;

function DeadLetters() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [shown, setShown] = useState<number | null>(null);
  const letters = useInfiniteQuery({
    queryKey: ["dead_letters", "list"],
    queryFn: ({ signal, pageParam }) => api.get("/dead-letters", { before: pageParam, limit: PAGE }, signal),
    initialPageParam: null as number | null,
    getNextPageParam: (page) => page.next_before,
    refetchInterval: (query) => (query.state.data?.pages.length ?? 0) > 1 ? false : EVERY_MS.slow,
  });
  const touches = ["dead_letters", "webhooks", "alerts"];
  const replay = useAction(
    (meant: { ids: number[] } | { all: true }) => api.post("/dead-letters/replay", meant),
    { touches, done: t("jobs.replayed"), failed: t("jobs.replay_failed") },
  );
  const drop = useAction((id: number) => api.post("/dead-letters/drop", { ids: [id] }), {
    touches,
    done: t("jobs.dropped"),
    failed: t("jobs.drop_failed"),
  });
  const rows: DeadLetter[] = letters.data?.pages.flatMap((page) => page.dead_letters) ?? [];
  return (
    <Stack>
      <Loaded query={letters}>
        {() =>
          rows.length === 0 ? <EmptyState title={t("jobs.no_letters")} /> : (
            <>
              <Group justify="flex-end">
                <Button size="xs" variant="default" onClick={() => replay.mutate({ all: true })}>
                  {t("jobs.all_replay")}
                </Button>
              </Group>
              <Rows
                name={t("jobs.parts.dead_letters")}
                columns={[
                  t("jobs.event"),
                  t("jobs.receiver"),
                  t("jobs.tries"),
                  t("jobs.failed_since"),
                  t("jobs.error"),
                  "",
                ]}
              >
                {rows.map((letter) => (
                  <Table.Tr key={letter.id}>
                    <Table.Td>
                      <Button
                        variant="subtle"
                        size="compact-xs"
                        aria-label={t("jobs.show_letter", { id: letter.id })}
                        onClick={() => setShown(letter.id)}
                      >
                        {letter.type}
                      </Button>
                    </Table.Td>
                    <Table.Td>{letter.receiver}</Table.Td>
                    <Table.Td>
                      <Badge variant="outline" size="sm">{format.number(letter.attempts)}</Badge>
                    </Table.Td>
                    <Table.Td>{format.time(letter.first_failed_at)}</Table.Td>
                    <Table.Td>{letter.error ?? "–"}</Table.Td>
                    <Table.Td>
                      <Group gap={4} wrap="nowrap">
                        <Button
                          size="compact-xs"
                          variant="default"
                          aria-label={t("jobs.replay_one", { id: letter.id })}
                          onClick={() => replay.mutate({ ids: [letter.id] })}
                        >
                          {t("jobs.replay")}
                        </Button>
                        <Button
                          size="compact-xs"
                          variant="default"
                          color="red"
                          aria-label={t("jobs.drop_one", { id: letter.id })}
                          onClick={() => drop.mutate(letter.id)}
                        >
                          {t("jobs.drop")}
                        </Button>
                      </Group>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Rows>
            </>
          )}
      </Loaded>
      <More query={letters} />
      <Side title={t("jobs.letter")} opened={shown !== null} close={() => setShown(null)}>
        {shown !== null && <OneLetter id={shown} />}
      </Side>
    </Stack>
  );
}

function OneLetter({ id }: { id: number }) {
  const { t } = useTranslation();
  const { api } = useConsole();
  const letter = useQuery({
    queryKey: ["dead_letters", "one", id],
    queryFn: ({ signal }) => api.get("/dead-letters/detail", { id }, signal),
    placeholderData: undefined,
  });
  return (
    <Loaded query={letter}>
      {({ dead_letter }) => (
        <Stack>
          <Text size="sm">{dead_letter.error ?? "–"}</Text>
          <Json title={t("jobs.event")} value={dead_letter.event} />
        </Stack>
      )}
    </Loaded>
  );
}
