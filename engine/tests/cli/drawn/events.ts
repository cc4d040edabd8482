// Made by `stepwell types --lang ts` from events.yaml; make it again after a change, by hand changes are lost.

/** The data of each event, by its name. */
export interface Events {
  /** A customer has ordered */
  "order/placed": {
    /** Its number */
    order: string;
    items: Array<{
      sku: string;
      count?: number;
      [more: string]: unknown;
    }>;
    "ship-to": {
      city: string;
      [more: string]: unknown;
    };
    gift?: boolean | null;
    carrier?: "post" | "courier";
    payment?: "invoice" | {
      card?: string;
      [more: string]: unknown;
    };
    prices?: Record<string, number>;
  };
  "order/paid": Record<string, unknown>;
  "order/withdrawn": Record<string, unknown>;
  [name: `stock/${string}`]: Record<string, unknown>;
}

/** The name of an event. */
export type EventName = keyof Events;

/** An event that is sent: the data are those of its name. */
export type Event<N extends EventName = EventName> = N extends EventName
  ? {
      name: N;
      data: Events[N];
      /** Sent again with the same id, it is the same event. */
      id?: string;
      /** Milliseconds since 1970; in the future, its runs start then. */
      ts?: number;
    }
  : never;

/** Sends one event, or several at once; gives their ids once they are durable. */
export async function sendEvent(
  events: Event | Event[],
  options: { url?: string; key?: string } = {},
): Promise<string[]> {
  const { url = "http://127.0.0.1:8288", key = "dev" } = options;
  const answer = await fetch(`${url}/e/${key}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(events),
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return (await answer.json()).ids;
}
