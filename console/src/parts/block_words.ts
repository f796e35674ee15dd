import type { TFunction } from "i18next";

/** Why a key or a lane is not used; as it is kept, where somebody wrote it into the table by hand. */
export const blockReason = (reason: string | null, t: TFunction): string =>
  reason === null ? "–" : t(`blocks.${reason as "key_invalid"}`, { defaultValue: reason });
