/** The prices that come with the gateway: of all its models, and as docs/cost.md tells them. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { CHECKOUT } from "../../local/paths.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";

interface Price {
  model: string;
  input_usd: number | null;
  cached_usd: number | null;
  output_usd: number | null;
  is_free: boolean;
  as_of: string;
}

let database: TestDatabase;
let prices: Price[];
beforeAll(async () => {
  database = await cloneDatabase();
  prices = (await database.sql`select public.eve_prices() as prices`)[0]!.prices;
});
afterAll(() => database?.drop());

test("each model that comes with the gateway has a price with its date, or is free", async () => {
  const models = (await database.sql`select model from public.google_ai_model_limits order by model`)
    .map(({ model }) => model as string);
  expect(models.length).toBeGreaterThan(5);
  expect(prices.map(({ model }) => model)).toEqual(models);
  for (const { model, input_usd, output_usd, is_free, as_of } of prices) {
    expect(as_of, model).toMatch(/^\d{4}-\d\d-\d\d$/);
    // Gemma has no price that it would have had: not one of zero, either.
    if (model.startsWith("gemma-")) {
      expect([is_free, input_usd, output_usd], model).toEqual([true, null, null]);
    } else expect([is_free, input_usd! > 0], model).toEqual([false, true]);
  }
});

test("docs/cost.md tells them", async () => {
  const page = await Deno.readTextFile(`${CHECKOUT}/docs/cost.md`);
  const table = page.split("## Models\n")[1]!.split("\n## ")[0]!;
  const rows = [...table.matchAll(/^\| `([^`]+)` +\| (.+) \|$/gm)].map(([, model, cells]) =>
    [model, ...cells!.split("|").map((cell) => cell.trim())].join(" | ")
  );
  const shown = (usd: number | null, is_free: boolean) => usd === null ? is_free ? "free" : "–" : String(usd);
  expect(rows).toEqual(
    prices.map(({ model, input_usd, cached_usd, output_usd, is_free, as_of }) =>
      [model, shown(input_usd, is_free), shown(cached_usd, is_free), shown(output_usd, is_free), as_of].join(
        " | ",
      )
    ),
  );
});
