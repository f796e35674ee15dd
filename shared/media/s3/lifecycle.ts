import { GatewayError } from "../../contract/gateway_error.ts";
import { MEDIA_KINDS } from "../../database/media/media.ts";
import type { StoreCall, StoreLifecycle } from "../object_store.ts";
import { xmlBody } from "./xml_body.ts";
import { discard, type Send, xmlOf } from "./transport.ts";
import type { Element } from "./xml.ts";

/** How the ids of the rules begin that are ours; others are left alone. */
const RULE_ID = "eve-abort-unfinished-uploads";
/** Our folders of the bucket: what else is in it is somebody else's, and an upload there may go on for longer. */
const PREFIXES = MEDIA_KINDS.map((kind) => `${kind}/`);

/** The bucket's lifecycle. Its rules know age and not use, so the only ones we set end uploads to our folders that were never finished. */
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
      const found = await rules(call);
      const days = PREFIXES.map((prefix) => Math.min(...found.map((rule) => daysFor(prefix, rule))));
      const longest = Math.max(...days);
      return Number.isFinite(longest) ? longest : null;
    },
    async setAbortUnfinishedAfterDays(days, call = {}) {
      if (!Number.isInteger(days) || days < 1 || days > 365) {
        throw new GatewayError("invalid_request", {
          message: "Unfinished uploads may live for 1 to 365 days.",
        });
      }
      const others = (await rules(call)).filter((rule) => !rule.value("ID")?.startsWith(RULE_ID));
      const ours = PREFIXES.map((prefix) =>
        `<Rule><ID>${RULE_ID}-${prefix.slice(0, -1)}</ID><Filter><Prefix>${prefix}</Prefix></Filter>` +
        `<Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>${days}</DaysAfterInitiation>` +
        `</AbortIncompleteMultipartUpload></Rule>`
      );
      const body = new TextEncoder().encode(
        `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
          `${others.map(({ source }) => source).join("")}${ours.join("")}</LifecycleConfiguration>`,
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

/** Days after which a rule ends uploads to all of a folder; infinite: it does not. */
function daysFor(prefix: string, rule: Element): number {
  const abort = rule.all("AbortIncompleteMultipartUpload")[0]?.value("DaysAfterInitiation");
  if (rule.value("Status") !== "Enabled" || !abort || !/^\d{1,9}$/.test(abort)) return Infinity;
  const filter = rule.all("Filter")[0];
  // By tags or sizes as well: not all of it.
  if (filter?.all().some(({ name }) => name !== "Prefix")) return Infinity;
  const covered = (filter ?? rule).value("Prefix") ?? "";
  return prefix.startsWith(covered) ? Number(abort) : Infinity;
}
