"""nostr-sdk as its users have it: python nostr_sdk_session.py URL. The same steps as session.mjs has for the others
(../nostr_sdk_check.py holds every answer against a model). Ends with 0 when a user would be content."""

import asyncio
import json
import os
import sys
import time
import traceback
from datetime import timedelta
from nostr_sdk import (ClientBuilder, EventBuilder, Filter, Keys, Kind, RelayOptions, RelayUrl, ReqTarget, SignerAuthenticator,
                       Tag, Timestamp, uniffi_set_event_loop)

ANSWER_TIMEOUT_SECONDS = 30
FOLLOWED = 2_000
MANY_FILTERS = 30


class Complaint(Exception):
    """What a user would complain about."""


def check(condition, words, seen=""):
    if not condition:
        raise Complaint(f"{words} {seen}")


async def within(awaitable, words):
    try:
        return await asyncio.wait_for(awaitable, ANSWER_TIMEOUT_SECONDS)
    except TimeoutError:
        raise Complaint(f"{words}: nothing within {ANSWER_TIMEOUT_SECONDS} s") from None


class Person:
    """Keys and a client with its defaults, but for the wait before it connects anew."""

    @classmethod
    async def join(cls, url, stranger=False):
        self = cls()
        self.keys, self.url = Keys.generate(), RelayUrl.parse(url)
        self.pubkey = self.keys.public_key().to_hex()
        builder = ClientBuilder()
        if not stranger:
            builder = builder.authenticator(SignerAuthenticator(self.keys))
        self.client = builder.build()
        options = RelayOptions().retry_interval(timedelta(seconds=1)).adjust_retry_interval(False)
        await self.client.add_relay(self.url, opts=options)
        self.seen, self.changed = [], asyncio.Event()
        self.stream = self.client.notifications()
        self.pump = asyncio.create_task(self.listen())
        await self.client.try_connect(timedelta(seconds=ANSWER_TIMEOUT_SECONDS))
        return self

    async def listen(self):
        while (notification := await self.stream.next()) and not notification.is_shutdown():
            if notification.is_new_event():
                self.seen.append(json.loads(notification.event.as_json()))
                self.changed.set()

    def target(self, filters):
        return ReqTarget.single(self.url, [Filter.from_json(json.dumps(query)) for query in filters])

    async def publish(self, kind, content="", tags=(), ago=0, keys=None):
        builder = EventBuilder(Kind(kind), content).tags([Tag.parse(tag) for tag in tags])
        builder = builder.custom_created_at(Timestamp.from_secs(int(time.time()) - ago))
        event = builder.finalize(keys or self.keys)
        output = await within(self.client.send_event(event), "publishing")
        check(self.url in output.success, "an event was refused:", output.failed)
        return event.id().to_hex()

    async def fetch(self, *filters):
        timeout = timedelta(seconds=ANSWER_TIMEOUT_SECONDS)
        return sorted(event.id().to_hex() for event in await self.client.fetch_events(self.target(filters), timeout=timeout))

    async def follow(self, *filters):
        await within(self.client.subscribe(self.target(filters)), "subscribing")

    async def has(self, event, words):
        async def come():
            while all(event != seen["id"] for seen in self.seen):
                self.changed.clear()
                await self.changed.wait()
        await within(come(), words)


async def profile(url):
    alice, bob = await Person.join(url), await Person.join(url, stranger=True)
    await alice.publish(0, '{"name":"alice"}', ago=60)
    second = await alice.publish(0, '{"name":"Alice"}')
    check(await bob.fetch({"kinds": [0], "authors": [alice.pubkey]}) == [second], "the profile is not the last one")


async def live(url):
    alice, bob = await Person.join(url), await Person.join(url)
    await bob.follow({"kinds": [1], "authors": [alice.pubkey]}, {"kinds": [1, 7], "#p": [bob.pubkey], "limit": 0})
    await bob.has(await alice.publish(1, "hello", [["p", bob.pubkey]]), "a live note")


