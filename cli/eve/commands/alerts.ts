import type { AlertDetail, AlertRow } from "../../../shared/database/reading.ts";
import type { Command } from "../command.ts";
import { EXIT, misuse } from "../failure.ts";
import { bold, green, instant, pairs, red, table, yellow } from "../table.ts";
import { readNumber } from "../values.ts";

const BY_DEFAULT = 50;

export const alertCommands: Command[] = [
  {
    name: "alerts list",
    summary: "what a person should look at now; ends with 1 if something is critical",
    arguments: [],
    options: {
      all: { help: "those that are over too" },
      kind: { value: "KIND", help: "of this kind only, such as key_disabled" },
      limit: { value: "N", help: `how many; ${BY_DEFAULT} by default` },
    },
    examples: ["alerts list", "alerts list --all --kind key_disabled"],
    async run(given, { connect }) {
      const { alerts } = await connect().reading.alerts({
        state: given.switch("all") ? "all" : "open",
        kind: given.option("kind"),
        atMost: readNumber(given, "limit") ?? BY_DEFAULT,
      });
      const isCritical = alerts.some((alert) => alert.closed_at === null && alert.severity === "critical");
      const text = alerts.length === 0 ? green("There is no open alert.") : table(
        ["no>", "severity", "kind", "since", "until", "what"],
        alerts.map((alert) => [
          String(alert.id),
          severityOf(alert),
          alert.kind,
          instant(alert.opened_at),
          alert.closed_at === null ? bold("open") : instant(alert.closed_at),
          alert.message,
        ]),
      );
      return { json: alerts, text, exitCode: isCritical ? EXIT.failed : EXIT.done };
    },
  },
  {
    name: "alerts show",
    summary: "one alert, and what to do about it",
    arguments: ["NO"],
    options: {},
    examples: ["alerts show 12"],
    async run(given, { connect }) {
      const alert = await connect().reading.alert(numberOf(given.arguments[0]!));
      return { json: alert, text: described(alert) };
    },
  },
  {
    name: "alerts close",
    summary: "close it by hand; what still holds is opened again",
    about: "Alerts close by themselves when they are over. Close one by hand when you know better.",
    arguments: ["NO"],
    options: {},
    examples: ["alerts close 12"],
    async run(given, { connect }) {
      const alert = await connect().reading.closeAlert(numberOf(given.arguments[0]!));
      return { json: alert, text: `Alert ${alert.id} is closed. If it still holds, it is opened again.` };
    },
  },
];

function numberOf(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw misuse(`An alert is named by its number, not ${text}: see \`alerts list\`.`);
}

function severityOf({ severity }: AlertRow): string {
  return severity === "critical" ? red(severity) : severity === "warning" ? yellow(severity) : severity;
}

function described(alert: AlertDetail): string {
  const facts: [string, string][] = [
    ["alert", `${bold(alert.title)}, number ${alert.id}, ${alert.kind}`],
    ["severity", severityOf(alert)],
    ["what", alert.message],
    ["what to do", alert.advice ?? ""],
    ["about", alert.subject],
    ["opened", instant(alert.opened_at)],
    ["last seen", instant(alert.last_seen_at)],
    ["closed", alert.closed_at === null ? "not yet" : instant(alert.closed_at)],
    ["figures", hasFacts(alert.details) ? JSON.stringify(alert.details) : ""],
    ...alert.deliveries.map((one): [string, string] => [
      "sent",
      [one.channel, one.event, one.state, one.sent_at ? instant(one.sent_at) : one.last_error].filter(Boolean)
        .join(", "),
    ]),
  ];
  return pairs(facts.filter(([, value]) => value !== ""));
}

const hasFacts = (details: unknown) =>
  typeof details === "object" && details !== null && Object.keys(details).length > 0;
