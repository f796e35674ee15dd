import { Button, Code, CopyButton, Group, Progress, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import type { RequestDetail } from "../api/shapes.ts";
import { useFormat } from "../i18n/format.ts";
import { capturedCall } from "../parts/captured_call.ts";
import { turnsOf } from "../parts/conversation.ts";
import { Conversation } from "../parts/conversation_cards.tsx";
import { draftOf, keepDraft } from "../parts/playground_draft.ts";
import { dropPictures, keepPictures } from "../parts/playground_pictures.ts";
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

/** What was asked and answered, to be read, and as it was kept. */
export function Captured({ capture }: { capture: NonNullable<RequestDetail["capture"]> }) {
  const { t } = useTranslation();
  return (
    <Stack gap="xs">
      <Conversation turns={[...turnsOf(capture.prompt, "user"), ...turnsOf(capture.answer, "model")]} />
      <details>
        <summary>{t("requests.as_json")}</summary>
        <Code block tabIndex={0}>
          {JSON.stringify({ prompt: capture.prompt, answer: capture.answer }, null, 2)}
        </Code>
      </details>
    </Stack>
  );
}

/** Where the question is to be put in by hand. */
const UNKNOWN = { prompt: "..." };

/** The same call as a command, and in the playground: all that was kept of it, and else what is missing. */
export function Again({ request }: { request: RequestDetail }) {
  const { t } = useTranslation();
  const [, navigate] = useLocation();
  const call = capturedCall(request.capture?.prompt);
  const { body, leftOut } = typeof call === "string" ? { body: {}, leftOut: [] } : call;
  const curl = snippetOf("curl", useCallTarget(), {
    model: request.requested_model,
    ...(typeof call === "string" ? UNKNOWN : body),
    ...(request.class === "batch" && { class: "batch" }),
  });
  return (
    <Stack gap={4}>
      <Group gap="xs">
        <Button
          size="xs"
          onClick={async () => {
            const { draft, files } = draftOf(request.requested_model, body);
            keepDraft(draft);
            await (files.length === 0 ? dropPictures() : keepPictures(files.map(fileOf), Infinity));
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
      {typeof call === "string" && <Text size="xs" c="dimmed">{t(`requests.again_${call}`)}</Text>}
      {leftOut.length > 0 && (
        <Text size="xs" c="dimmed">{t("requests.again_left_out", { names: leftOut.join(", ") })}</Text>
      )}
    </Stack>
  );
}

function fileOf({ mimeType, data }: { mimeType: string; data: string }, place: number): File {
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  return new File([bytes], `${place + 1}.${mimeType.split("/")[1]}`, { type: mimeType });
}
