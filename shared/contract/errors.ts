/**
 * Every error that a caller can meet, in one table: the table of docs/errors.md, the classes and the SQL `errcode`s are compared
 * with it by tests.
 *
 * `retryable` says whether the same request may succeed later without anybody changing anything. `sqlstate` is the
 * `errcode` with which a SQL function raises it.
 */
export interface ErrorRow {
  status: number;
  retryable: boolean;
  /** What happened and what to do about it, in words for the caller. */
  message: string;
  sqlstate?: string;
}

export const ERRORS = {
  // The request as such.
  invalid_json: {
    status: 400,
    retryable: false,
    message: "The body is not valid JSON. Send one JSON object, in UTF-8.",
  },
  invalid_request: {
    status: 400,
    retryable: false,
    message: "The request is not valid. `details` names each field and what is wrong with it.",
  },
  empty_prompt: {
    status: 400,
    retryable: false,
    message: "The prompt is empty. Give it some text, or a part that is not text.",
  },
  body_too_large: {
    status: 413,
    retryable: false,
    message:
      "The body is larger than this gateway accepts, or holds too many values. Send less, for example smaller images.",
  },
  body_timeout: {
    status: 408,
    retryable: true,
    message: "The body did not arrive in time. Send the request again.",
  },
  gateway_busy: {
    status: 503,
    retryable: true,
    message:
      "The gateway has as many large requests in work as it has memory for, in all or of yours. Come back after `retry-after`.",
  },
  streams_unread: {
    status: 429,
    retryable: true,
    message:
      "You have several streams open that you do not read. Read them to their end or close them, then try again.",
  },
  method_not_allowed: {
    status: 405,
    retryable: false,
    message: "This address does not serve that method. The `allow` header lists those it serves.",
  },
  not_found: {
    status: 404,
    retryable: false,
    message: "There is nothing at this address. Check the path of the base URL.",
  },

  // Who is asking.
  credential_missing: {
    status: 401,
    retryable: false,
    message:
      "No credential came with the request. Send the project's secret key (sb_secret_...) as `apikey` or as `Authorization: Bearer`.",
  },
  credential_invalid: {
    status: 401,
    retryable: false,
    message: "The credential is not valid. Check that it is complete, current and of this project.",
  },
  credential_insufficient: {
    status: 403,
    retryable: false,
    message:
      "The credential is valid but may not call models. Use the project's secret key (sb_secret_...) from a server, never from a browser.",
  },
  consumer_disabled: {
    status: 403,
    retryable: false,
    message: "This consumer is switched off. Ask the gateway's owner to switch it on.",
    sqlstate: "EV403",
  },
  token_revoked: {
    status: 401,
    retryable: false,
    message: "This token has been revoked or has expired. Fetch a new one.",
    sqlstate: "EV401",
  },
  model_not_allowed: {
    status: 403,
    retryable: false,
    message:
      "This consumer may not use that model. Ask for one of its own models, or ask the owner to add it.",
  },

  // Admission.
  unknown_model: {
    status: 404,
    retryable: false,
    message:
      "The gateway has no such model. Use a model that has a row in google_ai_model_limits, or add one.",
  },
  unknown_stage: {
    status: 404,
    retryable: false,
    message: "The gateway has no such stage. `details` names those that there are.",
  },
  stage_not_set_up: {
    status: 503,
    retryable: false,
    message:
      "Nobody has set up this stage, and the environment holds no key for it. The owner should save a provider for it.",
  },
  prompt_too_large: {
    status: 413,
    retryable: false,
    message:
      "The prompt alone exceeds what the model takes in a minute, so it can never pass. Shorten or split it.",
  },
  no_active_key: {
    status: 503,
    retryable: false,
    message:
      "No key can serve this model: none is active, or all are blocked. The owner should look at google_ai_api_keys.",
  },
  rate_limited: {
    status: 429,
    retryable: true,
    message: "The minute's quota is used up. Come back after `retry-after`, or let the gateway wait for you.",
  },
  daily_limit: {
    status: 429,
    retryable: true,
    message:
      "The day's quota is used up. It is renewed at midnight in Los Angeles; use another model until then.",
  },
  lane_blocked: {
    status: 429,
    retryable: true,
    message: "Upstream asked us to pause this model. Come back after `retry-after`, or use another model.",
  },
  too_many_waiting: {
    status: 429,
    retryable: true,
    message:
      "You have as many starts of this model booked ahead as one consumer may. Come back after `retry-after`, when one of them has begun.",
  },
  budget_exhausted: {
    status: 429,
    retryable: false,
    message:
      "The budget of this consumer or token is spent. Ask the owner for more, or wait for its next period.",
  },
  request_running: {
    status: 409,
    retryable: true,
    message:
      "A request with this request_id is still running. Ask again with the same id, or use another one.",
  },
  request_finished: {
    status: 409,
    retryable: false,
    message:
      "A request with this request_id has ended and its answer was not kept. `details` says how; use a new id to ask again.",
  },
  request_id_reused: {
    status: 409,
    retryable: false,
    message: "This request_id belongs to a request with other contents. Use a new id.",
  },

  // Jobs.
  batch_ended: {
    status: 409,
    retryable: false,
    message: "This batch has ended: it cannot be cancelled any more.",
  },
  jobs_full: {
    status: 429,
    retryable: true,
    message:
      "You have as many jobs waiting as one caller may. Hand in more when some of them have been run; `details` has the figures.",
  },
  job_expired: {
    status: 504,
    retryable: true,
    message:
      "The job had not ended when its time was over. Hand it in again under another id, with more time or a smaller flood before it.",
  },
  job_lost: {
    status: 500,
    retryable: false,
    message: "The workers that ran the job died, four times. The owner will find why in the function's log.",
  },

  // Upstream.
  upstream_rate_limited: {
    status: 429,
    retryable: true,
    message:
      "Upstream refused for its minute quota although we had counted room. Come back after `retry-after`.",
  },
  upstream_daily_limit: {
    status: 429,
    retryable: true,
    message:
      "Upstream refused for its daily quota. It is renewed at midnight in Los Angeles; use another model until then.",
  },
  upstream_unavailable: {
    status: 503,
    retryable: true,
    message:
      "The model is overloaded or could not be reached. Try again in a little while, or use another model.",
  },
  upstream_timeout: {
    status: 504,
    retryable: true,
    message: "The model did not answer in time. Try again, or ask for a shorter answer.",
  },
  upstream_invalid_request: {
    status: 400,
    retryable: false,
    message: "The model refused the request as invalid. The message says why.",
  },
  upstream_region: {
    status: 502,
    retryable: false,
    message:
      "Upstream does not serve the region that this gateway runs in. The owner should run the function in another region.",
  },
  key_rejected: {
    status: 503,
    retryable: false,
    message:
      "Upstream rejected the gateway's own key. It has been switched off; the owner should replace it.",
  },
  model_unavailable: {
    status: 503,
    retryable: false,
    message: "Upstream does not offer this model to the gateway's keys. Use another model, or ask the owner.",
  },
  secret_missing: {
    status: 503,
    retryable: false,
    message:
      "The secret of the gateway's key is not set, or the stored one cannot be read. The owner should set the secret named by env_var_name, or enter the key again.",
  },
  content_blocked: {
    status: 422,
    retryable: false,
    message:
      "The model's filters blocked the prompt or the answer. `details.reason` says which; rephrase the prompt.",
  },
  empty_answer: {
    status: 502,
    retryable: true,
    message:
      "The model answered with nothing. `details.reason` says why; on MAX_TOKENS raise max_output_tokens.",
  },
  answer_unusable: {
    status: 502,
    retryable: true,
    message: "The model broke off with an answer that cannot be used. `details.reason` says why; try again.",
  },
  answer_truncated: {
    status: 502,
    retryable: false,
    message:
      "The model's JSON broke off at its length limit. Raise max_output_tokens, or ask for a shorter answer.",
  },
  answer_too_large: {
    status: 502,
    retryable: false,
    message:
      "The model's answer is longer than the gateway reads: 16 MiB whole, or in one event of a stream. Ask for a shorter one.",
  },
  schema_mismatch: {
    status: 502,
    retryable: true,
    message:
      "The model's answer does not match the JSON schema of the request. `details.reason` says where; try again, or ask for a repair.",
  },
  schema_too_complex: {
    status: 400,
    retryable: false,
    message:
      "Checking the model's answer against the request's JSON schema takes more steps than the gateway allows. Send a simpler schema: fewer alternatives, references and regular expressions.",
  },
  unsupported_feature: {
    status: 400,
    retryable: false,
    message: "The model cannot do what the request needs. Use another model, or leave the feature out.",
  },

  // Where files are kept.
  storage_unavailable: {
    status: 503,
    retryable: true,
    message: "The storage of files does not answer. Try again.",
  },
  storage_misconfigured: {
    status: 500,
    retryable: false,
    message:
      "The storage of files refuses the gateway. The owner will find in the function's log which setting to check.",
  },
  storage_failed: {
    status: 502,
    retryable: false,
    message: "The storage of files answered something unexpected. Tell the owner the request id.",
  },
  storage_key_invalid: {
    status: 400,
    retryable: false,
    message: "The storage key holds what not every store takes. Use letters, digits, `-`, `_`, `.` and `/`.",
  },
  storage_full: {
    status: 507,
    retryable: false,
    message: "The storage of files is full. Delete what is not needed, or ask the owner for more room.",
  },
  object_not_found: {
    status: 404,
    retryable: false,
    message: "There is no such file.",
  },
  file_too_large: {
    status: 413,
    retryable: false,
    message: "Size of file exceeds limit. `details` has both sizes; send a smaller file.",
  },
  content_mismatch: {
    status: 400,
    retryable: false,
    message: "The bytes are not those that were announced: hash, size or parts differ. Send the file again.",
  },
  storage_quota_exceeded: {
    status: 507,
    retryable: false,
    message:
      "A limit of what may be stored is used up. `details` has the limit, what is used and what was asked for; delete what is not needed, or ask the owner for more.",
  },
  upload_busy: {
    status: 409,
    retryable: true,
    message: "This file is being deleted at this moment. Send it again after `retry-after`.",
  },
  media_type_mismatch: {
    status: 415,
    retryable: false,
    message:
      "The file is not of the type that was declared. `details` has both types; declare the type that it has.",
  },
  unknown_tenant: {
    status: 404,
    retryable: false,
    message: "There is no such tenant. Leave `tenant_id` out, or ask the owner which tenants there are.",
  },
  tenant_not_allowed: {
    status: 403,
    retryable: false,
    message:
      "You may not act for this tenant. Leave `tenant_id` out, or ask the owner to add you to the tenant.",
  },

  // Chats.
  chat_not_found: {
    status: 404,
    retryable: false,
    message: "You have no such chat. Check its id, and whose chats your credential reads.",
  },
  message_not_found: {
    status: 404,
    retryable: false,
    message: "There is no such message in your chats. Check its id.",
  },
  share_not_found: {
    status: 404,
    retryable: false,
    message: "There is nothing behind this link, or no more: links end, and their owners take them back.",
  },
  post_not_found: {
    status: 404,
    retryable: false,
    message: "There is no such post of your tenant's. Check its id.",
  },
  page_not_found: {
    status: 404,
    retryable: false,
    message:
      "There is no such page of your tenant's, or it was not fetched yet. Check its id or URL, or ask in another mode.",
  },
  graph_node_not_found: {
    status: 404,
    retryable: false,
    message: "There is no such node in your tenant's graph. Check its kind and key.",
  },
  graph_sink_off: {
    status: 409,
    retryable: false,
    message:
      "No copy of the graph is set up. Set NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD, and wait a minute.",
  },
  id_taken: {
    status: 409,
    retryable: false,
    message: "This id is taken. Leave it out, or choose another random UUID.",
  },
  chats_full: {
    status: 507,
    retryable: false,
    message:
      "Your chats hold as much as they may. Erase those that are not needed, or ask the owner of the project for more.",
    sqlstate: "EV507",
  },

  // Telegram.
  telegram_not_set_up: {
    status: 503,
    retryable: false,
    message:
      "No bot of Telegram is set up here. The owner should set EVE_TELEGRAM_BOT_TOKEN and run `eve telegram connect`.",
  },
  telegram_unavailable: {
    status: 503,
    retryable: true,
    message: "Telegram does not answer, or asks to be left alone for a while. Try again.",
  },
  telegram_refused: {
    status: 502,
    retryable: false,
    message: "Telegram refused. The message says why.",
  },

  // The gateway itself.
  deadline_exceeded: {
    status: 504,
    retryable: true,
    message:
      "The gateway's time for one request ran out. Try again, with a shorter wait or a shorter answer.",
  },
  client_closed: {
    status: 499,
    retryable: true,
    message: "The client closed the connection before the answer was ready.",
  },
  database_unavailable: {
    status: 503,
    retryable: true,
    message:
      "The gateway's database does not answer. Nothing was sent to a model; try again in a little while.",
    sqlstate: "EV503",
  },
  changed_meanwhile: {
    status: 409,
    retryable: false,
    message: "Somebody else has changed this since it was read. Look at what it is now, and save again.",
    sqlstate: "EV409",
  },
  gateway_misconfigured: {
    status: 500,
    retryable: false,
    message:
      "The gateway is not set up completely. The owner will find what is missing in the function's log.",
  },
  invalid_argument: {
    status: 400,
    retryable: false,
    message: "The database refused a value of the request. Check its fields.",
    sqlstate: "EV400",
  },
  unknown_reservation: {
    status: 500,
    retryable: false,
    message:
      "The gateway lost track of its reservation. Try again; tell the owner the request id if it persists.",
    sqlstate: "EV404",
  },
  internal: {
    status: 500,
    retryable: false,
    message: "Something went wrong inside the gateway. Tell the owner the request id.",
    sqlstate: "EV500",
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

/** The row of a code, typed alike for all codes. */
export function errorRow(code: ErrorCode): ErrorRow {
  return ERRORS[code];
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}

/** The code that a SQL function raised with this `errcode`; null for one of PostgreSQL's own. */
export function codeOfSqlstate(sqlstate: string): ErrorCode | null {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    if (errorRow(code).sqlstate === sqlstate) return code;
  }
  return null;
}
