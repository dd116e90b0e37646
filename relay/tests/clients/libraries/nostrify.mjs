// @nostrify/nostrify: NRelay1, whose schema drops whatever it does not know. So everything that the relay
// says in this whole session must pass it.

import { NRelay1, NSecSigner } from '@nostrify/nostrify'
import { check, eventually, now, session } from './session.mjs'

async function open(url, secret) {
  const signer = secret && new NSecSigner(secret)
  const dropped = []
  const heard = new Map()
  const log = ({ ns, data, error }) => {
    if (ns === 'relay.ws.message' && error) dropped.push(String(error))
    if (ns === 'relay.ws.message' && data) heard.set(data[0], (heard.get(data[0]) ?? 0) + 1)
  }
  const auth = challenge => signer.signEvent({ kind: 22242, content: '', tags: [['relay', url], ['challenge', challenge]], created_at: now() })
  const relay = new NRelay1(url, { auth: signer && auth, log, idleTimeout: false })
  const publishSigned = async event => {
    await relay.event(event)
    return event
  }
  return {
    relay,
    heard,
    dropped,
    publishSigned,
    publish: async template => publishSigned(await signer.signEvent(template)),
    fetch: filters => relay.query(filters),
    count: async filters => (await relay.count(filters)).count,
    async follow(filters, onevent) {
      const controller = new AbortController()
      const messages = relay.req(filters, { signal: controller.signal })[Symbol.asyncIterator]()
      for (;;) {
        const { value, done } = await messages.next()
        if (done) throw new Error('CLOSED')
        if (value[0] === 'EOSE') break
        onevent(value[2])
      }
      const listen = async () => {
        for await (const message of messages) if (message[0] === 'EVENT') onevent(message[2])
      }
      listen().catch(() => {})
      return () => controller.abort()
    },
    async close() {
      check(dropped.length === 0, "nostrify's schema refuses what the relay says:", dropped)
      await relay.close()
    },
  }
}

const steps = {
  // Each message that a relay can send, provoked once.
  async schema(stage) {
    const alice = await stage.join()
    const { relay, heard } = alice.client
    const note = await alice.publish({ kind: 1, content: 'ünï ✓ 🦀 \u2028 \\ "' })
    await alice.fetch({ ids: [note.id] })
    await alice.client.count([{ authors: [alice.pubkey] }])
    const broken = { ...note, sig: '0'.repeat(128), id: '0'.repeat(64) }
    const refused = await relay.event(broken).then(() => '', error => error.message)
    check(refused.startsWith('invalid:'), 'an event with a wrong id is answered with', refused)
    // CLOSED is an empty answer to this library's users.
    const closed = await relay.query([{ kinds: [1], bogus: ['x'] }])
    check(closed.length === 0, 'a filter with an unknown key finds', closed)
    relay.socket.send('["PING"]')
    await eventually(() => heard.has('NOTICE'), 'a NOTICE that nostrify can read')
    const kinds = [...heard.keys()].sort()
    check(kinds.join() === 'AUTH,CLOSED,COUNT,EOSE,EVENT,NOTICE,OK', 'not every message was provoked:', kinds)
  },

  async information(stage) {
    const alice = await stage.stranger()
    const read = await alice.client.relay.getRelayInfo()
    const sent = await (await fetch(stage.url.replace('ws', 'http'), { headers: { accept: 'application/nostr+json' } })).json()
    // A field that does not fit becomes undefined.
    const fields = information => Object.entries({ ...information, ...information?.limitation }).map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    const limits = ({ limitation: _, ...rest }) => rest
    const lost = fields({ ...limits(sent), ...sent.limitation }).filter(field => !fields({ ...limits(read ?? {}), ...read?.limitation }).includes(field))
    check(lost.length === 0, "nostrify's schema refuses fields of NIP-11:", lost)
  },
}

session({ name: '@nostrify/nostrify', open, steps })
