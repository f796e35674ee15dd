import {
  Button,
  Code,
  Drawer,
  Group,
  Select,
  Stack,
  Switch,
  Table,
  Text,
  TextInput,
  Timeline,
  Title,
} from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useSearch } from "wouter";
import type { RequestRow, RequestsAnswer, RequestState } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { codeWords } from "../parts/code_words.ts";
import { csvOf } from "../parts/csv.ts";
import { idOf, useLiveRequests } from "../parts/live_requests.ts";
import { useAction } from "../parts/mutation.ts";
import { Page } from "../parts/page.tsx";
import { requestAddress, type Shown, shownBy } from "../parts/request_address.ts";
import { saveFile } from "../parts/save_file.ts";
import { StateBadge } from "../parts/state_badge.tsx";
import { EmptyState, Loaded } from "../parts/states.tsx";
import { ListFrame } from "../parts/list_frame.tsx";
import { VirtualBody } from "../parts/virtual_body.tsx";
import { EVERY_MS } from "../queries.ts";
import { Again, Captured, Waterfall } from "./request_parts.tsx";

const STATES: RequestState[] = ["running", "succeeded", "failed", "cancelled", "expired", "refused"];
const PAGE = 50;
/** While a person types. */
const PAUSE_MS = 300;

const TEXTS = ["request_id", "consumer", "model", "key", "error_code"] as const;
const TIMES = ["since", "until"] as const;
const NAMES = [...TEXTS, "outcome", ...TIMES] as const;

/** Empty texts are not asked for. Times are as the field has them: local, to the minute. */
type Filter = Record<typeof NAMES[number], string>;

/** The filter is in the address, to be kept and sent. */
function filterOfAddress(): Filter {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""])) as Filter;
}

/** Whether what has just ended is asked for; times are of what had ended before. */
const isAsked = (row: RequestRow, { request_id, consumer, model, key, error_code, outcome }: Filter) =>
  (request_id === "" || row.request_id === request_id) &&
  (consumer === "" || row.consumer === consumer) &&
  (model === "" || row.model === model || row.requested_model === model) &&
  (key === "" || row.key === key) &&
  (error_code === "" || row.error_code === error_code) &&
  (outcome === "" || row.state === outcome);

/** As the gateway takes it. */
const askedOf = (filter: Filter) => ({
  ...filter,
  ...Object.fromEntries(
    TIMES.filter((name) => filter[name] !== "").map((name) => [name, new Date(filter[name]).toISOString()]),
  ),
});

/** Names of consumers, of those that have what is typed in them. */
const SUGGESTED = 20;
/** An export is of the newest so many. */
const MOST_EXPORTED = 10_000;
const EXPORT_PAGE = 1_000;

