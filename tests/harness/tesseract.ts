/** Whether this machine has tesseract with Russian. CI installs it: a test that is skipped there would never prove anything. */
import { findTesseract } from "../../cli/tesseract.ts";

export const HAS_TESSERACT: boolean = Deno.env.get("CI") !== undefined || await findTesseract() !== null;
