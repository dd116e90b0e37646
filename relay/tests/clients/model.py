"""What a right relay would hold and answer, written down naively: the other side of every comparison."""


def is_wrap(event):
    return event.kind == 1059


def newest_first(event):
    """NIP-01's order as a sort key: newest first, ties by lowest id."""
    return (-event.created_at, event.id)


def found(event, name):
    """The values that a `#name` condition finds. An addressable event without a `d` has the identifier ""."""
    values = event.values(name)
    return [""] if name == "d" and not values and 30000 <= event.kind < 40000 else values


def matches(query, event):
    """NIP-01's filters; `limit` is the caller's business."""
    return (
        ("ids" not in query or event.id in query["ids"])
        and ("authors" not in query or event.pubkey in query["authors"])
        and ("kinds" not in query or event.kind in query["kinds"])
        and query.get("since", 0) <= event.created_at <= query.get("until", float("inf"))
        and all(any(value in wanted for value in found(event, name[1:])) for name, wanted in query.items() if name[0] == "#")
    )


def may_read(event, reader):
    """True when somebody who proved to be `reader` (or nobody: None) may see `event` (NIP-17, NIP-59)."""
    return not is_wrap(event) or reader in event.values("p")


class Model:
    def __init__(self, limitation):
        """`limitation` as NIP-11 has it."""
        self.limitation = limitation
        self.stored = {}
        self.versions, self.floors = {}, {}
        self.deleted_ids, self.deleted_up_to = set(), {}

    def publish(self, event):
        """Takes an event; answers what its OK must say, and whether live subscribers get it."""
        if 20000 <= event.kind < 30000:
            return True, "", True
        if event.id in self.stored:
            return True, "duplicate:", False
        owners = [event.pubkey] + (event.values("p") if is_wrap(event) else [])
        address = event.address()
        deleted = event.kind != 5 and any((event.id, owner) in self.deleted_ids for owner in owners)
        if deleted or event.created_at <= self.deleted_up_to.get(address, -1):
            return False, "blocked:", False
        if address is not None:
            current = self.versions.get(address) or self.floors.get(address)
            if current and newest_first(event) >= newest_first(current):
                return False, "blocked:", False
            if current:
                self.stored.pop(current.id, None)
            self.versions[address] = event
        self.stored[event.id] = event
        if event.kind == 5:
            self.delete(event)
        return True, "", True

    def delete(self, request):
        """NIP-09: of the same author only (of a gift wrap's recipient too), and never a deletion."""
        for id in request.values("e"):
            self.deleted_ids.add((id, request.pubkey))
            event = self.stored.get(id)
            if event and event.kind != 5:
                recipient = is_wrap(event) and request.pubkey in event.values("p")
                if event.pubkey == request.pubkey or recipient:
                    self.remove(event)
        for address in request.values("a"):
            if address.split(":")[1] != request.pubkey:
                continue
            self.deleted_up_to[address] = max(request.created_at, self.deleted_up_to.get(address, -1))
            current = self.versions.get(address)
            if current and current.created_at <= request.created_at:
                self.remove(current)

    def remove(self, event):
        del self.stored[event.id]
        if event.address() is not None:
            # A version older than a deleted one does not come back.
            del self.versions[event.address()]
            self.floors[event.address()] = event

    def select(self, query, reader):
        found = [event for event in self.stored.values() if matches(query, event) and may_read(event, reader)]
        return sorted(found, key=newest_first)

    def answer(self, filters, reader=None):
        """The ids that a REQ is answered with, in order. Each filter has its own limit."""
        found = {}
        for query in filters:
            limit = min(query.get("limit", self.limitation["default_limit"]), self.limitation["max_limit"])
            found.update((event.id, event) for event in self.select(query, reader)[:limit])
        return [event.id for event in sorted(found.values(), key=newest_first)]

    def count(self, query, reader=None):
        """The answer to a COUNT: limits play no part."""
        return len(self.select(query, reader))
