import { BrightnessGrid, NotDecoded } from "./grid.ts";

/**
 * The brightness of a JPEG, an eighth of its size: the mean of each block of 8 x 8 is its first coefficient, so nothing is transformed, and
 * of a progressive file only the beginning is read. As ITU-T T.81 has it: Huffman coded, 8 bits, one or three components.
 */
export function jpegGrid(bytes: Uint8Array, columns: number, rows: number): BrightnessGrid {
  return new JpegBrightness(bytes).grid(columns, rows);
}

interface Component {
  id: number;
  across: number;
  down: number;
  quantisation: number;
  /** In this scan. */
  dc: Uint16Array;
  ac: Uint16Array;
  predicted: number;
}

interface Frame {
  progressive: boolean;
  width: number;
  height: number;
  components: Component[];
}

const NO_TABLE = new Uint16Array(0);

class JpegBrightness {
  readonly #bytes: Uint8Array;
  readonly #quantisations: number[] = [];
  readonly #dc: Uint16Array[] = [];
  readonly #ac: Uint16Array[] = [];
  #restartEvery = 0;
  #at = 2;
  #bits = 0;
  #bitCount = 0;
  /** A progressive file's first pass may leave the last bits to later ones. */
  #shift = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** @throws NotDecoded */
  grid(columns: number, rows: number): BrightnessGrid {
    let frame: Frame | null = null;
    for (;;) {
      const marker = this.#nextMarker();
      const length = this.#uint16(this.#at);
      const from = this.#at + 2;
      const end = this.#at + length;
      if (length < 2 || end > this.#bytes.length) throw new NotDecoded("it is cut off");
      if (marker === 0xdb) this.#readQuantisation(from, end);
      else if (marker === 0xc4) this.#readHuffman(from, end);
      else if (marker === 0xdd) this.#restartEvery = this.#uint16(from);
      else if (marker >= 0xc0 && marker <= 0xc2) frame = this.#readFrame(from, marker === 0xc2);
      else if (marker >= 0xc3 && marker <= 0xcf && marker !== 0xc8 && marker !== 0xcc) {
        throw new NotDecoded("neither baseline nor progressive");
      } else if (marker === 0xda) {
        if (frame === null) throw new NotDecoded("no frame");
        const scanned = this.#readScan(from, frame);
        this.#at = end;
        // The first scan with the brightness has all that there is to know.
        if (scanned !== null) return this.#scan(frame, scanned, columns, rows);
      }
      this.#at = end;
    }
  }

  /** Behind a scan that is passed over its data stands before the next marker. */
  #nextMarker(): number {
    const bytes = this.#bytes;
    for (let at = bytes.indexOf(0xff, this.#at); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
      const marker = bytes[at + 1];
      if (marker === undefined || marker === 0xd9) break;
      if (marker === 0 || marker === 0xff || marker >= 0xd0 && marker <= 0xd7) continue;
      this.#at = at + 2;
      return marker;
    }
    throw new NotDecoded("it ends before its brightness");
  }

  #uint16(at: number): number {
    if (at + 1 >= this.#bytes.length) throw new NotDecoded("it is cut off");
    return this.#bytes[at]! << 8 | this.#bytes[at + 1]!;
  }

  /** Of each table the first number alone. */
  #readQuantisation(from: number, end: number): void {
    while (from < end) {
      const which = this.#bytes[from]!;
      const wide = which >> 4 !== 0;
      this.#quantisations[which & 15] = wide ? this.#uint16(from + 1) : this.#bytes[from + 1]!;
      from += 1 + (wide ? 128 : 64);
    }
  }

  #readHuffman(from: number, end: number): void {
    while (from + 17 <= end) {
      const which = this.#bytes[from]!;
      const counts = this.#bytes.subarray(from + 1, from + 17);
      const total = counts.reduce((sum, count) => sum + count, 0);
      if (from + 17 + total > end) throw new NotDecoded("a wrong table");
      const values = this.#bytes.subarray(from + 17, from + 17 + total);
      (which >> 4 === 0 ? this.#dc : this.#ac)[which & 15] = lookup(counts, values);
      from += 17 + total;
    }
  }

  #readFrame(from: number, progressive: boolean): Frame {
    const bytes = this.#bytes;
    const count = bytes[from + 5]!;
    // Four are inks.
    if (bytes[from] !== 8 || count !== 1 && count !== 3) {
      throw new NotDecoded("not 8 bits of grey or colours");
    }
    const components = Array.from({ length: count }, (_, n) => {
      const at = from + 6 + 3 * n;
      const sampling = bytes[at + 1]!;
      const [across, down] = [sampling >> 4, sampling & 15];
      if (across < 1 || across > 4 || down < 1 || down > 4) throw new NotDecoded("a wrong sampling");
      const [dc, ac] = [NO_TABLE, NO_TABLE];
      return { id: bytes[at]!, across, down, quantisation: bytes[at + 2]!, dc, ac, predicted: 0 };
    });
    return { progressive, width: this.#uint16(from + 3), height: this.#uint16(from + 1), components };
  }

