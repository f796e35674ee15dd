import { Group, Stack, Text, Title } from "@mantine/core";
import { type ReactNode, useEffect } from "react";

/** A page's heading, what it is for, and what can be done on it. */
export function Page({ title, about, actions, children }: {
  title: string;
  about: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · EVE Gateway`;
  }, [title]);
  return (
    <Stack gap="lg">
      <Group justify="space-between" align="flex-end">
        <div>
          <Title order={1} size="h2">{title}</Title>
          <Text c="dimmed" size="sm">{about}</Text>
        </div>
        {actions}
      </Group>
      {children}
    </Stack>
  );
}
