// applesauce-relay: one Relay a person, RxJS observables.

import { Relay } from 'applesauce-relay'
import { firstValueFrom, lastValueFrom, repeat, toArray } from 'rxjs'
import { finalizeEvent } from 'nostr-tools'
import { check, eventually, pause, session, within } from './session.mjs'

async function open(url, secret, options) {
  const relay = new Relay(url, options)
  const signer = { signEvent: template => finalizeEvent(template, secret) }
  const signingIn = secret && relay.challenge$.subscribe(challenge => challenge && relay.authenticate(signer).catch(() => {}))
  const publishSigned = async event => {
    const { ok, message } = await relay.publish(event)
    if (!ok) throw new Error(message)
    return event
  }
  return {
    relay,
    publishSigned,
    publish: template => publishSigned(finalizeEvent(template, secret)),
    fetch: filters => lastValueFrom(relay.request(filters).pipe(toArray())),
    count: async filters => (await firstValueFrom(relay.count(filters))).count,
    follow: (filters, onevent) =>
      new Promise((resolve, reject) => {
        // A connection that was closed cleanly completes the subscription; whoever wants to go on repeats it.
        const events = relay.subscription(filters, { reconnect: { count: 100, delay: 200 } }).pipe(repeat({ delay: 200 }))
        const subscription = events.subscribe({
          next: response => (response === 'EOSE' ? resolve(() => subscription.unsubscribe()) : onevent(response)),
          error: reject,
        })
      }),
    close() {
      signingIn?.unsubscribe()
      relay.close()
    },
  }
}

const steps = {
  // Its ping is a REQ for an id that nobody has; silence would make it reconnect.
  async pings(stage) {
    const alice = await stage.join()
    const unresponsive = []
    // The default is a ping every 29 s, and 20 s for its answer.
    const reader = await open(stage.url, undefined, {
      enablePing: true,
      pingFrequency: 500,
      pingTimeout: 2_000,
      onUnresponsive: ({ attempts }) => void unresponsive.push(attempts) ?? 'reconnect',
    })
    const seen = []
    await within(reader.follow([{ kinds: [1], authors: [alice.pubkey] }], event => seen.push(event)), 'a subscription')
    await pause(4_000)
    check(unresponsive.length === 0, 'a relay that was pinged is taken for dead', `${unresponsive.length} times`)
    const note = await alice.publish({ kind: 1, content: 'still here' })
    await eventually(() => seen.some(({ id }) => id === note.id), 'a live note after some pings')
    reader.close()
  },

  async information(stage) {
    const alice = await stage.stranger()
    const information = await alice.client.relay.getInformation()
    check(information?.supported_nips?.includes(42), 'NIP-11 as applesauce reads it:', information)
    check(information.limitation?.max_message_length > 0, 'NIP-11 has no limits:', information)
  },
}

session({ name: 'applesauce-relay', open, steps })
