// The session that each library goes through, as people who use a client have it. A library's own file opens the
// library the way its documentation says; the steps below then use nothing but what that file gives them.
//
//     node LIBRARY.mjs URL [STEP...]        runs every step, or those that are named, against the relay at URL
//     node LIBRARY.mjs --lies JSON          control: {"STEP": URL}; every step must fail against the liar at its URL
//
// Ends with 0 when a user would be content, else with 1 and the words that say what the user would see.

import { createInterface } from 'node:readline'
import { finalizeEvent, generateSecretKey, getPublicKey } from 'nostr-tools'
import { bytesToHex } from 'nostr-tools/utils'
import WebSocket from 'ws'

// Node 20 has no WebSocket of its own. Browsers do, and these libraries expect one.
globalThis.WebSocket ??= WebSocket

// Fake clocks (NDK's steps) do not move these.
const { setTimeout: realTimeout, clearTimeout: clearReal } = globalThis
const realNow = Date.now

// Whoever does not say that all is well has failed.
process.exitCode = 1
// A browser writes these to its console and goes on.
process.on('unhandledRejection', error => console.log(`unhandled: ${error?.message ?? error}`))

/** How long one answer may take on a busy machine; shorter in controls, which wait for what never comes. */
export const ANSWER_TIMEOUT_MS = process.argv[2] === '--lies' ? 5_000 : 30_000
// What nobody should get has come by then (seen: within 50 ms), if it comes at all.
const REFUSAL_TIMEOUT_MS = 2_000
const FOLLOWED = 2_000
const MANY_FILTERS = 30

export const now = () => Math.floor(realNow() / 1000)
export const pause = milliseconds => new Promise(resolve => realTimeout(resolve, milliseconds))

/** What a user would complain about. */
export class Complaint extends Error {}

export function check(condition, words, seen = '') {
  if (!condition) throw new Complaint(`${words} ${typeof seen === 'string' ? seen : JSON.stringify(seen)}`.trim())
}

