import { Button, Code, CopyButton, Group, SegmentedControl, Stack } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { useConsole } from "../console_context.tsx";
import { type CallBody, type CallTarget, notebookSnippet, type SnippetKind, snippetOf } from "./snippets.ts";

/** Names of products: the same in every language. */
const NAMES: Record<SnippetKind, string> = {
  curl: "curl",
  python: "Python",
  openai: "OpenAI",
  google: "Google",
  supabase: "supabase-js",
};

/** Where this console's project takes calls. */
export function useCallTarget(secret: string | null = null): CallTarget {
  const { config } = useConsole();
  return { supabaseUrl: config.supabaseUrl, functionName: `${config.functionPrefix}llm-invoke`, secret };
}

/** One call as a program, in a language that is chosen. */
export function Snippet({ kinds, body, secret = null, notebook = false }: {
  kinds: readonly SnippetKind[];
  body: CallBody;
  secret?: string | null;
  /** For a notebook, which has only the helper. */
  notebook?: boolean;
}) {
  const { t } = useTranslation();
  const [kind, setKind] = useState<SnippetKind>(kinds[0]!);
  const target = useCallTarget(secret);
  const text = notebook ? notebookSnippet(target, String(body.prompt)) : snippetOf(kind, target, body);
  return (
    <Stack gap="xs">
      {!notebook && (
        <SegmentedControl
          size="xs"
          w="max-content"
          maw="100%"
          aria-label={t("snippet.language")}
          value={kind}
          onChange={(value) => setKind(value as SnippetKind)}
          data={kinds.map((value) => ({ value, label: NAMES[value] }))}
        />
      )}
      <Code block tabIndex={0} data-testid="snippet">{text}</Code>
      <Group>
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button size="xs" variant="default" onClick={copy}>{copied ? t("copied") : t("copy")}</Button>
          )}
        </CopyButton>
      </Group>
    </Stack>
  );
}