async def follows(url):
    alice, bob = await Person.join(url), await Person.join(url)
    followed = [Keys.generate().public_key().to_hex() for _ in range(FOLLOWED - 1)] + [alice.pubkey]
    contacts = await bob.publish(3, tags=[["p", pubkey] for pubkey in followed])
    check(await bob.fetch({"kinds": [3], "authors": [bob.pubkey]}) == [contacts], f"a follow list of {FOLLOWED} did not come back")
    before = await alice.publish(1, "before")
    await bob.follow({"kinds": [1], "authors": followed, "limit": 50})
    await bob.has(before, "a stored note of somebody in the follow list")
    await bob.has(await alice.publish(1, "after"), "a live note of somebody in the follow list")


async def many_filters(url):
    alice, bob = await Person.join(url), await Person.join(url, stranger=True)
    topics = [f"{alice.pubkey}-{n}" for n in range(MANY_FILTERS)]
    notes = [await alice.publish(1, topic, [["t", topic]]) for topic in topics]
    found = await bob.fetch(*[{"kinds": [1], "#t": [topic], "limit": 1} for topic in topics])
    check(found == sorted(notes), f"{MANY_FILTERS} filters in one go found", len(found))


async def deletion(url):
    alice, bob = await Person.join(url), await Person.join(url, stranger=True)
    kept, regretted = await alice.publish(1, "kept"), await alice.publish(1, "regretted")
    await alice.publish(5, tags=[["e", regretted], ["k", "1"]])
    check(await bob.fetch({"kinds": [1], "authors": [alice.pubkey]}) == [kept], "a deleted note is still there")


async def gift_wraps(url):
    alice, bob, stranger = await Person.join(url), await Person.join(url), await Person.join(url, stranger=True)
    early = await alice.publish(1059, "sealed", [["p", bob.pubkey]], keys=Keys.generate())
    wraps = {"kinds": [1059], "#p": [bob.pubkey]}
    await bob.follow(wraps)
    await bob.has(early, "a gift wrap from before")
    late = await alice.publish(1059, "sealed", [["p", bob.pubkey]], keys=Keys.generate())
    await bob.has(late, "a live gift wrap")
    note = await alice.publish(1, "public")
    found = await stranger.fetch({"kinds": [1], "authors": [alice.pubkey]}, wraps)
    check(found == [note], "gift wraps beside notes: instead of the one note a stranger found", found)


async def restart(url):
    alice, bob = await Person.join(url), await Person.join(url)
    before = await alice.publish(1, "before")
    await bob.follow({"kinds": [1], "authors": [alice.pubkey]})
    await bob.has(before, "a stored note")
    print("@restart", flush=True)
    await within(asyncio.to_thread(sys.stdin.readline), "the restart of the relay")
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    after = None
    while after is None:
        try:
            after = await alice.publish(1, "after")
        except Exception as error:
            check(time.monotonic() < deadline, "after a restart of the relay nothing can be published:", error)
            await asyncio.sleep(0.2)
    await bob.has(after, "a live note after a restart of the relay")


STEPS = {step.__name__.replace("_", " "): step for step in [profile, live, follows, many_filters, deletion, gift_wraps, restart]}


async def session(url, chosen):
    # The library's own threads ask for signatures (NIP-42).
    uniffi_set_event_loop(asyncio.get_running_loop())
    for name in chosen or STEPS:
        began = time.monotonic()
        try:
            await STEPS[name](url)
        except Complaint as error:
            raise Complaint(f"nostr-sdk, {name}: {error}") from None
        print(f"nostr-sdk, {name}: content after {round(1000 * (time.monotonic() - began))} ms", flush=True)


def main():
    code = 1
    try:
        asyncio.run(session(sys.argv[1], sys.argv[2:]))
        code = 0
    except Complaint as error:
        print(error, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # nostr-sdk's threads do not survive the interpreter's own shutdown.
    os._exit(code)


main()
