# Made by `stepwell types --lang python` from events.yaml; make it again after a change, by hand changes are lost.
from __future__ import annotations

import json
import urllib.request
from typing import Any, Literal, NotRequired, TypedDict, overload

URL = "http://127.0.0.1:8288"

# order/placed: A customer has ordered

OrderPlacedItemsItem = TypedDict("OrderPlacedItemsItem", {
    "sku": "str",
    "count": "NotRequired[int]",
})

OrderPlacedShipTo = TypedDict("OrderPlacedShipTo", {
    "city": "str",
})

OrderPlacedPayment2 = TypedDict("OrderPlacedPayment2", {
    "card": "NotRequired[str]",
})

OrderPlaced = TypedDict("OrderPlaced", {
    "order": "str",
    "items": "list[OrderPlacedItemsItem]",
    "ship-to": "OrderPlacedShipTo",
    "gift": "NotRequired[bool | None]",
    "carrier": "NotRequired[Literal[\"post\", \"courier\"]]",
    "payment": "NotRequired[Literal[\"invoice\"] | OrderPlacedPayment2]",
    "prices": "NotRequired[dict[str, float]]",
})

def _send(name: str, data: Any, id: str | None, url: str, key: str) -> str:
    event = {"name": name, "data": data} | ({"id": id} if id is not None else {})
    request = urllib.request.Request(f"{url}/e/{key}", json.dumps(event).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["ids"][0])


@overload
def send_event(name: Literal["order/placed"], data: OrderPlaced, *, id: str | None = None, url: str = URL, key: str = "dev") -> str: ...
@overload
def send_event(name: Literal["order/paid"], data: dict[str, Any], *, id: str | None = None, url: str = URL, key: str = "dev") -> str: ...
@overload
def send_event(name: Literal["order/withdrawn"], data: dict[str, Any], *, id: str | None = None, url: str = URL, key: str = "dev") -> str: ...
def send_event(name: str, data: Any, *, id: str | None = None, url: str = URL, key: str = "dev") -> str:
    """Sends an event; gives its id once it is durable. Sent again with the same `id`, it is the same event."""
    return _send(name, data, id, url, key)


def send_any(name: str, data: dict[str, Any], *, id: str | None = None, url: str = URL, key: str = "dev") -> str:
    """Sends an event of a family, whose name and data only the engine checks; gives its id once it is durable. Sent again with the same `id`, it is the same event."""
    return _send(name, data, id, url, key)
