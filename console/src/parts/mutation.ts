import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";

/** Something a person does: afterwards what `touches` names is asked for again; a failure is shown and nothing is lost. */
export function useAction<Input, Answer>(
  run: (input: Input) => Promise<Answer>,
  { touches, done, failed }: { touches: string[]; done?: string; failed: string },
) {
  const queries = useQueryClient();
  return useMutation<Answer, Error, Input>({
    mutationFn: run,
    onSuccess: async () => {
      if (done) notifications.show({ message: done, color: "green" });
      await Promise.all(touches.map((name) => queries.invalidateQueries({ queryKey: [name] })));
    },
    onError: (error) =>
      notifications.show({ title: failed, message: error.message, color: "red", autoClose: 15_000 }),
  });
}
