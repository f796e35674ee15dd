import { expect, test } from "vitest";
import { createAbsence } from "../../../shared/media/absence.ts";
import { HandClock } from "../../harness/hand_clock.ts";

test("a store that was away counts as away for a minute, or until something comes from it", () => {
  const clock = new HandClock();
  const absence = createAbsence(clock);
  expect(absence.isRecent()).toBe(false);
  absence.note("storage_unavailable");
  expect(absence.isRecent()).toBe(true);
  clock.time += 59_999;
  expect(absence.isRecent()).toBe(true);
  clock.time += 1;
  expect(absence.isRecent()).toBe(false);
  absence.note("storage_unavailable");
  // A refusal is an answer.
  absence.note("storage_misconfigured");
  expect(absence.isRecent()).toBe(false);
});
