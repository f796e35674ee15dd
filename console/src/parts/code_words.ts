import type { TFunction } from "i18next";
import { errorRow, isErrorCode } from "../../../shared/contract/errors.ts";

/** What a code of the gateway means and what to do about it: the contract's own words where the language has none. */
export const codeWords = (code: string, t: TFunction): string =>
  t(`codes.${code}` as "codes.not_found", { defaultValue: isErrorCode(code) ? errorRow(code).message : "" });
