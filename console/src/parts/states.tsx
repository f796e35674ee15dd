import { Alert, Button, Center, Group, Loader, Stack, Text, Title } from "@mantine/core";
import { CircleAlert, Inbox } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/api.ts";
import { useFormat } from "../i18n/format.ts";
import { errorWords } from "./error_words.ts";

/** What went wrong, in the gateway's own words, which say what to do. */
export function ErrorState({ error, retry }: { error: Error; retry?: () => void }) {
  const { t } = useTranslation();
  const known = error instanceof ApiError ? error : null;
  return (
    <Alert color="red" variant="outline" icon={<CircleAlert />} title={t("error.title")} role="alert">
      <Stack gap="xs" align="flex-start">
        <Text size="sm">{errorWords(error, t)}</Text>
        {known && (
          <Text size="xs" c="dimmed">
            {known.code}
            {known.requestId && ` · ${known.requestId}`}
          </Text>
        )}
        {retry && <Button size="xs" variant="default" onClick={retry}>{t("retry")}</Button>}
      </Stack>
    </Alert>
  );
}

/** Whether asking again may help. */
const isPassing = (error: Error) => !(error instanceof ApiError) || error.status === 0 || error.status >= 500;

/** What is shown is old, and how old. */
export function Stale({ since, retry }: { since: number; retry: () => void }) {
  const { t } = useTranslation();
  const format = useFormat();
  return (
    <Alert color="yellow" variant="outline" role="status" p="xs">
      <Group gap="sm">
        <Text size="sm">{t("error.stale", { at: format.clock(new Date(since).toISOString()) })}</Text>
        <Button size="compact-xs" variant="default" onClick={retry}>{t("retry")}</Button>
      </Group>
    </Alert>
  );
}

/** Nothing is there yet, and how that changes. */
export function EmptyState({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <Center mih="30vh">
      <Stack align="center" gap="xs" maw={480} ta="center">
        <Inbox aria-hidden size={40} strokeWidth={1.25} />
        <Title order={2} size="h4">{title}</Title>
        {children && <Text c="dimmed" size="sm">{children}</Text>}
      </Stack>
    </Center>
  );
}

/** The answer once it is there; while it is awaited a spinner; an old answer beside an error when asking again fails, the first time already. */
export function Loaded<Data>({ query, children }: {
  /** One page, or pages one after the other. */
  query: {
    data: Data | undefined;
    error: Error | null;
    failureReason: Error | null;
    dataUpdatedAt: number;
    refetch: () => unknown;
  };
  children: (data: Data) => ReactNode;
}) {
  const { t } = useTranslation();
  // It is asked for again by itself before it counts as failed: where there is no answer, half a minute later.
  const problem = query.error ?? query.failureReason;
  return (
    <>
      {problem && (query.data !== undefined && isPassing(problem)
        ? <Stale since={query.dataUpdatedAt} retry={() => query.refetch()} />
        : <ErrorState error={problem} retry={() => query.refetch()} />)}
      {query.data !== undefined ? children(query.data) : !problem && (
        <Center mih="30vh">
          <Loader role="status" aria-label={t("loading")} />
        </Center>
      )}
    </>
  );
}
