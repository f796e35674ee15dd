import type { Command } from "../command.ts";
import { answered } from "../rows.ts";
import { green, table, yellow } from "../table.ts";

export const modelCommands: Command[] = [
  {
    name: "models list",
    summary: "the models, and what they can do",
    arguments: [],
    options: {},
    examples: ["models list"],
    async run(_given, { connect }) {
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
];
