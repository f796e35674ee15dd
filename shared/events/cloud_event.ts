import type { StoredEvent } from "../database/events.ts";

/** An event in the JSON format of CloudEvents 1.0; `timestamp` is there for receivers that follow Standard Webhooks. */
export interface CloudEvent {
  specversion: "1.0";
  /** Unique per source, and the same at every try. */
  id: string;
  /** Which part of which gateway tells it: `//<host>/alerts`. */
  source: string;
  /** With its version at the end: `eve.alert.opened.v1`. */
  type: string;
  subject?: string;
  /** RFC 3339. */
  time: string;
  timestamp: string;
  datacontenttype: "application/json";
  /** W3C Trace Context of the request that it comes from. */
  traceparent?: string;
  data: Record<string, unknown>;
}

/**
 * https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md; by hand, as it is a handful of fields and
 * the SDK brings transports of its own.
 * @param gateway what this gateway is called, such as its host
 */
export function cloudEvent(event: StoredEvent, gateway: string): CloudEvent {
  const { id, source, type, subject, time, data, traceparent } = event;
  return {
    specversion: "1.0",
    id,
    source: `//${gateway}${source}`,
    type,
    ...(subject !== null && { subject }),
    time,
    timestamp: time,
    datacontenttype: "application/json",
    ...(traceparent !== null && { traceparent }),
    data,
  };
}
