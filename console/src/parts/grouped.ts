/** Rows by a name, in the order in which the names come. */
export function grouped<Row>(rows: readonly Row[], nameOf: (row: Row) => string): [string, Row[]][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const name = nameOf(row);
    const its = groups.get(name);
    if (its === undefined) groups.set(name, [row]);
    else its.push(row);
  }
  return [...groups];
}
