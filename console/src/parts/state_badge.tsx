import { Badge } from "@mantine/core";

/** By what a person has to do: nothing, look, act. The word says the same as the colour. */
const COLOURS: Record<string, string> = {
  active: "green",
  open: "green",
  succeeded: "green",
  live: "green",
  running: "blue",
  info: "blue",
  warning: "yellow",
  paused: "yellow",
  minute_used_up: "yellow",
  refused: "yellow",
  day_used_up: "orange",
  error: "orange",
  expired: "orange",
  failed: "red",
  invalid: "red",
  critical: "red",
  no_key: "red",
  no_quota: "red",
};

export function StateBadge({ state, label }: { state: string; label: string }) {
  const colour = COLOURS[state];
  return (
    <Badge
      color={colour ?? "gray"}
      className={colour === undefined ? "badge-of-no-colour" : undefined}
      variant="dot"
      tt="none"
      miw="max-content"
    >
      {label}
    </Badge>
  );
}
