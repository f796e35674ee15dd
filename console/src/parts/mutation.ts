import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/api.ts";
import { errorWords } from "./error_words.ts";

/** A failure says what to do: time to read it. */
const READING_MS = 15_000;

/** What is said when it is done; by default it is green and goes by itself. */
export interface Said {
  message: string;
  /** `warning`: done, but look. */
  tone?: "good" | "warning";
}

/**
 * Something a person does: afterwards what `touches` names is asked for again; a failure is shown and nothing is lost. `stale`: what
 * to do instead when somebody else has changed it since it was read.
 */
export function useAction<Input, Answer>(
  run: (input: Input) => Promise<Answer>,
  { touches, done, failed, stale }: {
    touches: string[];
    done?: string | ((answer: Answer) => Said);
    failed: string;
    stale?: (input: Input) => void;
  },
) {
  const queries = useQueryClient();
  const { t } = useTranslation();
  const closeButtonProps = { "aria-label": t("close") };
  const refresh = () => Promise.all(touches.map((name) => queries.invalidateQueries({ queryKey: [name] })));
  return useMutation<Answer, Error, Input>({
    mutationFn: run,
    onSuccess: async (answer) => {
      if (done) {
        const { message, tone = "good" }: Said = typeof done === "string" ? { message: done } : done(answer);
        notifications.show({
          message,
          color: tone === "good" ? "green" : "orange",
          ...(tone === "warning" && { autoClose: READING_MS }),
          closeButtonProps,
        });
      }
      await refresh();
    },
    onError: (error, input) => {
      if (error instanceof ApiError && error.code === "changed_meanwhile") {
        refresh();
        if (stale) return stale(input);
      }
      notifications.show({
        title: failed,
        message: errorWords(error, t),
        color: "red",
        autoClose: READING_MS,
        closeButtonProps,
      });
    },
  });
}
