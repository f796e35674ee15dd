/** Vitest sequencer: whole stacks first, the short files of units last, so that no core waits at the end for one long file. */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Projects in the order they start; those that are not named come last. */
const ORDER = ["stack", "db", "storage", "unit"];

/** Small files that import a long suite: by their size, which the base goes by, they would start last. */
const LONG_SUITES = ["endpoints/openai.test.ts", "endpoints/gemini.test.ts"];

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ project, moduleId }: TestSpecification) => {
      const place = ORDER.indexOf(project.name);
      if (place < 0) return ORDER.length * 2;
      return place * 2 + (LONG_SUITES.some((file) => moduleId.endsWith(file)) ? 0 : 1);
    };
    return sorted.sort((a, b) => rank(a) - rank(b));
  }
}
