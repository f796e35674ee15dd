import type { Command } from "../command.ts";
import { CliFailure, misuse } from "../failure.ts";
import { answered } from "../rows.ts";
import { count, dim, green, table, yellow } from "../table.ts";
import { readLimit } from "../values.ts";

export const modelCommands: Command[] = [
  {
    name: "models list",
    summary: "the models, and what they can do",
    arguments: [],
    options: {},
    examples: ["models list"],
    async run(_given, connect) {
      const models = answered(
        await connect().tables.from("google_ai_model_limits")
          .select(
            "model, is_active, replaced_by, provider, supports_system, supports_json, supports_tools, supports_thinking, max_output_tokens",
          )
          .order("model"),
      );
      const rows = models.map((row) => [
        row.model,
        row.is_active ? green("on") : yellow("off"),
        row.replaced_by ?? "",
        ([
          ["system", row.supports_system],
          ["json", row.supports_json],
          ["tools", row.supports_tools],
          ["thinking", row.supports_thinking],
        ] as const).filter(([, can]) => can).map(([name]) => name).join(" "),
      ]);
      return { json: models, text: table(["model", "state", "replaced by", "can"], rows) };
    },
  },
  {
    name: "limits list",
    summary: "the limits of each model, per quota project",
    arguments: [],
    options: {},
    examples: ["limits list"],
    async run(_given, connect) {
      const limits = answered(
        await connect().tables.from("google_ai_model_limits")
          .select("model, rpm, tpm, rpd, replaced_by").order("model"),
      );
      const rows = limits.map((row) => [
        row.model,
        count(row.rpm),
        count(row.tpm),
        count(row.rpd),
        row.replaced_by === null ? "" : dim(`replaced by ${row.replaced_by}`),
      ]);
      return {
        json: limits,
        text: table(["model", "requests a minute", "input tokens a minute", "requests a day", ""], rows),
      };
    },
  },
  {
    name: "limits set",
    summary: "change limits; the next reservation knows",
    arguments: ["MODEL"],
    options: {
      rpm: { value: "N", help: "requests a minute, or none for no limit" },
      tpm: { value: "N", help: "input tokens a minute" },
      rpd: { value: "N", help: "requests a Pacific day" },
    },
    examples: [
      "limits set gemma-4-31b-it --rpm 30 --tpm 16000 --rpd 14400",
      "limits set gemma-4-31b-it --tpm none",
    ],
    async run(given, connect) {
      const model = given.arguments[0]!;
      const wanted = {
        rpm: readLimit(given, "rpm"),
        tpm: readLimit(given, "tpm"),
        rpd: readLimit(given, "rpd"),
      };
      const changes = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
      if (Object.keys(changes).length === 0) throw misuse("Give at least one of --rpm, --tpm and --rpd.");
      const [row] = answered(
        await connect().tables.from("google_ai_model_limits")
          .update({ ...changes, updated_at: new Date().toISOString() }).eq("model", model)
          .select("model, rpm, tpm, rpd"),
      );
      if (row === undefined) throw new CliFailure(`There is no model named ${model}. See \`models list\`.`);
      return {
        json: row,
        text: `${model}: ${count(row.rpm)} requests and ${count(row.tpm)} input tokens a minute, ${
          count(row.rpd)
        } requests a day.`,
      };
    },
  },
];
