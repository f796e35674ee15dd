import { Button, Group, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";

/** Below a list that comes in pages: how much there is, and the ways on and back, absent where there is nothing. */
export function Pages({ words, back, next }: {
  words: string;
  back: (() => void) | null;
  next: (() => void) | null;
}) {
  const { t } = useTranslation();
  return (
    <Group justify="space-between">
      <Text size="sm" c="dimmed" role="status">{words}</Text>
      {(back || next) && (
        <Group gap="xs">
          <Button size="xs" variant="default" disabled={!back} onClick={() => back?.()}>
            {t("page_back")}
          </Button>
          <Button size="xs" variant="default" disabled={!next} onClick={() => next?.()}>
            {t("page_next")}
          </Button>
        </Group>
      )}
    </Group>
  );
}
