/** What the console saves as CSV. */
import { expect, test } from "vitest";
import { csvOf } from "../../console/src/parts/csv.ts";

test("texts with commas, quotes and lines stay one cell, and none is a formula", () => {
  const rows = [
    { id: 'a "quoted", id', tokens: -5, none: null, list: ["x", "y"] },
    { id: "=HYPERLINK(0)\nnext", tokens: 7, none: null, list: [] },
  ];
  expect(csvOf(rows)).toBe(
    'id,tokens,none,list\r\n"a ""quoted"", id",-5,,"[""x"",""y""]"\r\n"\'=HYPERLINK(0)\nnext",7,,[]\r\n',
  );
  expect(csvOf([])).toBe("\r\n");
  // As the command line's, whose test has all of them.
  expect(csvOf([{ id: "\uff1d1+1" }])).toBe("id\r\n'\uff1d1+1\r\n");
});
