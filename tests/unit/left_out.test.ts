import { expect, test } from "vitest";
import { leftOut } from "../harness/left_out.ts";
import { storesLeftOut } from "../harness/stores_left_out.ts";

test("a user who has no Python packages and no browser is told what is left out", () => {
  expect(leftOut({ packages: true, chromium: true })).toEqual([]);
  expect(leftOut({ packages: false, chromium: false })).toEqual([
    expect.stringContaining("tests/python/install"),
    expect.stringContaining("Chromium"),
  ]);
});

test("a user who has no stores of files is told what is left out", () => {
  expect(storesLeftOut({ radosgw: true, versitygw: true })).toEqual([]);
  expect(storesLeftOut({ radosgw: false, versitygw: false })).toEqual([
    expect.stringContaining("tests/storage/install"),
    expect.stringContaining("Go"),
  ]);
});
