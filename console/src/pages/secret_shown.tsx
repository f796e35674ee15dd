import { Alert, Button, Code, CopyButton, Group, Stack } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Snippet } from "../parts/snippet.tsx";
import { FIRST_MODEL, SNIPPETS } from "../parts/snippets.ts";
import type { Secret } from "./consumer_form.tsx";

/** A secret that was just made, with a first call to copy. */
export function SecretShown({ name, kind, secret, model = FIRST_MODEL, opened = false, done }: Secret & {
  /** What the first call asks. */
  model?: string;
  /** Whether that call is shown at once. */
  opened?: boolean;
  done: () => void;
}) {
  const { t } = useTranslation();
  return (
    <Stack>
      <Alert color="yellow" variant="outline">{t("consumers.secret_once")}</Alert>
      <Code block data-testid="secret" style={{ overflowWrap: "anywhere", whiteSpace: "pre-wrap" }}>
        {secret}
      </Code>
      <details open={opened}>
        <summary>{t("consumers.snippet")}</summary>
        <Snippet
          kinds={SNIPPETS}
          body={{ model, prompt: "Hello" }}
          secret={secret}
          notebook={kind === "notebook"}
        />
      </details>
      <Group justify="flex-end">
        <Button
          component="a"
          variant="default"
          href={`data:text/plain,${encodeURIComponent(`${secret}\n`)}`}
          download={`${name}.secret.txt`}
        >
          {t("download")}
        </Button>
        <CopyButton value={secret}>
          {({ copied, copy }) => (
            <Button variant="default" onClick={copy}>{copied ? t("copied") : t("copy")}</Button>
          )}
        </CopyButton>
        <Button onClick={done}>{t("consumers.secret_kept")}</Button>
      </Group>
    </Stack>
  );
}
