import {
  Anchor,
  Badge,
  Button,
  Card,
  Code,
  FileInput,
  Group,
  NumberInput,
  SegmentedControl,
  Select,
  SimpleGrid,
  Stack,
  Text,
  Textarea,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, type KeyboardEvent, useEffect, useState, useSyncExternalStore } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { ApiError } from "../api/api.ts";
import { readEvents } from "../api/events.ts";
import type { Job } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { turnsOf } from "../parts/conversation.ts";
import { Conversation } from "../parts/conversation_cards.tsx";
import { errorWords } from "../parts/error_words.ts";
import { Markdown } from "../parts/markdown.tsx";
import { Page } from "../parts/page.tsx";
import {
  bodyOf,
  GENERATION,
  jsonOf,
  keepDraft,
  type Picture,
  type PlaygroundDraft,
  readDraft,
  turnsIn,
} from "../parts/playground_draft.ts";
import { keepPictures, readPictures } from "../parts/playground_pictures.ts";
import { NOTHING, playgroundRuns, type Run } from "../parts/playground_runs.ts";
import { Snippet } from "../parts/snippet.tsx";

/** A model or, with this before its name, a stage. */
const STAGE = "stage:";

/** As often as the gateway asks the provider. */
const JOB_POLL_MS = 3_000;

/** Below what a body of the admin API may have, as base64. */
const MOST_PICTURE_BYTES = 6_000_000;

