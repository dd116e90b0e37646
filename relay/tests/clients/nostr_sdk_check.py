"""nostr-sdk against a running, empty relay: python nostr_sdk_check.py ws://127.0.0.1:PORT [SEED]
Every answer is held against a model. Ends with 1 at the first disagreement, else prints what it has checked."""

import asyncio
import json
import os
import sys
import time
import traceback
import urllib.request
from urllib.parse import urlsplit
from nostr_sdk import RelayInformationDocument, uniffi_set_event_loop
from corpus import Corpus
from model import Model
from session import Disagreement, Session, agree, publish_all

COUNTS = {"published": 0, "queries": 0, "rows": 0, "counts": 0, "live": 0}


def now():
    return int(time.time())


async def check(url, seed):
    agree(urlsplit(url).hostname == "127.0.0.1", "only a relay on 127.0.0.1 is talked to, not", url)
    # The library's own threads ask for signatures (NIP-42).
    uniffi_set_event_loop(asyncio.get_running_loop())
    model, corpus = Model(relay_information(url)), Corpus(seed, now())
    classes = ["regular", "replaceable", "addressable", "ephemeral", "wraps", "deletions"]
    known = {event.id: event for name in classes + ["unborn"] for event in getattr(corpus, name)}
    publisher, stranger, observer = [await Session.open(url, known) for _ in range(3)]
    addressee = await Session.open(url, known, corpus.keys[corpus.recipients[0]])

    questions = corpus.questions(3)
    for _, filters in questions[::2]:
        await observer.follow(filters)
    await observer.follow([{"kinds": [1, 1059], "limit": 0}])
    await addressee.follow([{"kinds": [1059]}])
    await addressee.follow([{"#p": [corpus.recipients[0]]}, {"#p": [corpus.recipients[2]], "kinds": [1059], "limit": 0}])
    observers = [observer, addressee]

    for name in classes:
        tally = await publish_all(publisher, observers, model, getattr(corpus, name))
        COUNTS["published"] += len(getattr(corpus, name))
        print(f"{name}: {tally}", flush=True)
        await compare_all(stranger, model, questions)
        await gift_wraps(stranger, addressee, model, corpus)
    # Everything once more: duplicates, superseded versions, and what was deleted must stay away, known or not.
    again = corpus.regular + corpus.replaceable + corpus.addressable + corpus.wraps + corpus.unborn
    print(f"again: {await publish_all(publisher, observers, model, again)}", flush=True)
    await compare_all(stranger, model, questions)

    await expiry(publisher, stranger, observers, model, corpus, known)
    await protection(url, observers, model, corpus, known)
    await compare_all(stranger, model, questions)
    # Whatever the live subscriptions should not have got would have come by now: this comes after it.
    last = corpus.draft([1])
    known[last.id] = last
    await publish_all(publisher, observers, model, [last])
    COUNTS["live"] = observer.received() + addressee.received()
    print(f"nostr-sdk agrees: {json.dumps(COUNTS)}")


