import { expect, test } from "vitest";
import { secretSourceOf } from "../../../shared/contract/secret_source.ts";

test.each([
  ["GOOGLE_API_KEY_ONE", "environment"],
  ["stored:3f0a", "stored"],
  ["stage:POEM", "stage"],
  ["", "environment"],
  ["STAGE_POEM", "environment"],
])("what the row of a key calls %j is in the place %s", (name, kind) => {
  expect(secretSourceOf(name)).toEqual({ kind, name });
});