export default function PlaygroundPage() {
  const { t } = useTranslation();
  const format = useFormat();
  const { api } = useConsole();
  const [draft, setDraft] = useState(readDraft);
  const change = (part: Partial<PlaygroundDraft>) => setDraft((now) => ({ ...now, ...part }));
  useEffect(() => keepDraft(draft), [draft]);
  const [pictures, setPictures] = useState<File[]>([]);
  useEffect(() => {
    readPictures().then((kept) => setPictures((now) => now.length > 0 ? now : kept));
  }, []);
  const choosePictures = (files: File[]) => {
    setPictures(files);
    keepPictures(files, MOST_PICTURE_BYTES);
  };
  const { runs, asking } = useSyncExternalStore(playgroundRuns.subscribe, playgroundRuns.read);
  const places = Array.from({ length: draft.count }, (_, place) => place);
  const problemOf = (text: string, kind: "list" | "object") => {
    const { problem } = jsonOf(text, kind);
    return problem && t(`playground.${problem.name}`, { reason: problem.reason });
  };
  const size = pictures.reduce((sum, { size }) => sum + size, 0);
  const problems = {
    schema: problemOf(draft.schema, "object"),
    tools: problemOf(draft.tools, "list"),
    turns: problemOf(draft.turns, "list"),
    more: problemOf(draft.more, "object"),
    pictures: size > MOST_PICTURE_BYTES
      ? t("playground.pictures_too_large", { size: format.bytes(size) })
      : null,
  };

  const models = useQuery({
    queryKey: ["models", "all"],
    queryFn: ({ signal }) => api.get("/models/all", {}, signal),
    staleTime: 60_000,
  });
  const stages = useQuery({
    queryKey: ["providers"],
    queryFn: ({ signal }) => api.get("/providers", {}, signal),
  });
  const stageTypes = (stages.data?.stages ?? []).map(({ stage_type }) => stage_type);
  const names = (models.data?.models ?? []).filter(({ model, replaced_by, is_active }) =>
    is_active && !replaced_by && !model.startsWith(STAGE)
  ).map(({ model }) => model);
  // What was asked once more may be served by another model by now, or by none: that is said by the answer.
  const others = draft.targets.filter((target) =>
    target !== null && !names.includes(target) &&
    !(target.startsWith(STAGE) && stageTypes.includes(target.slice(STAGE.length)))
  );
  const choices = [
    {
      group: t("playground.stages"),
      items: stageTypes.map((stage) => ({ value: STAGE + stage, label: stage })),
    },
    {
      group: t("playground.models"),
      items: [...new Set([...names, ...others])].map((model) => ({ value: model!, label: model! })),
    },
  ];
  const thinks = (target: string | null | undefined) => {
    if (!target) return false;
    const stage = target.startsWith(STAGE) ? target.slice(STAGE.length) : null;
    const config = stages.data?.stages.find(({ stage_type }) => stage_type === stage);
    const served = stage === null ? target : config?.config?.model ?? config?.environment?.model;
    return models.data?.models.find(({ model }) => model === served)?.supports_thinking ?? false;
  };
  const someThink = draft.targets.slice(0, draft.count).some(thinks);
  const turns = turnsIn(draft);

  async function run(index: number, target: string, shown: Picture[], signal: AbortSignal) {
    const begun = performance.now();
    const update = (change: Partial<Run>) => playgroundRuns.update(index, change);
    update({ state: "asking" });
    let text = "";
    const parts: unknown[] = [];
    try {
      const stage = target.startsWith(STAGE) ? target.slice(STAGE.length) : null;
      const produces = stages.data?.stages.find(({ stage_type }) => stage_type === stage)?.produces ?? "text";
      if (produces !== "text") return await runJob(stage!, update, begun, signal);
      const response = await api.open(
        "/invoke",
        { ...bodyOf(draft, targetOf(target), shown, thinks(target)), stream: true },
        signal,
      );
      for await (const event of readEvents(response)) {
        if (event.type === "queued") update({ state: "queued" });
        if (event.type === "started") update({ state: "answering", model: event.model });
        if (event.type === "delta") {
          if (event.text && text === "") update({ firstMs: performance.now() - begun });
          text += event.text;
          parts.push(...event.parts.filter(isNoText));
          update({ text, parts: [...parts] });
        }
        if (event.type === "usage") {
          update({ inputTokens: event.input_tokens, outputTokens: event.output_tokens });
        }
        if (event.type === "done") {
          update({
            state: "done",
            model: event.model,
            requestId: event.request_id,
            totalMs: performance.now() - begun,
          });
        }
        if (event.type === "error") {
          update({ state: "failed", problem: event.message, requestId: event.request_id });
        }
      }
    } catch (error) {
      if (signal.aborted) return update({ state: "failed", problem: t("playground.stopped") });
      update({
        state: "failed",
        problem: errorWords(error as Error, t),
        requestId: error instanceof ApiError ? error.requestId ?? null : null,
      });
    }
  }

  async function runJob(
    stage: string,
    update: (change: Partial<Run>) => void,
    begun: number,
    signal: AbortSignal,
  ) {
    let { job } = await (await api.open("/invoke", { stage, prompt: draft.prompt }, signal)).json() as {
      job: Job;
    };
    update({ state: "making", model: job.model });
    while (job.status === "running") {
      await pause(JOB_POLL_MS, signal);
      ({ job } = await api.get(`/jobs/${job.id}`, {}, signal));
    }
    if (job.status === "failed") {
      return update({ state: "failed", problem: job.error?.message ?? t("playground.failed") });
    }
    const files = [];
    for (const file of job.result?.files ?? []) {
      // What the gateway keeps itself needs the session, which an element of the page does not send.
      const kept = file.url.endsWith("/content");
      const url = kept ? URL.createObjectURL(await api.file(`/job-content/${job.id}`, signal)) : file.url;
      files.push({ url, mimeType: file.mime_type, title: file.title });
    }
    update({ state: "done", files, totalMs: performance.now() - begun });
  }

  async function ask(event: FormEvent) {
    event.preventDefault();
    if (asking || Object.values(problems).some((problem) => problem !== null)) return;
    const controller = new AbortController();
    playgroundRuns.begin(controller, draft.count);
    try {
      const shown = await Promise.all(pictures.map(pictureOf));
      await Promise.all(places.map((place) => {
        const target = draft.targets[place];
        return target && run(place, target, shown, controller.signal);
      }));
    } finally {
      playgroundRuns.end();
    }
  }

  const first = draft.targets[0];
  return (
    <Page title={t("playground.title")} about={t("playground.about")}>
      <form onSubmit={ask}>
        <Stack>
          <Group align="flex-end">
            {places.map((index) => (
              <Select
                key={index}
                label={draft.count > 1
                  ? t("playground.target_no", { no: index + 1 })
                  : t("playground.target")}
                required
                searchable
                data={choices}
                value={draft.targets[index] ?? null}
                onChange={(value) =>
                  change({ targets: draft.targets.map((was, at) => at === index ? value : was) })}
                nothingFoundMessage={t("nothing_found")}
              />
            ))}
            <SegmentedControl
              aria-label={t("playground.count")}
              value={String(draft.count)}
              onChange={(value) => change({ count: Number(value) })}
              data={COUNTS.map((value) => ({ value, label: t(`playground.counts.${value}`) }))}
            />
          </Group>
          <Textarea
            label={t("playground.system")}
            autosize
            minRows={1}
            maxRows={6}
            value={draft.system}
            onChange={(event) => change({ system: event.currentTarget.value })}
          />
          {turns.length > 0 && (
            <Card withBorder component="section" aria-label={t("playground.turns")} padding="xs">
              <Group justify="space-between">
                <Text size="sm" fw={500}>{t("playground.turns")}</Text>
                <Button
                  size="compact-xs"
                  variant="default"
                  onClick={() =>
                    change({ turns: "" })}
                >
                  {t("playground.turns_out")}
                </Button>
              </Group>
              <Conversation turns={turnsOf({ contents: turns }, "user")} />
            </Card>
          )}
          <Textarea
            label={t("playground.prompt")}
            required={turns.length === 0}
            autosize
            minRows={4}
            maxRows={16}
            value={draft.prompt}
            onKeyDown={askByKey}
            onChange={(event) => change({ prompt: event.currentTarget.value })}
          />
          <FileInput
            label={t("playground.pictures")}
            description={t("playground.pictures_about", { most: format.bytes(MOST_PICTURE_BYTES) })}
            accept="image/*"
            multiple
            clearable
            clearButtonProps={{ "aria-label": t("clear") }}
            value={pictures}
            onChange={choosePictures}
            error={problems.pictures}
          />
          <details>
            <summary>{t("playground.parameters")}</summary>
            <Stack mt="xs">
              <Group grow align="flex-end">
                {GENERATION.map((name) => (
                  <NumberInput
                    key={name}
                    label={t(`playground.${name}`)}
                    {...BOUNDS[name]}
                    value={draft.generation[name]}
                    onChange={(value) =>
                      change({ generation: { ...draft.generation, [name]: String(value) } })}
                  />
                ))}
              </Group>
              {someThink && (
                <Group grow align="flex-end">
                  <Select
                    label={t("playground.thinking_level")}
                    placeholder={t("playground.models_own")}
                    data={LEVELS.map((value) => ({ value, label: t(`playground.levels.${value}`) }))}
                    value={draft.thinking.thinking_level || null}
                    clearable
                    clearButtonProps={{ "aria-label": t("clear") }}
                    onChange={(value) =>
                      change({ thinking: { thinking_level: value ?? "", thinking_budget: "" } })}
                  />
                  <NumberInput
                    label={t("playground.thinking_budget")}
                    placeholder={t("playground.models_own")}
                    min={-1}
                    max={10_000_000}
                    allowDecimal={false}
                    value={draft.thinking.thinking_budget}
                    onChange={(value) =>
                      change({ thinking: { thinking_level: "", thinking_budget: String(value) } })}
                  />
                </Group>
              )}
              {(["schema", "tools", "turns", "more"] as const).map((name) => (
                <Textarea
                  key={name}
                  label={t(`playground.${name}_json`)}
                  autosize
                  minRows={2}
                  maxRows={12}
                  spellCheck={false}
                  styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)" } }}
                  value={draft[name]}
                  onChange={(event) => change({ [name]: event.currentTarget.value })}
                  error={problems[name]}
                />
              ))}
            </Stack>
          </details>
          <Group>
            <Button type="submit" loading={asking !== null}>{t("playground.ask")}</Button>
            {asking && (
              <Button variant="default" onClick={() => asking.abort()}>
                {t("playground.stop")}
              </Button>
            )}
          </Group>
        </Stack>
      </form>
      <SimpleGrid cols={{ base: 1, md: draft.count }}>
        {places.map((index) => <Answer key={index} run={runs[index] ?? NOTHING} />)}
      </SimpleGrid>
      {first && (
        <details>
          <summary>{t("playground.snippet")}</summary>
          <Snippet kinds={WHOLE} body={bodyOf(draft, targetOf(first), [], thinks(first))} />
        </details>
      )}
    </Page>
  );
}

