/** What is too small for a grid, of a kind that is not decoded here, or broken. */
export class NotDecoded extends Error {
  constructor(why: string) {
    super(why);
    this.name = "NotDecoded";
  }
}

interface Share {
  cell: Uint16Array;
  /** Of the pixel that lies in its cell; the rest lies in the next one. */
  part: Float32Array;
}

/**
 * The mean brightness of a picture's cells, put together row by row: so large a picture is never held. Each pixel counts in the cells that
 * it lies in, with the part of it that does.
 */
export class BrightnessGrid {
  readonly columns: number;
  readonly rows: number;
  readonly #across: Share;
  readonly #down: Share;
  readonly #sums: Float64Array;
  readonly #weights: Float64Array;

  /** @param width,height of what `add` is told of, in its pixels: fractions where the last one counts in part. @throws NotDecoded too small */
  constructor(columns: number, rows: number, width: number, height: number) {
    if (width < columns || height < rows) throw new NotDecoded("too small");
    this.columns = columns;
    this.rows = rows;
    this.#across = shares(width, columns);
    this.#down = shares(height, rows);
    this.#sums = new Float64Array(columns * rows);
    this.#weights = new Float64Array(columns * rows);
  }

  /** One row of brightness, from the left to the right. */
  addRow(y: number, row: ArrayLike<number>): void {
    const { cell, part } = this.#across;
    const { columns } = this;
    const sums = new Float64Array(columns + 1);
    const weights = new Float64Array(columns + 1);
    for (let x = 0; x < cell.length; x++) {
      const at = cell[x]!;
      const here = part[x]!;
      const value = row[x]!;
      sums[at]! += value * here;
      weights[at]! += here;
      if (here < 1) {
        sums[at + 1]! += value * (1 - here);
        weights[at + 1]! += 1 - here;
      }
    }
    const top = this.#down.cell[y]!;
    const here = this.#down.part[y]!;
    for (let column = 0; column < columns; column++) {
      this.#sums[top * columns + column]! += sums[column]! * here;
      this.#weights[top * columns + column]! += weights[column]! * here;
      if (here === 1 || top + 1 === this.rows) continue;
      this.#sums[(top + 1) * columns + column]! += sums[column]! * (1 - here);
      this.#weights[(top + 1) * columns + column]! += weights[column]! * (1 - here);
    }
  }

  /** Row by row. */
  means(): Float64Array {
    return this.#sums.map((sum, n) => sum / this.#weights[n]!);
  }
}

function shares(length: number, cells: number): Share {
  const count = Math.ceil(length);
  const cell = new Uint16Array(count);
  const part = new Float32Array(count);
  const size = length / cells;
  for (let n = 0; n < count; n++) {
    const at = Math.min(cells - 1, Math.floor(n / size));
    const edge = at === cells - 1 ? Infinity : (at + 1) * size;
    cell[n] = at;
    part[n] = Math.min(1, edge - n);
  }
  return { cell, part };
}
