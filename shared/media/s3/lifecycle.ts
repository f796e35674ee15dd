import { GatewayError } from "../../contract/gateway_error.ts";
import type { StoreCall, StoreLifecycle } from "../object_store.ts";
import { xmlBody } from "./xml_body.ts";
import { discard, type Send, xmlOf } from "./transport.ts";
import type { Element } from "./xml.ts";

/** The rule that is ours; others are left alone. */
const RULE_ID = "eve-abort-unfinished-uploads";

/** The bucket's lifecycle. Its rules know age and not use, so the only one we set ends uploads that were never finished. */
export function lifecycleOf(send: Send): StoreLifecycle {
  /** No rules: null is what a bucket without a configuration answers. */
  async function rules(call: StoreCall): Promise<Element[]> {
    const request = { operation: "lifecycle_get", method: "GET", query: { lifecycle: "" } };
    return await send(request, call, {
      read: async (response) =>
        (await xmlOf(response, "lifecycle_get", "LifecycleConfiguration")).all("Rule"),
      refused: ({ code }) => code === "NoSuchLifecycleConfiguration" ? [] : undefined,
    });
  }
  return {
    async abortUnfinishedAfterDays(call = {}) {
      const days = (await rules(call)).filter((rule) => rule.value("Status") === "Enabled" && coversAll(rule))
        .map((rule) => rule.all("AbortIncompleteMultipartUpload")[0]?.value("DaysAfterInitiation") ?? null)
        .filter((text) => text !== null).map(Number).filter((number) => Number.isSafeInteger(number));
      return days.length === 0 ? null : Math.min(...days);
    },
    async setAbortUnfinishedAfterDays(days, call = {}) {
      if (!Number.isInteger(days) || days < 1 || days > 365) {
        throw new GatewayError("invalid_request", {
          message: "Unfinished uploads may live for 1 to 365 days.",
        });
      }
      const others = (await rules(call)).filter((rule) => rule.value("ID") !== RULE_ID);
      const ours = `<Rule><ID>${RULE_ID}</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>` +
        `<AbortIncompleteMultipartUpload><DaysAfterInitiation>${days}</DaysAfterInitiation>` +
        `</AbortIncompleteMultipartUpload></Rule>`;
      const body = new TextEncoder().encode(
        `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
          `${others.map(({ source }) => source).join("")}${ours}</LifecycleConfiguration>`,
      );
      const request = {
        operation: "lifecycle_put",
        method: "PUT",
        query: { lifecycle: "" },
        ...await xmlBody(body),
      };
      await send(request, call, { read: discard });
    },
  };
}

/** Whether a rule is for the whole bucket: it has no filter, or an empty one. */
function coversAll(rule: Element): boolean {
  const filter = rule.all("Filter")[0];
  return (filter?.text ?? rule.value("Prefix") ?? "").trim() === "";
}
