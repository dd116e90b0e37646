// What a right relay would hold and answer, written down naively: the other side of every comparison.

import { addressOf } from './corpus.mjs'

const isEphemeral = event => event.kind >= 20000 && event.kind < 30000
const isWrap = event => event.kind === 1059
const isAddressable = event => event.kind >= 30000 && event.kind < 40000
const values = (event, name) => event.tags.filter(tag => tag[0] === name && tag.length > 1).map(tag => tag[1])

/** True when `event` has the empty identifier without a tag that says so. */
const hasImpliedIdentifier = event => isAddressable(event) && values(event, 'd').length === 0

/** The values that a `#name` condition finds. An addressable event without a `d` has the identifier "". */
const found = (event, name) => (name === 'd' && hasImpliedIdentifier(event) ? [''] : values(event, name))

/** NIP-01's order: newest first, ties by lowest id. */
export const newestFirst = (a, b) => b.created_at - a.created_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/** True when a relay sends `event` for its implied identifier, where nostr-tools compares tags alone and drops it. */
export const isDroppedByLibrary = (filters, event) =>
  hasImpliedIdentifier(event) && filters.some(filter => filter['#d']?.includes('') && matches(filter, event))

/** NIP-01's filters; `limit` is the caller's business. */
export function matches(filter, event) {
  const tags = Object.keys(filter).filter(key => key.startsWith('#'))
  return (
    (filter.ids?.includes(event.id) ?? true) &&
    (filter.authors?.includes(event.pubkey) ?? true) &&
    (filter.kinds?.includes(event.kind) ?? true) &&
    event.created_at >= (filter.since ?? 0) &&
    event.created_at <= (filter.until ?? Infinity) &&
    tags.every(key => found(event, key.slice(1)).some(value => filter[key].includes(value)))
  )
}

/** True when a reader who proved to be one of `readers` may see `event` (NIP-17, NIP-59). */
export const mayRead = (event, readers) => !isWrap(event) || values(event, 'p').some(value => readers.includes(value))

export class Model {
  stored = new Map()
  #versions = new Map()
  #floors = new Map()
  #deletedIds = new Set()
  #deletedUpTo = new Map()

  /** `limits` is NIP-11's `limitation`. */
  constructor(limits) {
    this.limits = limits
  }

  /** Takes an event; answers what its OK must say and whether live subscribers get it. */
  publish(event) {
    if (isEphemeral(event)) return { ok: true, words: '', live: true }
    if (this.stored.has(event.id)) return { ok: true, words: 'duplicate:', live: false }
    const owners = isWrap(event) ? [event.pubkey, ...values(event, 'p')] : [event.pubkey]
    const deleted = event.kind !== 5 && owners.some(owner => this.#deletedIds.has(`${event.id} by ${owner}`))
    const address = addressOf(event)
    if (deleted || event.created_at <= (this.#deletedUpTo.get(address) ?? -1)) {
      return { ok: false, words: 'blocked:', live: false }
    }
    if (address !== undefined) {
      const current = this.#versions.get(address) ?? this.#floors.get(address)
      if (current && newestFirst(event, current) >= 0) return { ok: false, words: 'blocked:', live: false }
      if (current) this.stored.delete(current.id)
      this.#versions.set(address, event)
    }
    this.stored.set(event.id, event)
    if (event.kind === 5) this.#delete(event)
    return { ok: true, words: '', live: true }
  }

  /** NIP-09: of the same author only (of a gift wrap's recipient too), and never a deletion. */
  #delete(request) {
    for (const id of values(request, 'e')) {
      this.#deletedIds.add(`${id} by ${request.pubkey}`)
      const event = this.stored.get(id)
      if (!event || event.kind === 5) continue
      if (event.pubkey === request.pubkey || (isWrap(event) && values(event, 'p').includes(request.pubkey))) {
        this.#remove(event)
      }
    }
    for (const address of values(request, 'a')) {
      if (address.split(':')[1] !== request.pubkey) continue
      this.#deletedUpTo.set(address, Math.max(request.created_at, this.#deletedUpTo.get(address) ?? -1))
      const current = this.#versions.get(address)
      if (current && current.created_at <= request.created_at) this.#remove(current)
    }
  }

  #remove(event) {
    this.stored.delete(event.id)
    const address = addressOf(event)
    if (address === undefined) return
    // A version older than a deleted one does not come back.
    this.#versions.delete(address)
    this.#floors.set(address, event)
  }

  #select(filter, readers) {
    return [...this.stored.values()].filter(event => matches(filter, event) && mayRead(event, readers)).sort(newestFirst)
  }

  /** The ids that a REQ is answered with, in order. Each filter has its own limit. */
  answer(filters, readers = []) {
    const found = new Map()
    for (const filter of filters) {
      const limit = Math.min(filter.limit ?? this.limits.default_limit, this.limits.max_limit)
      for (const event of this.#select(filter, readers).slice(0, limit)) found.set(event.id, event)
    }
    return [...found.values()].sort(newestFirst).map(event => event.id)
  }

  /** The answer to a COUNT: limits play no part. */
  count(filters, readers = []) {
    return new Set(filters.flatMap(filter => this.#select(filter, readers).map(event => event.id))).size
  }
}