  /** The components of a scan that begins with the first one's means; null: it is another scan. */
  #readScan(from: number, { progressive, components }: Frame): Component[] | null {
    const bytes = this.#bytes;
    const count = bytes[from]!;
    const scanned: Component[] = [];
    for (let n = 0; n < count; n++) {
      const component = components.find(({ id }) => id === bytes[from + 1 + 2 * n]);
      if (component === undefined) throw new NotDecoded("a component that is not there");
      const tables = bytes[from + 2 + 2 * n]!;
      component.dc = this.#dc[tables >> 4] ?? NO_TABLE;
      component.ac = this.#ac[tables & 15] ?? NO_TABLE;
      component.predicted = 0;
      scanned.push(component);
    }
    const first = bytes[from + 1 + 2 * count]!;
    const approximation = bytes[from + 3 + 2 * count]!;
    const isFirstPass = !progressive || approximation >> 4 === 0;
    this.#shift = progressive ? approximation & 15 : 0;
    if (!scanned.includes(components[0]!) || first !== 0 || !isFirstPass) return null;
    for (const { dc, ac } of scanned) {
      if (dc === NO_TABLE || !progressive && ac === NO_TABLE) throw new NotDecoded("a table is missing");
    }
    return scanned;
  }

  #scan(frame: Frame, scanned: Component[], columns: number, rows: number): BrightnessGrid {
    const [bright] = frame.components as [Component];
    const mostAcross = Math.max(...frame.components.map(({ across }) => across));
    const mostDown = Math.max(...frame.components.map(({ down }) => down));
    // In blocks of the brightness, of which the last ones may hang over.
    const width = frame.width * bright.across / mostAcross / 8;
    const height = frame.height * bright.down / mostDown / 8;
    const grid = new BrightnessGrid(columns, rows, width, height);
    const alone = scanned.length === 1;
    const unitsAcross = alone ? Math.ceil(width) : Math.ceil(frame.width / mostAcross / 8);
    const unitsDown = alone ? Math.ceil(height) : Math.ceil(frame.height / mostDown / 8);
    const [across, down] = alone ? [1, 1] : [bright.across, bright.down];
    const stride = unitsAcross * across;
    const lines = Array.from({ length: down }, () => new Float32Array(stride));
    const scale = (this.#quantisations[bright.quantisation] ?? 1) * 2 ** this.#shift / 8;
    let untilRestart = this.#restartEvery;
    for (let unitRow = 0; unitRow < unitsDown; unitRow++) {
      for (let unit = 0; unit < unitsAcross; unit++) {
        if (this.#restartEvery > 0 && untilRestart-- === 0) {
          this.#restart(scanned);
          untilRestart = this.#restartEvery - 1;
        }
        for (const component of scanned) {
          const blocks = alone ? 1 : component.across * component.down;
          for (let block = 0; block < blocks; block++) {
            const mean = this.#block(component, frame.progressive);
            if (component !== bright) continue;
            lines[Math.floor(block / across)]![unit * across + block % across] = mean * scale + 128;
          }
        }
      }
      for (const [n, line] of lines.entries()) {
        const y = unitRow * down + n;
        if (y < height) grid.addRow(y, line);
      }
    }
    return grid;
  }

  #restart(scanned: Component[]): void {
    this.#bits = 0;
    this.#bitCount = 0;
    const marker = this.#bytes[this.#at + 1]!;
    if (this.#bytes[this.#at] !== 0xff || marker < 0xd0 || marker > 0xd7) {
      throw new NotDecoded("a restart is missing");
    }
    this.#at += 2;
    for (const component of scanned) component.predicted = 0;
  }

  /** The first coefficient; the others are passed over. */
  #block(component: Component, progressive: boolean): number {
    const size = this.#symbol(component.dc);
    if (size > 0) {
      if (size > 15) throw new NotDecoded("a wrong size");
      const value = this.#take(size);
      component.predicted += value < 1 << (size - 1) ? value - (1 << size) + 1 : value;
    }
    if (!progressive) {
      const { ac } = component;
      for (let k = 1; k < 64; k++) {
        const symbol = this.#symbol(ac);
        const bits = symbol & 15;
        if (bits > 0) {
          k += symbol >> 4;
          this.#take(bits);
        } else if (symbol === 0xf0) k += 15;
        else break;
      }
    }
    return component.predicted;
  }

  #symbol(table: Uint16Array): number {
    if (this.#bitCount < 16) this.#fill();
    const found = table[this.#bits >>> (this.#bitCount - 16) & 0xffff]!;
    const length = found >> 8;
    if (length === 0) throw new NotDecoded("a code of none");
    this.#bitCount -= length;
    return found & 255;
  }

  #take(count: number): number {
    if (this.#bitCount < count) this.#fill();
    this.#bitCount -= count;
    return this.#bits >>> this.#bitCount & (1 << count) - 1;
  }

  /** At least 17 bits. Before a marker and at the end come ones, which no code consists of: what goes on there has been cut off. */
  #fill(): void {
    const bytes = this.#bytes;
    while (this.#bitCount <= 16) {
      const next = bytes[this.#at] ?? 0xff;
      if (next === 0xff) {
        if (bytes[this.#at + 1] === 0) this.#at += 2;
      } else this.#at++;
      this.#bits = this.#bits << 8 | next;
      this.#bitCount += 8;
    }
  }
}

/** For each 16 bits the length of the code that they begin with (in the upper byte) and its value; 0: there is none. */
function lookup(counts: Uint8Array, values: Uint8Array): Uint16Array {
  const table = new Uint16Array(65_536);
  let at = 0;
  let value = 0;
  for (const [n, count] of counts.entries()) {
    const length = n + 1;
    for (let k = 0; k < count; k++) {
      const next = at + (1 << 16 - length);
      if (next > table.length) throw new NotDecoded("a wrong table");
      table.fill(length << 8 | values[value++]!, at, next);
      at = next;
    }
  }
  return table;
}
