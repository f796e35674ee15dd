/** Says at the end of a run which stores were not there to be tested against. In CI radosgw always is. */
import { HAS_RADOSGW, VERSITYGW } from "./stores.ts";

const INSTALL = "To have it: tests/storage/install";

/** One line for each store that is left out. */
export function storesLeftOut(has: { radosgw: boolean; versitygw: boolean }): string[] {
  return [
    ...(has.radosgw ? [] : [`Left out: what needs Ceph's object gateway. ${INSTALL}`]),
    ...(has.versitygw ? [] : [`Left out: what needs Versity's gateway. ${INSTALL}, with Go`]),
  ];
}

/** Vitest calls it after the last test. */
export function teardown(): void {
  for (const line of storesLeftOut({ radosgw: HAS_RADOSGW, versitygw: VERSITYGW !== null })) {
    console.log(line);
  }
}
