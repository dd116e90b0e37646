// One connection through nostr-tools, with what the checks ask of it. Every wait ends: with what was awaited, or with
// a Disagreement that says what was missing.

import { AbstractRelay } from 'nostr-tools/abstract-relay'
import { verifyEvent } from 'nostr-tools/wasm'
import WebSocket from 'ws'
import { addressOf } from './corpus.mjs'
import { isDroppedByLibrary, matches, mayRead } from './model.mjs'

const PATIENCE_MS = 30_000
const WINDOW = 100

/** The relay and the model say different things. */
export class Disagreement extends Error {}

export function agree(condition, words, details = '') {
  if (!condition) throw new Disagreement(`${words} ${typeof details === 'string' ? details : JSON.stringify(details)}`.trim())
}

async function patiently(promise, words) {
  let timer
  const tooLate = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Disagreement(`nothing came within ${PATIENCE_MS / 1000} s: ${words()}`)), PATIENCE_MS)
  })
  return Promise.race([promise, tooLate]).finally(() => clearTimeout(timer))
}

/** Signatures are dear and events come many times: the second copy must equal the first, byte for byte. */
const seen = new Map()
function verify(event) {
  const text = JSON.stringify(event)
  if (!seen.has(event.id)) seen.set(event.id, verifyEvent(event) && text)
  return seen.get(event.id) === text
}

export class Session {
  readers = []
  live = new Map()

  static async open(url) {
    const session = new Session()
    session.relay = new AbstractRelay(url, { verifyEvent: verify, websocketImplementation: WebSocket })
    session.relay.publishTimeout = PATIENCE_MS
    const { promise, resolve } = deferred()
    session.challenged = promise
    // Says that the challenge has come, and leaves it to `authenticate` to answer.
    session.relay.onauth = () => {
      resolve()
      return new Promise(() => {})
    }
    session.broken = new Promise((_, reject) => {
      session.relay.onnotice = words => reject(new Disagreement(`an unexpected NOTICE: ${words}`))
      session.relay.onclose = () => session.closing || reject(new Disagreement('the relay closed the connection'))
    })
    session.broken.catch(() => {})
    await session.relay.connect({ timeout: PATIENCE_MS })
    return session
  }

  close() {
    this.closing = true
    this.relay.close()
  }

  /** NIP-42, as each of `people` in turn. */
  async authenticate(corpus, ...people) {
    await this.wait(this.challenged, () => 'an AUTH challenge')
    for (const person of people) {
      this.relay.authPromise = undefined // nostr-tools knows of one identity a connection only
      await this.wait(this.relay.auth(async template => corpus.sign(person, template)), () => 'the OK to an AUTH')
      this.readers.push(person)
    }
  }

  wait(promise, words) {
    return patiently(Promise.race([promise, this.broken]), words)
  }

  /** Sends an event; answers what its OK said. */
  async publish(event) {
    const answer = this.relay.publish(event).then(
      words => ({ ok: true, words: words ?? '' }),
      error => ({ ok: false, words: error.message }),
    )
    return this.wait(answer, () => `the OK to ${event.id}`)
  }

  /** What a REQ is answered with: ids in the order of arrival up to EOSE, or CLOSED's words. */
  async ask(filters) {
    const ids = []
    const { promise, resolve, reject } = deferred()
    const subscription = this.relay.subscribe(filters, {
      eoseTimeout: 2 * PATIENCE_MS,
      onevent: event => ids.push(event.id),
      oninvalidevent: event => {
        if (verifyEvent(event) && isDroppedByLibrary(filters, event)) return ids.push(event.id)
        reject(new Disagreement(`an event that nobody asked for, or a broken one: ${JSON.stringify(event)}`))
      },
      oneose: () => resolve({ ids }),
      onclose: words => resolve({ closed: words }),
    })
    const answer = await this.wait(promise, () => `EOSE for ${JSON.stringify(filters)}`)
    subscription.close()
    return answer
  }

  /** COUNT's number, or CLOSED's words. */
  async count(filters) {
    const answer = this.relay.count(filters, {}).then(count => ({ count }), error => ({ closed: error.message }))
    return this.wait(answer, () => `the COUNT of ${JSON.stringify(filters)}`)
  }

