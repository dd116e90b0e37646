"""Seeded events and filters: the same seed gives the same run. Everything is made up front, so that filters can name
the ids of events that are yet to be published."""

import json
import random
from nostr_sdk import Keys, UnsignedEvent

PER_CLASS = 1000
REGULAR = [1, 7, 1111, 9735, 65535]
REPLACEABLE = [0, 3, 10000, 10002, 19999]
ADDRESSABLE = [30000, 30023, 39999]
EPHEMERAL = [20000, 20001, 29999]
TOPICS = ["nostr", "Nostr", "relay", "ünï ✓ 🦀", 'a "quoted" \\ value', "line\nbreak\ttab", "", "long " * 120]
IDENTIFIERS = ["", "a", "b", "post-1", "a:b", "ü", "x" * 300]
CONTENTS = ["", "plain", '"quotes" \\ and / slashes', "tab\tnewline\n\r\b\f", "ünïcödé 🦀🪢 \u2028 \u007f \u0001", '{"json":[1]}']


class Published:
    """A signed event as nostr-sdk holds it (`signed`), and as plain data (`fields`)."""

    def __init__(self, keys, kind, created_at, tags, content):
        fields = {"pubkey": keys.public_key().to_hex(), "created_at": created_at, "kind": kind, "tags": tags, "content": content}
        self.signed = UnsignedEvent.from_json(json.dumps(fields)).sign(keys)
        self.fields = json.loads(self.signed.as_json())
        self.id, self.pubkey, self.kind, self.created_at = self.fields["id"], self.fields["pubkey"], kind, created_at

    def values(self, name):
        """The first values of the tags called `name`."""
        return [tag[1] for tag in self.fields["tags"] if tag[0] == name and len(tag) > 1]

    def address(self):
        """`kind:pubkey:d` of a replaceable or addressable event."""
        if self.kind in (0, 3) or 10000 <= self.kind < 20000:
            return f"{self.kind}:{self.pubkey}:"
        if 30000 <= self.kind < 40000:
            return f"{self.kind}:{self.pubkey}:{(self.values('d') or [''])[0]}"
        return None


