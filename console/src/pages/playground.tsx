import {
  Anchor,
  Badge,
  Button,
  Card,
  Group,
  Select,
  SimpleGrid,
  Stack,
  Switch,
  Text,
  Textarea,
} from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/api.ts";
import { readEvents } from "../api/events.ts";
import type { Job } from "../api/shapes.ts";
import { useConsole } from "../console_context.tsx";
import { useFormat } from "../i18n/format.ts";
import { Page } from "../parts/page.tsx";
import { keepDraft, readDraft } from "../parts/playground_draft.ts";

/** A model or, with this before its name, a stage. */
const STAGE = "stage:";

interface Run {
  state: "idle" | "asking" | "queued" | "making" | "answering" | "done" | "failed";
  text: string;
  problem: string | null;
  model: string | null;
  /** Until the first words, and until the end. */
  firstMs: number | null;
  totalMs: number | null;
  inputTokens: number | null;
  outputTokens: number | null;
  /** Of a stage that makes speech, songs or videos. */
  files: { url: string; mimeType: string; title: string | null }[];
}

const NOTHING: Run = {
  state: "idle",
  text: "",
  problem: null,
  model: null,
  firstMs: null,
  totalMs: null,
  inputTokens: null,
  outputTokens: null,
  files: [],
};

/** As often as the gateway asks the provider. */
const JOB_POLL_MS = 3_000;

export default function PlaygroundPage() {
  const { t } = useTranslation();
  const { api } = useConsole();
  const [draft] = useState(readDraft);
  const [targets, setTargets] = useState<(string | null)[]>(draft.targets);
  const [two, setTwo] = useState(draft.count > 1);
  const [system, setSystem] = useState(draft.system);
  const [prompt, setPrompt] = useState(draft.prompt);
  useEffect(() => keepDraft({ targets, count: two ? 2 : 1, system, prompt }), [targets, two, system, prompt]);
  const [runs, setRuns] = useState<Run[]>([NOTHING, NOTHING]);
  const asking = useRef<AbortController | null>(null);
  const [busy, setBusy] = useState(false);

  const models = useQuery({
    queryKey: ["models"],
    queryFn: ({ signal }) => api.get("/models", {}, signal),
    staleTime: 60_000,
  });
  const stages = useQuery({
    queryKey: ["providers"],
    queryFn: ({ signal }) => api.get("/providers", {}, signal),
  });
  const choices = [
    {
      group: t("playground.stages"),
      items: (stages.data?.stages ?? []).map(({ stage_type }) => ({
        value: STAGE + stage_type,
        label: stage_type,
      })),
    },
    {
      group: t("playground.models"),
      items: (models.data?.models ?? []).filter(({ model, replaced_by }) =>
        !replaced_by && !model.startsWith(STAGE)
      )
        .map(({ model }) => ({ value: model, label: model })),
    },
  ];

  async function run(index: number, target: string, signal: AbortSignal) {
    const begun = performance.now();
    const update = (change: Partial<Run>) =>
      setRuns((now) => now.map((run, at) => at === index ? { ...run, ...change } : run));
    update({ ...NOTHING, state: "asking" });
    let text = "";
    try {
      const stage = target.startsWith(STAGE) ? target.slice(STAGE.length) : null;
      const produces = stages.data?.stages.find(({ stage_type }) => stage_type === stage)?.produces ?? "text";
      if (produces !== "text") return await runJob(stage!, update, begun, signal);
      const response = await api.open("/invoke", {
        ...(stage === null ? { model: target } : { stage }),
        prompt,
        ...(system.trim() && { system }),
        stream: true,
      }, signal);
      for await (const event of readEvents(response)) {
        if (event.type === "queued") update({ state: "queued" });
        if (event.type === "started") update({ state: "answering", model: event.model });
        if (event.type === "delta" && event.text) {
          if (text === "") update({ firstMs: performance.now() - begun });
          text += event.text;
          update({ text });
        }
        if (event.type === "usage") {
          update({ inputTokens: event.input_tokens, outputTokens: event.output_tokens });
        }
        if (event.type === "done") {
          update({ state: "done", model: event.model, totalMs: performance.now() - begun });
        }
        if (event.type === "error") update({ state: "failed", problem: event.message });
      }
    } catch (error) {
      if (signal.aborted) return update({ state: "failed", problem: t("playground.stopped") });
      const problem = error instanceof ApiError && error.code === "unreachable"
        ? t("error.unreachable")
        : (error as Error).message;
      update({ state: "failed", problem });
    }
  }

  async function runJob(
    stage: string,
    update: (change: Partial<Run>) => void,
    begun: number,
    signal: AbortSignal,
  ) {
    let { job } = await (await api.open("/invoke", { stage, prompt }, signal)).json() as { job: Job };
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
    const wanted = targets.slice(0, two ? 2 : 1).filter((target) => target !== null);
    const controller = new AbortController();
    asking.current = controller;
    setBusy(true);
    await Promise.all(wanted.map((target, index) => run(index, target, controller.signal)));
    setBusy(false);
  }

  return (
    <Page title={t("playground.title")} about={t("playground.about")}>
      <form onSubmit={ask}>
        <Stack>
          <Group align="flex-end">
            {(two ? [0, 1] : [0]).map((index) => (
              <Select
                key={index}
                label={two ? t("playground.target_no", { no: index + 1 }) : t("playground.target")}
                required
                searchable
                data={choices}
                value={targets[index] ?? null}
                onChange={(value) => setTargets((now) => now.map((was, at) => at === index ? value : was))}
                nothingFoundMessage={t("nothing_found")}
              />
            ))}
            <Switch
              label={t("playground.compare")}
              checked={two}
              onChange={(event) => setTwo(event.currentTarget.checked)}
              pb="xs"
            />
          </Group>
          <Textarea
            label={t("playground.system")}
            autosize
            minRows={1}
            maxRows={6}
            value={system}
            onChange={(event) => setSystem(event.currentTarget.value)}
          />
          <Textarea
            label={t("playground.prompt")}
            required
            autosize
            minRows={4}
            maxRows={16}
            value={prompt}
            onKeyDown={askByKey}
            onChange={(event) => setPrompt(event.currentTarget.value)}
          />
          <Group>
            <Button type="submit" loading={busy}>{t("playground.ask")}</Button>
            {busy && (
              <Button variant="default" onClick={() => asking.current?.abort()}>
                {t("playground.stop")}
              </Button>
            )}
          </Group>
        </Stack>
      </form>
      <SimpleGrid cols={{ base: 1, md: two ? 2 : 1 }}>
        {(two ? [0, 1] : [0]).map((index) => <Answer key={index} run={runs[index] ?? NOTHING} />)}
      </SimpleGrid>
    </Page>
  );
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
        <div className="answer" aria-live="polite">{run.text}</div>
        {run.files.map((file) => <File key={file.url} {...file} />)}
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
      </Stack>
    </Card>
  );
}

function File({ url, mimeType, title }: Run["files"][number]) {
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