export default function RequestsPage({ requestNo }: { requestNo: string | undefined }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [, navigate] = useLocation();
  // Tells when the parameters change; they are read as they stand, since this has them decoded.
  useSearch();
  const shown = shownBy(requestNo, location.search);
  const [filter, setFilter] = useState(filterOfAddress);
  const [asked] = useDebouncedValue(filter, PAUSE_MS);
  const [live, setLive] = useState(false);
  const news = useLiveRequests(live).filter((row) => isAsked(row, asked));
  const address = requestAddress(shown, asked);
  useEffect(() => {
    // While the next page is loaded this one is hidden, and still runs: a pause that ends then must not lead back.
    if (location.hash.startsWith("#/requests")) navigate(address, { replace: true });
  }, [address]);
  const requests = useInfiniteQuery({
    queryKey: ["requests", asked],
    queryFn: ({ signal, pageParam }) =>
      api.get("/requests", { ...askedOf(asked), before: pageParam, limit: PAGE }, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_before,
    // Older pages do not change: only somebody who looks at the newest sees them renewed.
    refetchInterval: (query) => live || (query.state.data?.pages.length ?? 0) > 1 ? false : EVERY_MS.requests,
  });
  const keys = useQuery({
    queryKey: ["keys"],
    queryFn: ({ signal }) => api.get("/keys", {}, signal),
    staleTime: 60_000,
  });
  const models = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => api.get("/models", {}, signal),
    staleTime: 60_000,
  });
  const consumers = useQuery({
    queryKey: ["consumers", "named", asked.consumer],
    queryFn: ({ signal }) => api.get("/consumers", { search: asked.consumer, limit: SUGGESTED }, signal),
    staleTime: 60_000,
  });
  const listed = new Set(news.map(idOf));
  const rows = [
    ...news,
    ...(requests.data?.pages.flatMap((page) => page.requests) ?? []).filter((row) => !listed.has(idOf(row))),
  ];
  const known = {
    consumer: consumers.data?.consumers.map(({ name }) => name) ?? [],
    model: models.data?.models.map(({ model }) => model) ?? [],
    key: keys.data?.keys.flatMap(({ alias }) => alias ?? []) ?? [],
    error_code: rows.flatMap(({ error_code }) => error_code ?? []),
  };
  const exporting = useAction(async (kind: "csv" | "json") => {
    const found: RequestRow[] = [];
    let before: string | null = null;
    do {
      const page: RequestsAnswer = await api.get("/requests", {
        ...askedOf(asked),
        before,
        limit: EXPORT_PAGE,
      });
      found.push(...page.requests);
      before = page.next_before;
    } while (before !== null && found.length < MOST_EXPORTED);
    saveFile(`requests.${kind}`, kind === "csv" ? csvOf(found) : JSON.stringify(found, null, 2));
    return found.length;
  }, {
    touches: [],
    done: (count) => ({ message: t("requests.exported", { count }) }),
    failed: t("requests.export_failed"),
  });
  const text = (name: typeof TEXTS[number]) => ({
    label: t(`requests.${name}`),
    value: filter[name],
    onChange: (event: { currentTarget: { value: string } }) => {
      const value = event.currentTarget.value.trim();
      setFilter((now) => ({ ...now, [name]: value }));
    },
  });
  return (
    <Page title={t("requests.title")} about={t("requests.about")}>
      <Group component="search" align="flex-end">
        {TEXTS.map((name) =>
          name === "request_id"
            ? <TextInput key={name} {...text(name)} />
            : <TextInput key={name} {...text(name)} list={`known-${name}`} />
        )}
        <Known name="consumer" values={known.consumer} />
        <Known name="model" values={known.model} />
        <Known name="key" values={known.key} />
        <Known name="error_code" values={known.error_code} />
        <Select
          label={t("requests.outcome")}
          placeholder={t("all")}
          clearable
          clearButtonProps={{ "aria-label": t("clear") }}
          data={STATES.map((value) => ({ value, label: t(`requests.state.${value}`) }))}
          value={filter.outcome || null}
          onChange={(value) => setFilter((now) => ({ ...now, outcome: value ?? "" }))}
        />
        {TIMES.map((name) => (
          <TextInput
            key={name}
            type="datetime-local"
            label={t(`requests.${name}`)}
            value={filter[name]}
            onChange={(event) => {
              const value = event.currentTarget.value;
              setFilter((now) => ({ ...now, [name]: value }));
            }}
          />
        ))}
        <Switch
          label={t("requests.live")}
          checked={live}
          onChange={(event) => setLive(event.currentTarget.checked)}
        />
        {(["csv", "json"] as const).map((kind) => (
          <Button
            key={kind}
            variant="default"
            loading={exporting.isPending}
            onClick={() => exporting.mutate(kind)}
          >
            {t(`requests.export.${kind}`)}
          </Button>
        ))}
      </Group>
      <Loaded query={requests}>
        {() => (
          <>
            {rows.length === 0 && (
              <EmptyState title={t("requests.empty")}>{t("requests.empty_how")}</EmptyState>
            )}
            {rows.length > 0 && (
              <ListFrame minWidth={820}>
                <Table highlightOnHover aria-label={t("requests.title")}>
                  <Table.Thead>
                    <Table.Tr>
                      {([
                        "ended",
                        "outcome",
                        "consumer",
                        "model",
                        "tokens",
                        "wait",
                        "duration",
                        "request_id",
                      ] as const)
                        .map((name) => <Table.Th key={name}>{t(`requests.${name}`)}</Table.Th>)}
                    </Table.Tr>
                  </Table.Thead>
                  <VirtualBody>
                    {rows.map((row) => (
                      <Table.Tr
                        key={row.request_no ?? `refusal ${row.refusal_no}`}
                        style={{ cursor: "pointer" }}
                        onClick={() => {
                          // Who marks a text to copy it opens nothing.
                          if (String(getSelection()) === "") navigate(requestAddress(shownOf(row), asked));
                        }}
                      >
                        <Table.Td>{format.time(row.finished_at)}</Table.Td>
                        <Table.Td>
                          <StateBadge state={row.state} label={t(`requests.state.${row.state}`)} />
                          {row.error_code && <Text size="xs">{row.error_code}</Text>}
                        </Table.Td>
                        <Table.Td>{row.consumer ?? t("requests.project_key")}</Table.Td>
                        <Table.Td>{row.model}</Table.Td>
                        <Table.Td>
                          {`${format.number(row.input_tokens)} / ${format.number(tokensOut(row))}`}
                        </Table.Td>
                        <Table.Td>{row.state === "refused" ? "–" : format.duration(row.wait_ms)}</Table.Td>
                        <Table.Td>
                          {row.state === "refused" ? "–" : format.duration(row.duration_ms)}
                        </Table.Td>
                        <Table.Td>
                          {/* For the keyboard: its click is the row's. */}
                          <Button
                            variant="subtle"
                            size="compact-xs"
                            aria-label={t("requests.open", { id: row.request_id })}
                          >
                            {row.request_id}
                          </Button>
                        </Table.Td>
                      </Table.Tr>
                    ))}
                  </VirtualBody>
                </Table>
              </ListFrame>
            )}
          </>
        )}
      </Loaded>
      {requests.hasNextPage && (
        <Group justify="center">
          <Button
            variant="default"
            loading={requests.isFetchingNextPage}
            onClick={() => requests.fetchNextPage()}
          >
            {t("more")}
          </Button>
        </Group>
      )}
      <Errors />
      <Drawer
        opened={shown !== undefined}
        onClose={() => navigate(requestAddress(undefined, asked))}
        position="right"
        size="lg"
        title={shown && "request_id" in shown
          ? t("requests.one_refused", { id: shown.request_id })
          : t("requests.one", { no: requestNo })}
        closeButtonProps={{ "aria-label": t("close") }}
      >
        {shown && <OneRequest shown={shown} />}
      </Drawer>
    </Page>
  );
}