  /** Opens a live subscription and waits for its EOSE; from then on it must get what [`Session.expect`] says. */
  async follow(filters) {
    const subscription = { filters, wanted: new Set(), got: 0 }
    const { promise, resolve, reject } = deferred()
    const onevent = event => {
      if (!subscription.open) return
      if (!subscription.wanted.delete(event.id)) {
        this.failLive(`came live, but was not due (or came twice): ${JSON.stringify(event)} for ${JSON.stringify(filters)}`)
      }
      subscription.got += 1
      if (subscription.wanted.size === 0) this.caughtUp?.()
    }
    const sub = this.relay.subscribe(filters, {
      eoseTimeout: 2 * PATIENCE_MS,
      onevent,
      oninvalidevent: event => {
        if (verifyEvent(event) && isDroppedByLibrary(filters, event)) return onevent(event)
        this.failLive(`a live event that does not match or is broken: ${JSON.stringify(event)}`)
      },
      oneose: () => {
        subscription.open = true
        resolve()
      },
      onclose: words => reject(new Disagreement(`a live subscription was closed: ${words} ${JSON.stringify(filters)}`)),
    })
    this.live.set(sub.id, subscription)
    await this.wait(promise, () => `EOSE for ${JSON.stringify(filters)}`)
  }

  /** Says that `event` is about to become visible. */
  expect(event) {
    if (!mayRead(event, this.readers)) return
    for (const { filters, wanted } of this.live.values()) {
      if (filters.some(filter => matches(filter, event))) wanted.add(event.id)
    }
  }

  failLive(words) {
    this.liveFault ??= new Disagreement(words)
    this.caughtUp?.()
  }

  /** Waits until every live subscription got all that was due. */
  async caught() {
    const missing = () => [...this.live.values()].filter(({ wanted }) => wanted.size > 0)
    while (missing().length > 0 && !this.liveFault) {
      const { promise, resolve } = deferred()
      this.caughtUp = resolve
      await this.wait(promise, () => {
        const [first] = missing()
        return `live events are missing: ${[...first.wanted].slice(0, 5)} for ${JSON.stringify(first.filters)}`
      })
    }
    if (this.liveFault) throw this.liveFault
  }

  received() {
    return [...this.live.values()].reduce((sum, { got }) => sum + got, 0)
  }
}

function deferred() {
  const out = {}
  out.promise = new Promise((resolve, reject) => Object.assign(out, { resolve, reject }))
  out.promise.catch(() => {})
  return out
}

/** Publishes in windows of events that cannot influence one another, so that the model can tell every OK, and waits
 * after each window until every observer has caught up. */
export async function publishAll(publisher, observers, model, events) {
  const tally = { stored: 0, known: 0, refused: 0 }
  for (let from = 0; from < events.length; ) {
    const window = []
    const touched = new Set()
    while (from < events.length && window.length < WINDOW) {
      const names = [events[from].id, addressOf(events[from]), ...namedBy(events[from])].filter(name => name !== undefined)
      if (names.some(name => touched.has(name))) break
      names.forEach(name => touched.add(name))
      window.push(events[from++])
    }
    const expected = window.map(event => model.publish(event))
    window.forEach((event, at) => expected[at].live && observers.forEach(observer => observer.expect(event)))
    const answers = await Promise.all(window.map(event => publisher.publish(event)))
    answers.forEach((answer, at) => {
      const { ok, words } = expected[at]
      const same = answer.ok === ok && (words === '' ? answer.words === '' : answer.words.startsWith(words))
      agree(same, `OK ${answer.ok} "${answer.words}" instead of ${ok} "${words}" for`, window[at])
      tally[ok ? (words ? 'known' : 'stored') : 'refused'] += 1
    })
    for (const observer of observers) await observer.caught()
  }
  return tally
}

function namedBy(event) {
  return event.kind === 5 ? event.tags.filter(tag => tag[0] === 'e' || tag[0] === 'a').map(tag => tag[1]) : []
}