/** As Gemini has them; which of them a model takes, and whether a budget instead, it says itself. */
const LEVELS = ["MINIMAL", "LOW", "MEDIUM", "HIGH"] as const;
const COUNTS = ["1", "2", "3"] as const;
/** The languages that can say all of a call. */
const WHOLE = ["curl", "python", "supabase"] as const;
const BOUNDS = {
  temperature: { min: 0, max: 2, step: 0.1 },
  top_p: { min: 0, max: 1, step: 0.05 },
  max_output_tokens: { min: 1, max: 10_000_000, allowDecimal: false },
  seed: { min: 0, max: 2_147_483_647, allowDecimal: false },
} as const;

const targetOf = (target: string) =>
  target.startsWith(STAGE) ? { stage: target.slice(STAGE.length) } : { model: target };

const isNoText = (part: unknown) =>
  typeof part === "object" && part !== null && !("text" in part && typeof part.text === "string");

async function pictureOf(file: File): Promise<Picture> {
  const address = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return { inlineData: { mimeType: file.type, data: address.split(",")[1] ?? "" } };
}

/** Ctrl+Enter, and the other key that Macs have for it. */
function askByKey(event: KeyboardEvent<HTMLTextAreaElement>): void {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  event.currentTarget.form?.requestSubmit();
}