const shownOf = ({ request_no, request_id, consumer }: RequestRow): Shown =>
  request_no === null ? { request_id, consumer } : { request_no: String(request_no) };

/** What a field may have, as the browser suggests it. */
function Known({ name, values }: { name: string; values: string[] }) {
  return (
    <datalist id={`known-${name}`}>
      {[...new Set(values)].map((value) => <option key={value} value={value} />)}
    </datalist>
  );
}

/** The answer and the thinking, which is paid for like it; of the last attempt. */
function tokensOut({ input_tokens, output_tokens, total_tokens }: RequestRow): number | null {
  return total_tokens === null || input_tokens === null ? output_tokens : total_tokens - input_tokens;
}

/** What is refused for what it is has no row of its own. */
function Errors() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const errors = useQuery({
    queryKey: ["requests", "errors"],
    queryFn: ({ signal }) =>
      api.get("/requests/errors", { since: new Date(Date.now() - 86_400_000).toISOString() }, signal),
    refetchInterval: EVERY_MS.slow,
  });
  if (!errors.data || errors.data.errors.length === 0) return null;
  return (
    <section aria-label={t("requests.errors")}>
      <Title order={2} size="h4">{t("requests.errors")}</Title>
      <Text size="sm" c="dimmed">{t("requests.errors_about")}</Text>
      <Table aria-label={t("requests.errors")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{t("requests.code")}</Table.Th>
            <Table.Th>{t("requests.consumer")}</Table.Th>
            <Table.Th ta="right">{t("requests.times")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {errors.data.errors.map((error) => (
            <Table.Tr key={`${error.code} ${error.consumer}`}>
              <Table.Td>{error.code}</Table.Td>
              <Table.Td>{error.consumer ?? t("requests.unknown_consumer")}</Table.Td>
              <Table.Td ta="right">{format.number(error.times)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </section>
  );
}

function OneRequest({ shown }: { shown: Shown }) {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const detail = useQuery({
    queryKey: ["requests", "one", shown],
    queryFn: ({ signal }) => api.get("/requests/detail", { ...shown }, signal),
    placeholderData: undefined,
    refetchInterval: (query) => query.state.data?.state === "running" ? EVERY_MS.requests : false,
  });
  return (
    <Loaded query={detail}>
      {(request) => (
        <Stack>
          <Facts request={request} />
          {request.error_code && <Text size="sm">{codeWords(request.error_code, t)}</Text>}
          <Again request={request} />
          <Title order={3} size="h5">{t("requests.attempts")}</Title>
          {request.tries.length > 0 && <Waterfall request={request} />}
          <Timeline bulletSize={14} lineWidth={2} active={request.tries.length}>
            <Timeline.Item title={t("requests.received")}>
              <Text size="xs" c="dimmed">{format.time(request.at)}</Text>
            </Timeline.Item>
            {request.refusals.map((refusal) => (
              <Timeline.Item
                key={refusal.at}
                title={`${t("requests.state.refused")}: ${refusal.error_code}`}
                color="yellow"
              >
                {refusal.limit && (
                  <Text size="sm">
                    {t("requests.refused_by", {
                      limit: t(`requests.limits.${refusal.limit as "rpm"}`, { defaultValue: refusal.limit }),
                    })}
                    {refusal.retry_after_ms !== null && ` ${
                      t("requests.fits", {
                        at: format.time(
                          new Date(Date.parse(refusal.at) + refusal.retry_after_ms).toISOString(),
                        ),
                        after: format.duration(refusal.retry_after_ms),
                      })
                    }`}
                  </Text>
                )}
                <Text size="xs" c="dimmed">{format.time(refusal.at)}</Text>
              </Timeline.Item>
            ))}
            {request.tries.map((attempt) => (
              <Timeline.Item
                key={attempt.attempt}
                color={attempt.outcome === "succeeded" ? "green" : "red"}
                title={t("requests.attempt", {
                  no: attempt.attempt,
                  model: attempt.model,
                  key: attempt.key ?? "–",
                })}
              >
                <Text size="sm">
                  {t("requests.attempt_times", {
                    wait: format.duration(attempt.wait_ms),
                    latency: format.duration(attempt.latency_ms),
                  })}
                </Text>
                <Text size="sm">
                  {t("requests.attempt_tokens", {
                    booked: format.number(attempt.tokens_booked),
                    input: format.number(attempt.input_tokens),
                    output: format.number(attempt.output_tokens),
                    thoughts: format.number(attempt.thoughts_tokens ?? 0),
                  })}
                  {attempt.usage_estimated && ` (${t("requests.estimated")})`}
                </Text>
                {attempt.error_code && (
                  <Text size="sm">
                    {[attempt.error_code, attempt.upstream_status, attempt.error_detail].filter(Boolean).join(
                      " · ",
                    )}
                  </Text>
                )}
                <Text size="xs" c="dimmed">
                  {`${format.time(attempt.start_at)} · ${attempt.quota_project ?? "–"}`}
                </Text>
              </Timeline.Item>
            ))}
            {request.running && (
              <Timeline.Item title={t("requests.state.running")} color="blue">
                <Text size="xs" c="dimmed">
                  {t("requests.lease", { until: format.time(request.running.lease_until) })}
                </Text>
              </Timeline.Item>
            )}
          </Timeline>
          {Object.keys(request.metadata ?? {}).length > 0 && (
            <>
              <Title order={3} size="h5">{t("requests.metadata")}</Title>
              <Code block tabIndex={0}>{JSON.stringify(request.metadata, null, 2)}</Code>
            </>
          )}
          <Title order={3} size="h5">{t("requests.captured")}</Title>
          {request.capture
            ? <Captured capture={request.capture} />
            : <Text size="sm" c="dimmed">{t("requests.not_captured")}</Text>}
        </Stack>
      )}
    </Loaded>
  );
}

function Facts({ request }: { request: RequestRow }) {
  const { t } = useTranslation();
  const format = useFormat();
  const facts: [string, string][] = [
    [t("requests.request_id"), request.request_id],
    [
      t("requests.outcome"),
      [t(`requests.state.${request.state}`), request.error_code].filter(Boolean).join(": "),
    ],
    [t("requests.consumer"), request.consumer ?? t("requests.project_key")],
    [
      t("requests.model"),
      request.model === request.requested_model
        ? request.model
        : `${request.requested_model} → ${request.model}`,
    ],
    [t("requests.endpoint"), `${request.endpoint}, ${t(`class.${request.class}`)}`],
    [t("requests.at"), format.time(request.at)],
    [t("requests.ended"), format.time(request.finished_at)],
    ...(request.state === "refused" ? [] : [
      [t("requests.wait"), format.duration(request.wait_ms)],
      [t("requests.duration"), format.duration(request.duration_ms)],
    ] satisfies [string, string][]),
    [t("requests.tokens"), `${format.number(request.input_tokens)} / ${format.number(tokensOut(request))}`],
    [t("requests.trace"), request.trace_id ?? "–"],
  ];
  return (
    <Table variant="vertical" layout="fixed">
      <Table.Tbody>
        {facts.map(([name, value]) => (
          <Table.Tr key={name}>
            <Table.Th w={150}>{name}</Table.Th>
            <Table.Td style={{ overflowWrap: "anywhere" }}>{value}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
