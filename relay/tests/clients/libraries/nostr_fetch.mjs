// nostr-fetch: everything of a time range, page after page by `until`. A page ends in the middle of a second, and the next
// one must begin with that second again; whoever goes wrong here loses events.

import { NostrFetcher } from 'nostr-fetch'
import { SimplePool, finalizeEvent } from 'nostr-tools'
import WebSocket from 'ws'
import { check, now, session } from './session.mjs'

const NOTES = 500
const A_SECOND = 7

async function open(url, secret) {
  const fetcher = NostrFetcher.init({ webSocketConstructor: WebSocket })
  // It only fetches; its users publish by something else.
  const pool = new SimplePool()
  await pool.ensureRelay(url)
  const publishSigned = async event => {
    await Promise.all(pool.publish([url], event))
    return event
  }
  return {
    fetcher,
    publishSigned,
    publish: template => publishSigned(finalizeEvent(template, secret)),
    async fetch([{ limit = 1_000, ...filter }]) {
      return fetcher.fetchLatestEvents([url], filter, limit)
    },
    close() {
      fetcher.shutdown()
      pool.destroy()
    },
  }
}

const steps = {
  async paging(stage) {
    const alice = await stage.join()
    const since = now() - NOTES
    const notes = Array.from({ length: NOTES }, (_, n) => ({ kind: 1, content: `note ${n}`, created_at: since + Math.floor(n / A_SECOND) }))
    const published = []
    while (published.length < NOTES) {
      const next = notes.slice(published.length, published.length + 100)
      published.push(...(await Promise.all(next.map(note => alice.publish(note)))))
    }
    for (const limitPerReq of [50, 200]) {
      const range = { since, until: now() }
      const found = await alice.client.fetcher.fetchAllEvents([stage.url], { authors: [alice.pubkey] }, range, { limitPerReq, skipVerification: true })
      const ids = new Set(found.map(({ id }) => id))
      check(found.length === NOTES && published.every(({ id }) => ids.has(id)), `of ${NOTES} notes in pages of ${limitPerReq} came`, `${found.length}, ${ids.size} different ones`)
    }
  },

  async 'newest of each'(stage) {
    const people = [await stage.join(), await stage.join(), await stage.join()]
    const [wanted, began] = [[], now()]
    for (const person of people) {
      for (let n = 0; n < 5; n += 1) wanted.push(await person.publish({ kind: 1, content: `note ${n}`, created_at: began - n }))
    }
    const authors = people.map(({ pubkey }) => pubkey)
    let found = 0
    const newest = people[0].client.fetcher.fetchLatestEventsPerAuthor({ authors, relayUrls: [stage.url] }, { kinds: [1] }, 3)
    for await (const { author, events } of newest) {
      const expected = wanted.filter(({ pubkey }) => pubkey === author).slice(0, 3)
      check(JSON.stringify(events.map(({ content }) => content)) === JSON.stringify(expected.map(({ content }) => content)), 'the newest three of an author:', events)
      found += 1
    }
    check(found === people.length, 'authors answered:', found)
  },
}

session({
  name: 'nostr-fetch',
  open,
  steps,
  lacks: ['feed', 'live', 'follows', 'many filters', 'empty lists', 'count', 'gift wraps', 'private beside public', 'deletion', 'restart'],
})