function Answer({ run }: { run: Run }) {
  const { t } = useTranslation();
  const format = useFormat();
  if (run.state === "idle") return null;
  return (
    <Card
      withBorder
      component="section"
      aria-label={t("playground.answer")}
      aria-busy={run.state !== "done" && run.state !== "failed"}
    >
      <Stack gap="xs">
        <Group gap="xs">
          <Badge variant="outline" tt="none">{t(`playground.state.${run.state}`)}</Badge>
          {run.model && <Text size="sm">{run.model}</Text>}
        </Group>
        <div className="answer" aria-live="polite">
          <Markdown>{run.text}</Markdown>
        </div>
        {run.text && (
          <details>
            <summary>{t("playground.as_text")}</summary>
            <Code block tabIndex={0}>{run.text}</Code>
          </details>
        )}
        {run.parts.length > 0 && (
          <Stack gap={4}>
            <Text size="sm">{t("playground.parts")}</Text>
            <Code block tabIndex={0}>{JSON.stringify(run.parts, null, 2)}</Code>
          </Stack>
        )}
        {run.files.map((file) => <MadeFile key={file.url} {...file} />)}
        {run.problem && <Text c="red" role="alert">{run.problem}</Text>}
        {run.totalMs !== null && (
          <Text size="xs" c="dimmed" className="figures">
            {t("playground.figures", {
              first: format.duration(run.firstMs),
              total: format.duration(run.totalMs),
              input: format.number(run.inputTokens),
              output: format.number(run.outputTokens),
            })}
          </Text>
        )}
        {run.requestId && (
          <Anchor
            component={Link}
            href={`/requests?request_id=${encodeURIComponent(run.requestId)}`}
            size="sm"
          >
            {t("playground.request")}
          </Anchor>
        )}
      </Stack>
    </Card>
  );
}

function MadeFile({ url, mimeType, title }: Run["files"][number]) {
  const name = title ?? mimeType;
  return (
    <Stack gap={4}>
      {mimeType.startsWith("audio/") && <audio controls src={url} aria-label={name} />}
      {mimeType.startsWith("video/") && (
        <video controls src={url} aria-label={name} style={{ maxWidth: "100%" }} />
      )}
      <Anchor href={url} target="_blank" rel="noreferrer" size="sm">{name}</Anchor>
    </Stack>
  );
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
