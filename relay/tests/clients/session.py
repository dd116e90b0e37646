"""One connection through nostr-sdk, with what the checks ask of it. Every wait ends: with what was awaited, or with a
Disagreement that says what was missing."""

import asyncio
import json
from datetime import timedelta
from nostr_sdk import (ClientBuilder, ClientMessage, Filter, NostrSdkError, RelayLimits, RelayOptions, RelayUrl, ReqTarget,
                       SignerAuthenticator, SleepWhenIdle)
from model import matches, may_read

PATIENCE = 30
WINDOW = 100


class Disagreement(Exception):
    """The relay and the model say different things."""


def agree(condition, words, details=""):
    if not condition:
        raise Disagreement(f"{words} {details}")


class Live:
    """A subscription past its EOSE: what it is still to get."""

    def __init__(self, filters):
        self.filters, self.wanted, self.got = filters, set(), 0


class Session:
    @classmethod
    async def open(cls, url, known, keys=None):
        """Connects; with `keys`, returns once authenticated as them (NIP-42). `known` has every event by id.

        No gossip, no discovery, no second try: the client talks to `url` and nothing else, over one connection."""
        self = cls()
        self.url, self.known = RelayUrl.parse(url), known
        self.reader = keys.public_key().to_hex() if keys else None
        builder = ClientBuilder().sleep_when_idle(SleepWhenIdle.DISABLED()).notification_channel_size(1 << 16)
        builder = builder.verify_subscriptions(True).relay_limits(RelayLimits.disable())
        self.client = (builder.authenticator(SignerAuthenticator(keys)) if keys else builder).build()
        self.answers, self.rows, self.live = {}, {}, {}
        self.fault, self.changed, self.authenticated = None, asyncio.Event(), False
        await self.client.add_relay(self.url, opts=RelayOptions().reconnect(False))
        self.stream = self.client.notifications()
        self.pump = asyncio.create_task(self.receive())
        await self.client.try_connect(timedelta(seconds=PATIENCE))
        self.relay = await self.client.relay(self.url)
        if keys:
            await self.until(lambda: self.authenticated, lambda: "the OK to an AUTH")
        return self

    async def receive(self):
        while (notification := await self.stream.next()) and not notification.is_shutdown():
            if notification.is_message():
                self.take(json.loads(notification.message.as_json()))
                self.changed.set()

    def take(self, message):
        match message:
            case ["EVENT", name, fields]:
                self.take_event(name, fields)
            case ["OK", id, ok, words]:
                self.authenticated |= id not in self.known and ok
                self.answers[id] = (ok, words)
            case ["EOSE", name] if name in self.live:
                self.rows.setdefault(name, []).clear()
                self.answers[name] = None
            case ["EOSE", name]:
                self.answers[name] = None
            case ["COUNT", name, {"count": count}]:
                self.answers[name] = count
            case ["CLOSED", name, words]:
                self.answers[name] = words
            case ["NOTICE", words]:
                self.fault = self.fault or Disagreement(f"an unexpected NOTICE: {words}")

    def take_event(self, name, fields):
        published = self.known.get(fields["id"])
        if published is None or published.fields != fields:
            self.fault = self.fault or Disagreement(f"an event came back changed: {fields}")
        elif name in self.live and name in self.answers:
            live = self.live[name]
            if fields["id"] not in live.wanted:
                self.fault = self.fault or Disagreement(f"came live, but was not due (or came twice): {fields} for {live.filters}")
            live.wanted.discard(fields["id"])
            live.got += 1
        else:
            self.rows.setdefault(name, []).append(fields["id"])

    async def until(self, condition, words):
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition() and not self.fault:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise Disagreement(f"nothing came within {PATIENCE} s: {words()}") from None
        if self.fault:
            raise self.fault

    async def publish(self, event):
        """Sends an event; answers what its OK said, which the library's own answer must confirm."""
        self.answers.pop(event.id, None)
        try:
            await self.relay.send_event(event.signed, ok_timeout=timedelta(seconds=PATIENCE))
            sent = True
        except NostrSdkError as error:
            sent = str(error)
        await self.until(lambda: event.id in self.answers, lambda: f"the OK to {event.id}")
        ok, words = self.answers[event.id]
        agree(ok == (sent is True), f"the OK says {ok} {words!r}, nostr-sdk says", sent)
        return ok, words

    async def subscribe(self, name, filters):
        target = ReqTarget.single(self.url, [Filter.from_json(json.dumps(query)) for query in filters])
        await self.client.subscribe(target, id=name)
        await self.until(lambda: name in self.answers, lambda: f"EOSE for {filters}")
        return self.answers[name]

    async def ask(self, name, filters):
        """What a REQ is answered with: (ids in the order of arrival up to EOSE, CLOSED's words or None)."""
        closed = await self.subscribe(name, filters)
        if closed is None:
            await self.client.unsubscribe(name)
        del self.answers[name]
        return self.rows.pop(name, []), closed

    async def fetch(self, filters):
        """The ids that nostr-sdk itself hands out, which has an order of its own for ties."""
        target = ReqTarget.single(self.url, [Filter.from_json(json.dumps(query)) for query in filters])
        return {event.id().to_hex() for event in await self.client.fetch_events(target, timeout=timedelta(seconds=PATIENCE))}

    async def count(self, name, query):
        """COUNT's number, or the words of the refusal. (nostr-sdk's own count_events listens only after it has sent,
        so that it misses the answer of a fast relay.)"""
        await self.relay.send_msg(ClientMessage.count(name, Filter.from_json(json.dumps(query))))
        await self.until(lambda: name in self.answers, lambda: f"the COUNT of {query}")
        return self.answers.pop(name)

    async def follow(self, filters):
        """Opens a live subscription; from its EOSE on it must get what `expect` says."""
        name = f"live-{len(self.live)}"
        self.live[name] = Live(filters)
        closed = await self.subscribe(name, filters)
        agree(closed is None, f"a live subscription was closed: {closed} for", filters)

    def expect(self, event):
        """Says that `event` is about to become visible."""
        if may_read(event, self.reader):
            for live in self.live.values():
                if any(matches(query, event) for query in live.filters):
                    live.wanted.add(event.id)

    async def caught_up(self):
        """Waits until every live subscription got all that was due."""
        missing = lambda: [live for live in self.live.values() if live.wanted]
        await self.until(lambda: not missing(), lambda: f"live events {list(missing()[0].wanted)[:5]} for {missing()[0].filters}")

    def received(self):
        return sum(live.got for live in self.live.values())


async def publish_all(publisher, observers, model, events):
    """Publishes in windows of events that cannot influence one another, so that the model can tell every OK, and waits
    after each window until every observer has caught up."""
    tally = {"stored": 0, "known": 0, "refused": 0}
    at = 0
    while at < len(events):
        window, touched = [], set()
        while at < len(events) and len(window) < WINDOW:
            event = events[at]
            names = {event.id, event.address()} | ({*event.values("e"), *event.values("a")} if event.kind == 5 else set())
            if touched & (names - {None}):
                break
            touched |= names
            window.append(event)
            at += 1
        expected = [model.publish(event) for event in window]
        for event, (_, _, live) in zip(window, expected):
            for observer in observers if live else []:
                observer.expect(event)
        answers = await asyncio.gather(*[publisher.publish(event) for event in window])
        for event, (ok, words, _), (said, saying) in zip(window, expected, answers):
            same = said == ok and (saying.startswith(words) if words else saying == "")
            agree(same, f"OK {said} {saying!r} instead of {ok} {words!r} for", event.fields)
            tally["refused" if not ok else "known" if words else "stored"] += 1
        for observer in observers:
            await observer.caught_up()
    return tally
