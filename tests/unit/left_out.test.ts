import { expect, test } from "vitest";
import { leftOut } from "../harness/left_out.ts";
import { storesLeftOut } from "../harness/stores_left_out.ts";

test("a user who has no Python packages, no browser and no tesseract is told what is left out", () => {
  expect(leftOut({ packages: true, chromium: true, firefox: true, node22: true, tesseract: true })).toEqual(
    [],
  );
  expect(leftOut({ packages: false, chromium: false, firefox: false, node22: false, tesseract: false }))
    .toEqual([
      expect.stringContaining("tests/python/install"),
      expect.stringContaining("Chromium"),
      expect.stringContaining("EVE_FIREFOX"),
      expect.stringContaining("tests/endpoints/node.test.ts"),
      expect.stringContaining("tesseract-ocr-rus"),
    ]);
});

test("a user who has no stores of files is told what is left out", () => {
  expect(storesLeftOut({ radosgw: true, versitygw: true })).toEqual([]);
  expect(storesLeftOut({ radosgw: false, versitygw: false })).toEqual([
    expect.stringContaining("tests/storage/install"),
    expect.stringContaining("Go"),
  ]);
});
