// Seeded events and filters: the same seed gives the same run. Everything is made up front, so that filters can name
// the ids of events that are yet to be published.

import { setNostrWasm, finalizeEvent, getPublicKey } from 'nostr-tools/wasm'
import { initNostrWasm } from 'nostr-wasm'

setNostrWasm(await initNostrWasm())

const PER_CLASS = 1000
const REGULAR = [1, 7, 1111, 9735, 65535]
const REPLACEABLE = [0, 3, 10000, 10002, 19999]
const ADDRESSABLE = [30000, 30023, 39999]
const EPHEMERAL = [20000, 20001, 29999]
const TOPICS = ['nostr', 'Nostr', 'relay', 'ünï ✓ 🦀', 'a "quoted" \\ value', 'line\nbreak\ttab', '', 'long '.repeat(120)]
const IDENTIFIERS = ['', 'a', 'b', 'post-1', 'a:b', 'ü', 'x'.repeat(300)]
const CONTENTS = ['', 'plain', '"quotes" \\ and / slashes', 'tab\tnewline\n\r\b\f', 'ünïcödé 🦀🪢 \u2028 \u007f \u0001', '{"json":[1]}']

/** Numbers in [0, 1) from a 32-bit seed (mulberry32). */
export class Random {
  #state
  constructor(seed) {
    this.#state = seed >>> 0
  }
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  below(bound) {
    return Math.floor(this.next() * bound)
  }
  chance(probability) {
    return this.next() < probability
  }
  one(list) {
    return list[this.below(list.length)]
  }
  /** 1 to `most` different elements. */
  some(list, most) {
    const wanted = Math.min(1 + this.below(most), list.length)
    const taken = new Set()
    while (taken.size < wanted) taken.add(this.one(list))
    return [...taken]
  }
  bytes(count) {
    return Uint8Array.from({ length: count }, () => this.below(256))
  }
}

const hex = bytes => Buffer.from(bytes).toString('hex')

export class Corpus {
  constructor(seed, now) {
    this.random = new Random(seed)
    // Few seconds for many events: most share theirs with others, so that ties are the rule.
    this.start = now - 100_000
    this.span = 400
    this.secrets = new Map()
    this.authors = Array.from({ length: 12 }, () => this.person())
    this.recipients = Array.from({ length: 6 }, () => this.person())
    const strangers = Array.from({ length: 4 }, () => hex(this.random.bytes(32)))
    this.mentioned = [...this.authors, ...this.recipients, ...strangers]
    this.regular = this.several(() => this.draft(REGULAR))
    this.replaceable = this.several(() => this.draft(REPLACEABLE))
    this.addressable = this.several(() => this.draft(ADDRESSABLE))
    this.ephemeral = this.several(() => this.draft(EPHEMERAL))
    this.wraps = this.several(() => this.wrap())
    // Deleted before they were published: they must be refused when they come.
    this.unborn = []
    this.deletions = []
    while (this.deletions.length < PER_CLASS) this.deletions.push(this.deletion())
  }

  several(make) {
    return Array.from({ length: PER_CLASS }, make)
  }

  /** A new key pair; answers with the public key. */
  person() {
    const secret = this.random.bytes(32)
    const pubkey = getPublicKey(secret)
    this.secrets.set(pubkey, secret)
    return pubkey
  }

  sign(author, template) {
    return finalizeEvent(template, this.secrets.get(author))
  }

  time() {
    return this.start + this.random.below(this.span)
  }

  tags(kind) {
    const { random } = this
    const tags = []
    if (kind >= 30000 && kind < 40000 && random.chance(0.9)) tags.push(['d', random.one(IDENTIFIERS)])
    if (random.chance(0.5)) tags.push(['t', random.one(TOPICS), random.one(TOPICS)])
    if (random.chance(0.2)) tags.push(['t', random.one(TOPICS)])
    if (random.chance(0.4)) tags.push(['p', random.one(this.mentioned), 'ws://127.0.0.1:1'])
    if (random.chance(0.3)) tags.push(['e', this.earlier() ?? hex(random.bytes(32)), '', 'root'])
    if (random.chance(0.1)) tags.push(['t'], ['-x', 'y'], ['alt', random.one(TOPICS)], ['Z', random.one(TOPICS)])
    return tags
  }

  earlier() {
    return this.regular?.length ? this.random.one(this.regular).id : undefined
  }

  draft(kinds) {
    const { random } = this
    const kind = random.one(kinds)
    const content = `${random.one(CONTENTS)} ${random.below(1e9)}`
    return this.sign(random.one(this.authors), { kind, created_at: this.time(), tags: this.tags(kind), content })
  }

