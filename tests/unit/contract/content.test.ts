import { expect, test } from "vitest";
import { textOf } from "../../../shared/contract/content.ts";

test("thoughts are not part of the text, nor are other candidates", () => {
  const answer = {
    candidates: [
      {
        content: {
          parts: [{ text: "Hmm", thought: true }, { text: "a" }, { functionCall: {} }, { text: "b" }],
        },
      },
      { content: { parts: [{ text: "second" }] } },
    ],
  };
  expect(textOf(answer)).toBe("ab");
  expect(textOf({})).toBe("");
});
