import type { TFunction } from "i18next";
import type { Alert } from "../api/shapes.ts";

type AlertText = Pick<Alert, "kind" | "title" | "advice">;

/** By the kind, since the gateway's own words are English; those where the language has none for it. */
export const titleOf = ({ kind, title }: AlertText, t: TFunction): string =>
  t(`alerts.titles.${kind}` as "alerts.title", { defaultValue: title });

export const adviceOf = ({ kind, advice }: AlertText, t: TFunction): string =>
  t(`alerts.advices.${kind}` as "alerts.title", { defaultValue: advice ?? "" });
