import * as z from "zod";
import type { ChatCursor } from "../database/chats.ts";
import { route } from "./route.ts";

const text = z.string().trim().min(1).max(800);
const page = {
  /** `next` of the page before, as its two parts. */
  after_created_at: z.iso.datetime({ offset: true }).optional(),
  after_id: z.uuid().optional(),
  limit: z.string().regex(/^\d{1,3}$/, "must be 1 to 100").transform(Number).pipe(z.int().min(1).max(100))
    .default(50),
};

function cursorOf(
  { after_created_at, after_id }: { after_created_at?: string | undefined; after_id?: string | undefined },
): ChatCursor | null {
  return after_created_at === undefined || after_id === undefined
    ? null
    : { created_at: after_created_at, id: after_id };
}

/** Chats: that they are there, what they take and what they cost; what is said in them as far as the database shows it. */
export const chatRoutes = [
  route(
    "GET",
    "/chats",
    z.strictObject({
      user_id: text.optional(),
      owner: z.uuid().optional(),
      consumer: text.optional(),
      text: z.string().trim().min(1).max(1_000).optional(),
      ...page,
    }),
    ({ dependencies }, { after_created_at, after_id, limit, ...by }) =>
      dependencies.chats.list(by, cursorOf({ after_created_at, after_id }), limit),
  ),

  route(
    "GET",
    "/chats/one",
    z.strictObject({ chat_id: z.uuid(), ...page }),
    ({ dependencies }, asked) => dependencies.chats.one(asked.chat_id, cursorOf(asked), asked.limit),
  ),
];
