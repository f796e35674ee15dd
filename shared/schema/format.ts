/**
 * The formats that are checked, those that OpenAI's strict schemas and Gemini's know. Others are for the model only (`int32`, `enum`, `password`), as JSON Schema has it. None of the expressions has two ways to match a text.
 */
const FORMATS: Readonly<Record<string, (text: string) => boolean>> = {
  "date-time": (text) =>
    /[ t]/i.test(text[10] ?? "") && isDate(text.slice(0, 10)) && isTime(text.slice(11), true),
  date: isDate,
  time: (text) => isTime(text, false),
  duration: isDuration,
  email: isEmail,
  hostname: isHostname,
  ipv4: (text) => /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(text),
  ipv6: (text) => /^[\da-f:.]+$/i.test(text) && URL.canParse(`http://[${text}]/`),
  uuid: (text) => /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/i.test(text),
  uri: (text) => /^[a-z][a-z\d+.-]*:[^\s]*$/i.test(text) && URL.canParse(text),
};

/** Longer texts are of no format: an address of a page is at most this long anywhere. */
const MAX_FORMAT_CHARS = 8_192;

export function isCheckedFormat(format: string): boolean {
  return Object.hasOwn(FORMATS, format);
}

/** Whether a text is of the format. One that is not checked holds every text. */
export function isOfFormat(format: string, text: string): boolean {
  return !isCheckedFormat(format) || (text.length <= MAX_FORMAT_CHARS && FORMATS[format]!(text));
}

function isDate(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false;
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

/** RFC 3339; where the place is not needed it may be left out, as models do. */
function isTime(text: string, withPlace: boolean): boolean {
  const found = /^(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?$/i
    .exec(text);
  return found !== null && (!withPlace || found[1] !== undefined);
}

/** ISO 8601, as RFC 3339 has it. */
function isDuration(text: string): boolean {
  return /^P(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?)$/.test(text) &&
    !/[PT]$/.test(text);
}

function isEmail(text: string): boolean {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(0, at));
  return /^[^\s@"(),:;<>[\\\]]{1,64}$/.test(local) && !/^\.|\.\.|\.$/.test(local) &&
    isHostname(text.slice(at + 1));
}

/** Letters of any alphabet: names of places are written in their own. */
function isHostname(text: string): boolean {
  return text.length <= 253 &&
    text.split(".").every((label) =>
      label.length <= 63 && /^[\p{L}\p{N}](?:[\p{L}\p{M}\p{N}-]*[\p{L}\p{M}\p{N}])?$/u.test(label)
    );
}