class Corpus:
    def __init__(self, seed, now):
        self.random = random.Random(seed)
        # Few seconds for many events: most share theirs with others, so that ties are the rule.
        self.start, self.span = now - 100_000, 400
        self.keys = {}
        self.authors = [self.person() for _ in range(12)]
        self.recipients = [self.person() for _ in range(6)]
        self.mentioned = self.authors + self.recipients + [self.random.randbytes(32).hex() for _ in range(4)]
        self.regular = []
        for _ in range(PER_CLASS):
            self.regular.append(self.draft(REGULAR))
        self.replaceable = [self.draft(REPLACEABLE) for _ in range(PER_CLASS)]
        self.addressable = [self.draft(ADDRESSABLE) for _ in range(PER_CLASS)]
        self.ephemeral = [self.draft(EPHEMERAL) for _ in range(PER_CLASS)]
        self.wraps = [self.wrap() for _ in range(PER_CLASS)]
        # Deleted before they were published: they must be refused when they come.
        self.unborn = []
        self.deletions = []
        while len(self.deletions) < PER_CLASS:
            self.deletions.append(self.deletion())

    def person(self):
        """A new key pair; answers with the public key."""
        keys = Keys.parse(self.random.randbytes(32).hex())
        self.keys[keys.public_key().to_hex()] = keys
        return keys.public_key().to_hex()

    def sign(self, author, kind, created_at, tags, content):
        return Published(self.keys[author], kind, created_at, tags, content)

    def time(self):
        return self.start + self.random.randrange(self.span)

    def some(self, values, most):
        """1 to `most` different elements."""
        values = list(dict.fromkeys(values))
        return self.random.sample(values, min(self.random.randint(1, most), len(values)))

    def draft(self, kinds):
        pick, chance = self.random.choice, lambda probability: self.random.random() < probability
        kind, tags = pick(kinds), []
        if kind in ADDRESSABLE and chance(0.9):
            tags.append(["d", pick(IDENTIFIERS)])
        if chance(0.5):
            tags.append(["t", pick(TOPICS), pick(TOPICS)])
        if chance(0.2):
            tags.append(["t", pick(TOPICS)])
        if chance(0.4):
            tags.append(["p", pick(self.mentioned), "ws://127.0.0.1:1"])
        if chance(0.3):
            tags.append(["e", pick(self.regular).id if self.regular else self.random.randbytes(32).hex(), "", "root"])
        if chance(0.1):
            tags += [["t"], ["-x", "y"], ["alt", pick(TOPICS)], ["Z", pick(TOPICS)]]
        return self.sign(pick(self.authors), kind, self.time(), tags, f"{pick(CONTENTS)} {self.random.random()}")

    def wrap(self):
        tags = [["p", recipient] for recipient in self.some(self.recipients, 2)]
        return self.sign(self.random.choice(self.authors), 1059, self.time(), tags, f"sealed {self.random.random()}")

    def victim(self):
        if self.random.random() < 0.05 and self.deletions:
            return self.random.choice(self.deletions)
        if self.random.random() < 0.05:
            self.unborn.append(self.draft(self.random.choice([REGULAR, ADDRESSABLE])))
            return self.unborn[-1]
        return self.random.choice(self.random.choice([self.regular, self.replaceable, self.addressable, self.wraps]))

    def deletion(self):
        """A request to delete by `e`, by `a` or both; sometimes of what belongs to somebody else or is a deletion."""
        victim = self.victim()
        author = self.random.choice(self.authors) if self.random.random() < 0.1 else victim.pubkey
        tags, address = [["k", str(victim.kind)]], victim.address()
        if address is None or self.random.random() < 0.5:
            tags.append(["e", victim.id])
        if address is not None and self.random.random() < 0.7:
            tags.append(["a", address])
        return self.sign(author, 5, self.time(), tags, f"gone {self.random.random()}")

    def questions(self, each):
        """(form, filters): seeded filters, `each` of every form; several of them in one REQ for the last form."""
        published = self.regular + self.replaceable + self.addressable + self.ephemeral + self.deletions
        kinds = REGULAR + REPLACEABLE + ADDRESSABLE + EPHEMERAL + [5, 4242]
        used = {name: [value for event in published for value in event.values(name)] for name in "ept"}
        some, chance = self.some, lambda: self.random.random() < 0.7
        authors = lambda: some(self.mentioned, 3)
        forms = {
            "ids": lambda: {"ids": [event.id for event in self.random.sample(published, 20)]},
            "authors": lambda: {"authors": authors()},
            "kinds": lambda: {"kinds": some(kinds, 3)},
            "authors+kinds": lambda: {"authors": authors(), "kinds": some(kinds, 4)},
            "#e": lambda: {"#e": some(used["e"], 3)},
            "#p": lambda: {"#p": some(used["p"], 3)},
            "#t": lambda: {"#t": some(used["t"], 3)},
            "#d": lambda: {"#d": some(IDENTIFIERS, 2)},
            "#d+authors+kinds": lambda: {"#d": some(IDENTIFIERS, 3), "authors": authors(), "kinds": some(ADDRESSABLE, 2)},
            "several tags": lambda: {"#t": some(TOPICS, 4), "#p": some(self.mentioned, 8)},
            "tag+kinds+until": lambda: {"#t": some(TOPICS, 2), "kinds": some(kinds, 6), "until": self.time()},
            "since": lambda: {"since": self.time()},
            "until": lambda: {"until": self.time()},
            "since+until": lambda: {"since": self.time(), "until": self.time() + 20},
            "limit": lambda: {"limit": self.random.randint(1, 40), **({"kinds": some(kinds, 4)} if chance() else {})},
            "limit 0": lambda: {"limit": 0, **({"authors": authors()} if chance() else {})},
            "everything, high limit": lambda: {"limit": 100_000, "until": self.time()},
        }
        questions = [(form, [make()]) for form, make in forms.items() for _ in range(each)]
        makers = list(forms.values())
        for _ in range(2 * each):
            questions.append(("several filters", [self.random.choice(makers)() for _ in range(self.random.randint(2, 6))]))
        return questions
