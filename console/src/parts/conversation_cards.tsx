import { Card, Stack, Text } from "@mantine/core";
import type { Turn } from "./conversation.ts";
import { Markdown } from "./markdown.tsx";

/** Markdown is shown as such; HTML that a model or a user wrote is text. */
export function Conversation({ turns }: { turns: readonly Turn[] }) {
  return (
    <Stack gap="xs">
      {turns.map((turn, place) => (
        <Card key={place} withBorder padding="xs">
          <Text size="xs" c="dimmed">{turn.role}</Text>
          <Markdown>{turn.text}</Markdown>
        </Card>
      ))}
    </Stack>
  );
}
