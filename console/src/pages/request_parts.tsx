import { Button, Card, Code, CopyButton, Group, Progress, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import type { RequestDetail } from "../api/shapes.ts";
import { useFormat } from "../i18n/format.ts";
import { turnsOf } from "../parts/conversation.ts";
import { Markdown } from "../parts/markdown.tsx";
import { keepDraft } from "../parts/playground_draft.ts";
import { dropPictures } from "../parts/playground_pictures.ts";
import { useCallTarget } from "../parts/snippet.tsx";
import { snippetOf } from "../parts/snippets.ts";

/** The attempts along the request's time: what each waited, and what upstream took. */
export function Waterfall({ request }: { request: RequestDetail }) {
  const { t } = useTranslation();
  const format = useFormat();
  const begun = Date.parse(request.at);
  const ended = Math.max(
    Date.parse(request.finished_at ?? request.at),
    ...request.tries.map((one) => Date.parse(one.start_at) + (one.latency_ms ?? 0)),
  );
  const whole = Math.max(ended - begun, 1);
  const share = (ms: number) => 100 * Math.max(ms, 0) / whole;
  return (
    <Stack gap={4}>
      {request.tries.map((one) => {
        const start = Math.min(Date.parse(one.start_at), Date.parse(one.settled_at));
        const words = t("requests.attempt_times", {
          wait: format.duration(one.wait_ms),
          latency: format.duration(one.latency_ms),
        });
        return (
          <div key={one.attempt}>
            <Text size="xs">{`${one.attempt}. ${words}`}</Text>
            <Progress.Root size="lg" aria-label={`${one.attempt}: ${words}`} role="img">
              <Progress.Section
                value={share(start - one.wait_ms - begun)}
                color="transparent"
                withAria={false}
              />
              <Progress.Section value={share(one.wait_ms)} color="yellow.5" withAria={false} />
              <Progress.Section
                value={share(one.latency_ms ?? 0)}
                color={one.outcome === "succeeded" ? "green.6" : "red.6"}
                withAria={false}
              />
            </Progress.Root>
          </div>
        );
      })}
      <Text size="xs" c="dimmed">{t("requests.waterfall", { whole: format.duration(whole) })}</Text>
    </Stack>
  );
}

/** Markdown is shown as such; HTML that a model or a user wrote is text. */
export function Conversation({ capture }: { capture: NonNullable<RequestDetail["capture"]> }) {
  const { t } = useTranslation();
  const turns = [...turnsOf(capture.prompt, "user"), ...turnsOf(capture.answer, "model")];
  return (
    <Stack gap="xs">
      {turns.map((turn, place) => (
        <Card key={place} withBorder padding="xs">
          <Text size="xs" c="dimmed">{turn.role}</Text>
          <Markdown>{turn.text}</Markdown>
        </Card>
      ))}
      <details>
        <summary>{t("requests.as_json")}</summary>
        <Code block tabIndex={0}>
          {JSON.stringify({ prompt: capture.prompt, answer: capture.answer }, null, 2)}
        </Code>
      </details>
    </Stack>
  );
}

/** The same call as a command, and in the playground; what was asked is in it as far as it was captured. */
export function Again({ request }: { request: RequestDetail }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const turns = turnsOf(request.capture?.prompt, "user");
  const prompt = turns.filter(({ role }) => role !== "system").map(({ text }) => text).join("\n\n");
  const system = turns.filter(({ role }) => role === "system").map(({ text }) => text).join("\n\n");
  const curl = snippetOf("curl", useCallTarget(), {
    model: request.requested_model,
    prompt: prompt || "...",
    ...(system && { system }),
  });
  return (
    <Group gap="xs">
      <Button
        size="xs"
        onClick={async () => {
          keepDraft({ targets: [request.requested_model, null, null], prompt, system });
          await dropPictures();
          navigate("/playground");
        }}
      >
        {t("requests.again")}
      </Button>
      <CopyButton value={curl}>
        {({ copied, copy }) => (
          <Button size="xs" variant="default" onClick={copy}>
            {copied ? t("copied") : t("requests.copy_curl")}
          </Button>
        )}
      </CopyButton>
    </Group>
  );
}
