import { keepUp, reconcile, type RunTime, type UpkeepReport } from "../media/upkeep.ts";
import type { Media } from "../media/storage.ts";
import type { Operation } from "./operation.ts";

/** Files: what is due every few minutes, and once a day the comparison with the bucket. @param open throws GatewayError */
export function mediaOperations(open: () => Media): readonly Operation[] {
  const operation = (
    name: string,
    work: (media: Media, time: RunTime) => Promise<UpkeepReport>,
  ): Operation => ({
    name,
    async run({ deadline }) {
      const { count, details, more } = await work(open(), {
        signal: deadline.signal,
        leftMs: () => deadline.leftMs(),
      });
      return { tables: count > 0 ? ["public.media_objects"] : [], count, details, more };
    },
  });
  return [operation("media", keepUp), operation("media_reconcile", reconcile)];
}
