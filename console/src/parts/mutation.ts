import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";

/** A failure says what to do: time to read it. */
const READING_MS = 15_000;

/** Something a person does: afterwards what `touches` names is asked for again; a failure is shown and nothing is lost. */
export function useAction<Input, Answer>(
  run: (input: Input) => Promise<Answer>,
  { touches, done, failed }: { touches: string[]; done?: string; failed: string },
) {
  const queries = useQueryClient();
  const { t } = useTranslation();
  const closeButtonProps = { "aria-label": t("close") };
  return useMutation<Answer, Error, Input>({
    mutationFn: run,
    onSuccess: async () => {
      if (done) notifications.show({ message: done, color: "green", closeButtonProps });
      await Promise.all(touches.map((name) => queries.invalidateQueries({ queryKey: [name] })));
    },
    onError: (error) =>
      notifications.show({
        title: failed,
        message: error.message,
        color: "red",
        autoClose: READING_MS,
        closeButtonProps,
      }),
  });
}