def relay_information(url):
    """Fetches NIP-11's document, has nostr-sdk read it, and answers its `limitation`."""
    request = urllib.request.Request(url.replace("ws", "http", 1), headers={"Accept": "application/nostr+json"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=30) as response:
        text = response.read().decode()
        agree(response.headers["Access-Control-Allow-Origin"] == "*", "NIP-11 came without CORS headers:", response.headers)
    document = RelayInformationDocument.from_json(text)
    missing = {1, 9, 11, 40, 42, 45, 59, 70} - set(document.supported_nips() or [])
    agree(not missing, f"NIP-11 lacks the NIPs {missing}:", text)
    agree(document.name() and document.limitation(), "NIP-11 has no name or no limitation:", text)
    return json.loads(text)["limitation"]


async def compare_all(session, model, questions):
    for at, (form, filters) in enumerate(questions):
        await compare_one(session, model, form, filters)
        if at % 8 == 0:
            wanted = set(model.answer(filters, session.reader))
            agree(await session.fetch(filters) == wanted, f"[{form}] fetch_events differs for", filters)


async def compare_one(session, model, form, filters):
    """One question as REQ and its first filter as COUNT (nostr-sdk counts one filter only)."""
    ids, closed = await session.ask(f"q-{COUNTS['queries']}", filters)
    agree(closed is None, f"[{form}] CLOSED instead of an answer: {closed} for", filters)
    wanted = model.answer(filters, session.reader)
    at = next((at for at, (got, want) in enumerate(zip(ids, wanted)) if got != want), min(len(ids), len(wanted)))
    agree(ids == wanted, f"[{form}] {len(ids)} events instead of {len(wanted)}, differing at {at}: {ids[at:at + 1]} instead of {wanted[at:at + 1]} for", filters)
    COUNTS["queries"] += 1
    COUNTS["rows"] += len(ids)
    count, right = await session.count(f"c-{COUNTS['counts']}", filters[0]), model.count(filters[0], session.reader)
    agree(count == right, f"[{form}] COUNT says {count} instead of {right} for", filters[0])
    COUNTS["counts"] += 1


async def gift_wraps(stranger, addressee, model, corpus):
    """NIP-17, NIP-59: gift wraps go to those who have proved that they are meant, in REQ and COUNT alike."""
    first, second, third = corpus.recipients[:3]
    wraps = {"kinds": [1059]}
    ids = {"ids": [event.id for event in corpus.wraps[:50]]}
    filters = [wraps, {**wraps, "#p": [first]}, {"#p": [first, second, third]}, {**wraps, "#p": [third]}, ids, {"kinds": [1, 1059], "limit": 30}]
    for query in filters:
        await compare_one(addressee, model, "addressee", [query])
        if query.get("kinds") != [1059]:
            await compare_one(stranger, model, "stranger", [query])
            continue
        _, closed = await stranger.ask(f"stranger-{COUNTS['queries']}", [query])
        agree(closed and closed.startswith("auth-required:"), "a stranger asked for gift wraps and was not told auth-required:", closed)
        counted = await stranger.count(f"stranger-{COUNTS['queries']}", query)
        agree(str(counted).startswith("auth-required:"), "a stranger counted gift wraps and was not told auth-required:", counted)
    await compare_one(addressee, model, "addressee", filters)


async def expiry(publisher, reader, observers, model, corpus, known):
    """NIP-40: refused once expired, served until then, gone afterwards."""

    def expiring(at, content):
        event = corpus.sign(corpus.authors[0], 4242, now(), [["expiration", str(at)]], content)
        known[event.id] = event
        return event

    late = await publisher.publish(expiring(now() - 1, "too late"))
    agree(not late[0] and late[1].startswith("invalid:"), "an expired event was not refused with invalid:", late)
    expires_at = now() + 3
    soon, never = expiring(expires_at, "soon"), expiring(now() + 100_000, "not soon")
    await publish_all(publisher, observers, model, [soon, never])
    while True:
        asked = now()
        ids, _ = await reader.ask(f"expiry-{time.monotonic_ns()}", [{"kinds": [4242]}])
        count = await reader.count(f"expiry-{time.monotonic_ns()}", {"kinds": [4242]})
        answered = now()
        agree(never.id in ids, "an event that has not expired is missing:", never.fields)
        if answered < expires_at:
            agree(soon.id in ids and count == 2, "an event left before it expired:", soon.fields)
        if asked > expires_at:
            agree(soon.id not in ids and count == 1, "an event is served after it expired:", soon.fields)
            break
        # Time itself is awaited here, nothing else.
        await asyncio.sleep(0.1)
    del model.stored[soon.id]


async def protection(url, observers, model, corpus, known):
    """NIP-70: a protected event comes from its author or not at all."""
    author = corpus.person()
    guarded = corpus.sign(author, 4242, now(), [["-"]], "mine")
    known[guarded.id] = guarded
    nobody = await Session.open(url, known)
    refused = await nobody.publish(guarded)
    agree(not refused[0] and refused[1].startswith("auth-required:"), "a protected event from nobody was not told auth-required:", refused)
    other = await Session.open(url, known, corpus.keys[corpus.authors[0]])
    foreign = await other.publish(guarded)
    agree(not foreign[0] and foreign[1].startswith("restricted:"), "a protected event from somebody else was not told restricted:", foreign)
    repost = corpus.sign(corpus.authors[0], 6, now(), [["e", guarded.id]], json.dumps(guarded.fields))
    known[repost.id] = repost
    reposted = await nobody.publish(repost)
    agree(not reposted[0], "a repost that embeds a protected event was taken:", reposted)
    owner = await Session.open(url, known, corpus.keys[author])
    await publish_all(owner, observers, model, [guarded])


def main():
    url, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    try:
        asyncio.run(asyncio.wait_for(check(url, seed), 600))
        code = 0
    except Disagreement as error:
        print(f"nostr-sdk disagrees (seed {seed}): {error}", file=sys.stderr)
        code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # nostr-sdk's threads do not survive the interpreter's own shutdown.
    os._exit(code)


main()