  wrap() {
    const { random } = this
    const tags = random.some(this.recipients, 2).map(recipient => ['p', recipient])
    const content = `sealed ${random.below(1e9)}`
    return this.sign(random.one(this.authors), { kind: 1059, created_at: this.time(), tags, content })
  }

  victim() {
    const { random } = this
    if (random.chance(0.05) && this.deletions.length) return random.one(this.deletions)
    if (random.chance(0.05)) {
      this.unborn.push(this.draft(random.chance(0.5) ? REGULAR : ADDRESSABLE))
      return this.unborn.at(-1)
    }
    return random.one(random.one([this.regular, this.replaceable, this.addressable, this.wraps]))
  }

  /** A request to delete by `e`, by `a` or both; sometimes of what belongs to somebody else or is a deletion. */
  deletion() {
    const { random } = this
    const victim = this.victim()
    const author = random.chance(0.1) ? random.one(this.authors) : victim.pubkey
    const tags = [['k', String(victim.kind)]]
    const address = addressOf(victim)
    if (address === undefined || random.chance(0.5)) tags.push(['e', victim.id])
    if (address !== undefined && random.chance(0.7)) tags.push(['a', address])
    return this.sign(author, { kind: 5, created_at: this.time(), tags, content: `gone ${random.below(1e9)}` })
  }

  /** Seeded filters, `each` of every form; `several` of them in one REQ for the last form. */
  questions(each) {
    const { random } = this
    const published = [this.regular, this.replaceable, this.addressable, this.ephemeral, this.deletions].flat()
    const kinds = [...REGULAR, ...REPLACEABLE, ...ADDRESSABLE, ...EPHEMERAL, 5, 4242]
    const ids = () => random.some(published, 30).map(event => event.id)
    const authors = () => random.some([...this.authors, ...this.mentioned], 3)
    const of = name => random.some(published.flatMap(e => e.tags.filter(t => t[0] === name && t.length > 1).map(t => t[1])), 3)
    const since = () => this.start + random.below(this.span)
    const until = () => this.start + random.below(this.span)
    const forms = {
      ids: () => ({ ids: [...ids(), hex(random.bytes(32))] }),
      authors: () => ({ authors: authors() }),
      kinds: () => ({ kinds: random.some(kinds, 3) }),
      'authors+kinds': () => ({ authors: authors(), kinds: random.some(kinds, 4) }),
      '#e': () => ({ '#e': of('e') }),
      '#p': () => ({ '#p': of('p') }),
      '#t': () => ({ '#t': of('t') }),
      '#d': () => ({ '#d': random.some(IDENTIFIERS, 2) }),
      '#d+authors+kinds': () => ({ '#d': random.some(IDENTIFIERS, 3), authors: authors(), kinds: random.some(ADDRESSABLE, 2) }),
      'several tags': () => ({ '#t': random.some(TOPICS, 4), '#p': random.some(this.mentioned, 8) }),
      'tag+kinds+until': () => ({ '#t': of('t'), kinds: random.some(kinds, 6), until: until() }),
      since: () => ({ since: since() }),
      until: () => ({ until: until() }),
      'since+until': () => ({ since: since(), until: since() + 20 }),
      limit: () => ({ limit: 1 + random.below(40), ...(random.chance(0.7) ? { kinds: random.some(kinds, 4) } : {}) }),
      'limit 0': () => ({ limit: 0, ...(random.chance(0.7) ? { authors: authors() } : {}) }),
      'everything, high limit': () => ({ limit: 100_000, until: until() }),
    }
    const questions = Object.entries(forms).flatMap(([form, make]) =>
      Array.from({ length: each }, () => ({ form, filters: [make()] })),
    )
    const makers = Object.values(forms)
    for (let i = 0; i < 2 * each; i++) {
      const filters = Array.from({ length: 2 + random.below(5) }, () => random.one(makers)())
      questions.push({ form: 'several filters', filters })
    }
    return questions
  }
}

/** `kind:pubkey:d` of a replaceable or addressable event. */
export function addressOf(event) {
  const { kind, pubkey } = event
  if (kind === 0 || kind === 3 || (kind >= 10000 && kind < 20000)) return `${kind}:${pubkey}:`
  if (kind < 30000 || kind >= 40000) return undefined
  return `${kind}:${pubkey}:${event.tags.find(tag => tag[0] === 'd')?.[1] ?? ''}`
}
