import * as z from "zod";
import { ZodObject } from "zod";
import * as core from "zod/v4/core";
import { isObject } from "../contract/is_object.ts";
import type { IgnoredFields } from "./ignored_fields.ts";

type Def = core.$ZodObjectDef & { place?: string };

/**
 * An object of a client's body. Null fields count as absent: clients send them for everything that they know and do not
 * use. Where it has a place, fields that it does not know are refused, or noted if the request is read with
 * `IgnoredFields` (`validated`).
 */
const Fields = core.$constructor("EveFields", (object: z.ZodObject, def: Def) => {
  ZodObject.init(object, def as never);
  const parse = object._zod.parse;
  object._zod.parse = (payload, context) => {
    if (isObject(payload.value)) payload.value = withoutOthers(payload.value, def, ignoredIn(context));
    return parse(payload, context);
  };
});

/** What `validated` was given; zod hands its context down to every object. */
const ignoredIn = (context: object) => (context as { ignored?: IgnoredFields }).ignored;

function withoutOthers(
  body: Record<string, unknown>,
  { shape, place }: Def,
  ignored: IgnoredFields | undefined,
): Record<string, unknown> {
  const isOther = (name: string) =>
    place !== undefined && ignored !== undefined && !Object.hasOwn(shape, name);
  const names = Object.keys(body);
  const kept = names.filter((name) => body[name] !== null && !isOther(name));
  if (kept.length === names.length) return body;
  for (const name of names) {
    if (body[name] !== null && isOther(name)) ignored?.add(place === "" ? name : `${place}.${name}`);
  }
  return Object.fromEntries(kept.map((name) => [name, body[name]]));
}

/** @param place of the object in the body, for the names of fields that are noted; empty: the body itself */
export function knownFields<Shape extends z.ZodRawShape>(
  place: string,
  shape: Shape,
  params: { error?: core.$ZodErrorMap } = {},
): z.ZodObject<Shape, core.$strict> {
  return new Fields({ type: "object", shape, catchall: z.never(), place, ...params }) as never;
}

/** One with fields that are nobody's business here: clients send back what they were given, with all that was added to it. */
export function openFields<Shape extends z.ZodRawShape>(shape: Shape): z.ZodObject<Shape, core.$loose> {
  return new Fields({ type: "object", shape, catchall: z.unknown() }) as never;
}