/** Waits for a promise, and complains when it is late. */
export function within(promise, words, milliseconds = ANSWER_TIMEOUT_MS) {
  let timer
  const late = new Promise((_, reject) => {
    timer = realTimeout(() => reject(new Complaint(`${words}: nothing within ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearReal(timer))
}

/** Waits until something is so, and complains when it is late. */
export async function eventually(condition, words) {
  const deadline = realNow() + ANSWER_TIMEOUT_MS
  while (!condition()) {
    check(realNow() < deadline, `${words}: nothing within ${ANSWER_TIMEOUT_MS} ms`)
    await pause(20)
  }
}

/** A person: keys, and the client that the library opens for them. Without a client they are only written about. */
class Person {
  secret = generateSecretKey()
  pubkey = getPublicKey(this.secret)

  async publish(template) {
    return within(this.client.publish({ created_at: now(), tags: [], content: '', ...template }), 'publishing')
  }

  /** The events that the library hands to its user. */
  async fetch(...filters) {
    return within(this.client.fetch(filters), `an answer to ${JSON.stringify(filters).slice(0, 200)}`)
  }

  /** Follows live; `seen` has every event so far, `has(event, words)` waits for one. */
  async follow(...filters) {
    const seen = []
    let awake = () => {}
    const onevent = event => {
      seen.push(event)
      awake()
    }
    const stop = await within(this.client.follow(filters, onevent), `a subscription to ${JSON.stringify(filters).slice(0, 200)}`)
    const come = async wanted => {
      while (!seen.some(({ id }) => id === wanted.id)) await new Promise(resolve => (awake = resolve))
    }
    return { seen, stop, has: (event, words, milliseconds) => within(come(event), words, milliseconds) }
  }
}

/** Everything that a step may use. */
class Stage {
  people = []

  constructor(url, library, restart) {
    Object.assign(this, { url, library, restart })
  }

  /** A person who is connected, and signs whatever the library wants signed. */
  async join() {
    const person = new Person()
    person.client = await within(this.library.open(this.url, person.secret), 'connecting')
    this.people.push(person)
    return person
  }

  /** Somebody who reads without an account. */
  async stranger() {
    const person = new Person()
    person.client = await within(this.library.open(this.url), 'connecting')
    this.people.push(person)
    return person
  }

  async leave() {
    for (const { client } of this.people.splice(0)) await client.close()
  }
}

const ids = events => events.map(({ id }) => id).sort()
const same = (events, wanted) => JSON.stringify(ids(events)) === JSON.stringify(ids(wanted))
const contents = events => events.map(({ content }) => content)

/** An event that nobody's client signs: a gift wrap's key is thrown away. */
const wrap = recipient =>
  finalizeEvent({ kind: 1059, created_at: now(), tags: [['p', recipient.pubkey]], content: 'sealed' }, generateSecretKey())

const STEPS = {
  async profile(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    await alice.publish({ kind: 0, content: '{"name":"alice"}', created_at: now() - 60 })
    const second = await alice.publish({ kind: 0, content: '{"name":"Alice"}' })
    const profiles = await bob.fetch({ kinds: [0], authors: [alice.pubkey] })
    check(same(profiles, [second]), 'the profile is not the last one:', contents(profiles))
  },

  async feed(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const tagged = await alice.publish({ kind: 1, content: 'tagged', tags: [['t', alice.pubkey.slice(0, 20)]] })
    const plain = await alice.publish({ kind: 1, content: 'plain' })
    const reaction = await alice.publish({ kind: 7, content: '+', tags: [['e', plain.id]] })
    const filters = [{ kinds: [1], authors: [alice.pubkey], limit: 20 }, { kinds: [7], '#e': [plain.id] }, { '#t': [alice.pubkey.slice(0, 20)] }, { ids: [plain.id] }]
    const feed = await bob.fetch(...filters)
    check(same(feed, [tagged, plain, reaction]), 'the feed is not what was published, each once:', contents(feed))
  },

  async live(stage) {
    const [alice, bob] = [await stage.join(), await stage.join()]
    const feed = await bob.follow({ kinds: [1], authors: [alice.pubkey] }, { kinds: [1, 6, 7], '#p': [bob.pubkey], since: now() - 100 })
    const note = await alice.publish({ kind: 1, content: 'hello', tags: [['p', bob.pubkey]] })
    await feed.has(note, 'a live note')
    check(feed.seen.length === 1, 'a note that two filters want came more than once:', contents(feed.seen))

    // Whoever has stopped hears no more. What comes by another subscription comes after what would have come by this one.
    await feed.stop()
    const other = await bob.follow({ kinds: [1111], authors: [alice.pubkey] })
    await alice.publish({ kind: 1, content: 'unheard' })
    await other.has(await alice.publish({ kind: 1111, content: 'heard' }), 'a live comment')
    check(feed.seen.length === 1, 'a subscription that was closed goes on:', contents(feed.seen))
  },

  async follows(stage) {
    const [alice, bob] = [await stage.join(), await stage.join()]
    const strangers = Array.from({ length: FOLLOWED - 1 }, () => bytesToHex(generateSecretKey()))
    const followed = [...strangers, alice.pubkey]
    const list = await bob.publish({ kind: 3, tags: followed.map(pubkey => ['p', pubkey]) })
    const [stored] = await bob.fetch({ kinds: [3], authors: [bob.pubkey] })
    check(stored?.id === list.id && stored.tags.length === FOLLOWED, `a follow list of ${FOLLOWED} did not come back:`, stored?.tags.length)
    const before = await alice.publish({ kind: 1, content: 'before' })
    const feed = await bob.follow({ kinds: [1], authors: followed, limit: 50 })
    await feed.has(before, `a stored note of somebody in a follow list of ${FOLLOWED}`)
    await feed.has(await alice.publish({ kind: 1, content: 'after' }), `a live note of somebody in a follow list of ${FOLLOWED}`)
  },

  async 'many filters'(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const notes = []
    for (let n = 0; n < MANY_FILTERS; n += 1) {
      notes.push(await alice.publish({ kind: 1, content: `note ${n}`, tags: [['t', `${alice.pubkey}-${n}`]] }))
    }
    const found = await bob.fetch(...notes.map((_, n) => ({ kinds: [1], '#t': [`${alice.pubkey}-${n}`], limit: 1 })))
    check(same(found, notes), `${MANY_FILTERS} filters in one go found`, `${found.length} of ${notes.length}`)
  },

  // A client that asks for the replies to an empty list of notes, beside good filters.
  async 'empty lists'(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const note = await alice.publish({ kind: 1, content: 'here' })
    const found = await bob.fetch({ kinds: [1], authors: [alice.pubkey] }, { kinds: [1], '#e': [] })
    check(same(found, [note]), 'a filter with an empty list beside a good one: instead of the one note came', contents(found))
  },

  async count(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const note = await alice.publish({ kind: 1, content: 'count me' })
    for (const emoji of ['+', '🤙', '🫡']) await alice.publish({ kind: 7, content: emoji, tags: [['e', note.id]] })
    const count = await within(bob.client.count([{ kinds: [7], '#e': [note.id] }]), 'a COUNT')
    check(count === 3, 'three reactions are counted as', count)
  },

  async deletion(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const [kept, regretted] = [await alice.publish({ kind: 1, content: 'kept' }), await alice.publish({ kind: 1, content: 'regretted' })]
    const deletions = await bob.follow({ kinds: [5], authors: [alice.pubkey] })
    const request = await alice.publish({ kind: 5, tags: [['e', regretted.id], ['k', '1']] })
    const left = await bob.fetch({ kinds: [1], authors: [alice.pubkey] })
    check(same(left, [kept]), 'after a deletion a client finds', contents(left))
    await deletions.has(request, 'a live deletion')
  },

  async 'gift wraps'(stage) {
    const [alice, bob, stranger] = [await stage.join(), await stage.join(), await stage.stranger()]
    const early = wrap(bob)
    await within(alice.client.publishSigned(early), 'publishing a gift wrap')
    const inbox = await bob.follow({ kinds: [1059], '#p': [bob.pubkey] })
    await inbox.has(early, 'a gift wrap from before')
    const late = wrap(bob)
    await within(alice.client.publishSigned(late), 'publishing a gift wrap')
    await inbox.has(late, 'a live gift wrap')
    // A stranger hears CLOSED, of which some libraries make an error, and others go on waiting.
    const heard = []
    const refused = stranger.client.follow([{ kinds: [1059], '#p': [bob.pubkey] }], event => heard.push(event))
    await within(refused, 'the refusal', REFUSAL_TIMEOUT_MS).catch(() => {})
    check(heard.length === 0, 'a stranger was given gift wraps:', heard.length)
  },

  // Clients put what they want now into one REQ, whether or not the user has signed in.
  async 'private beside public'(stage) {
    const [alice, stranger] = [await stage.join(), await stage.stranger()]
    const note = await alice.publish({ kind: 1, content: 'public' })
    await within(alice.client.publishSigned(wrap(alice)), 'publishing a gift wrap')
    const found = await stranger.fetch({ kinds: [1], authors: [alice.pubkey] }, { kinds: [1059], '#p': [alice.pubkey] })
    check(same(found, [note]), 'gift wraps beside notes: instead of the one note a stranger found', found.map(({ kind }) => kind))
  },

  async restart(stage) {
    const [alice, bob] = [await stage.join(), await stage.join()]
    const before = await alice.publish({ kind: 1, content: 'before' })
    const feed = await bob.follow({ kinds: [1], authors: [alice.pubkey] })
    await feed.has(before, 'a stored note')
    const { aroundRestart = restart => restart() } = stage.library
    await aroundRestart(stage.restart)
    // Whoever publishes while the connection is gone tries again, as people do. Some libraries come back by themselves only
    // after a while, and miss what came in between: the feed goes on as soon as one new note arrives.
    const published = [before]
    const deadline = realNow() + ANSWER_TIMEOUT_MS
    for (let arrived = false; !arrived; ) {
      check(realNow() < deadline, 'after a restart of the relay no live note arrives; published:', published.length - 1)
      const note = await alice.publish({ kind: 1, content: `after ${published.length}` }).catch(() => pause(100))
      if (!note) continue
      published.push(note)
      arrived = await feed.has(note, 'a live note', 1_000).then(() => true, () => false)
    }
    const found = await bob.fetch({ kinds: [1], authors: [alice.pubkey] })
    check(same(found, published), 'after a restart a client finds', contents(found))
  },
}

/**
 * Runs a library's session. `library` has its `name` and
 * - `open(url, secret?)`: a client for one person, or for somebody without an account; the client has
 *   `publish(template)`, `publishSigned(event)`, `fetch(filters)`, `follow(filters, onevent)`, `count(filters)`, `close()`;
 * - `lacks`: steps that the library has nothing for; `steps`: steps of its own; `slow`: those that run only when named;
 * - `aroundRestart(restart)`: restarts the relay, and has the library notice that it is back.
 */
export async function session(library) {
  const steps = { ...STEPS, ...library.steps }
  for (const name of library.lacks ?? []) delete steps[name]
  const usual = Object.keys(steps)
  Object.assign(steps, library.slow)
  if (process.argv[2] === '--lies') return controls(library, steps, JSON.parse(process.argv[3]))
  const [url, ...chosen] = process.argv.slice(2)
  for (const name of chosen.length ? chosen : usual) {
    const stage = new Stage(url, library, askForRestart)
    const began = realNow()
    try {
      await steps[name](stage)
      await stage.leave()
    } catch (error) {
      console.error(`${library.name}, ${name}: ${error instanceof Complaint ? error.message : error?.stack ?? error}`)
      process.exit(1)
    }
    console.log(`${library.name}, ${name}: content after ${realNow() - began} ms`)
  }
  process.exit(0)
}

/** Every step against a relay that lies about it must complain, and about that. */
async function controls(library, steps, liars) {
  let failed = false
  for (const [name, url] of Object.entries(liars)) {
    const stage = new Stage(url, library, () => fetch(`${url.replace('ws', 'http')}/restart`))
    const words = await steps[name](stage).then(() => 'content with a relay that lies', error => `noticed: ${error?.message ?? error}`)
    failed ||= !words.startsWith('noticed') || words.includes('connecting: nothing')
    console.log(`${library.name}, ${name}: ${words}`)
    await stage.leave().catch(() => {})
  }
  process.exit(failed ? 1 : 0)
}

/** Whoever started this script restarts the relay, and says on standard input that it is back. */
function askForRestart() {
  lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  console.log('@restart')
  return within(lines.next(), 'the restart of the relay')
}
let lines
