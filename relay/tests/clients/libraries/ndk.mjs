// NDK: one NDK a person, signing in when the relay asks.

import NDK, { NDKEvent, NDKPrivateKeySigner, NDKRelayAuthPolicies, NDKSubscriptionCacheUsage } from '@nostr-dev-kit/ndk'
import { mock } from 'node:test'
import { bytesToHex } from 'nostr-tools/utils'
import { check, now, pause, session } from './session.mjs'

const IDLE_SECONDS = 400

// One question a subscription: NDK else merges what is asked at the same moment.
const ALONE = { groupable: false, cacheUsage: NDKSubscriptionCacheUsage.ONLY_RELAY }

async function open(url, secret) {
  const signer = secret && new NDKPrivateKeySigner(bytesToHex(secret))
  const ndk = new NDK({ explicitRelayUrls: [url], signer, enableOutboxModel: false, autoConnectUserRelays: false })
  if (signer) ndk.relayAuthDefaultPolicy = NDKRelayAuthPolicies.signIn({ ndk })
  await ndk.connect()
  const relay = [...ndk.pool.relays.values()][0]
  if (!relay.connected) await new Promise(resolve => relay.once('connect', resolve))
  const publish = async event => {
    await event.publish(undefined, undefined, 1)
    return event.rawEvent()
  }
  return {
    relay,
    async publish(template) {
      const event = new NDKEvent(ndk, template)
      await event.sign()
      return publish(event)
    },
    publishSigned: event => publish(new NDKEvent(ndk, event)),
    fetch: async filters => [...(await ndk.fetchEvents(filters, ALONE))].map(event => event.rawEvent()),
    count: async filters => (await ndk.count(filters)).count,
    follow: (filters, onevent) =>
      new Promise((resolve, reject) => {
        const subscription = ndk.subscribe(filters, { ...ALONE, closeOnEose: false }, {
          onEvent: event => onevent(event.rawEvent()),
          onEose: () => resolve(() => subscription.stop()),
          onClosed: (_, reason) => reject(new Error(`CLOSED ${reason}`)),
        })
      }),
    close: () => relay.disconnect(),
  }
}

/** NDK's clock is moved by nobody but the steps below. */
const holdClock = () => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.now() })

/** Moves NDK's clock on, with time after each second for what comes over the network. */
async function pass(seconds) {
  for (let second = 0; second < seconds; second += 1) {
    mock.timers.tick(1_000)
    await pause(10)
  }
}

const steps = {
  // NDK asks a relay that has been silent for 120 s for `{"kinds":[99999],"limit":0}`, takes EOSE for a sign of life, and
  // without one connects anew after 5 s and sends all its subscriptions again.
  async idle(stage) {
    await idle(stage, holdClock, () => pass(IDLE_SECONDS))
  },
}

const slow = {
  'idle in real time': stage => idle(stage, () => {}, () => pause(IDLE_SECONDS * 1_000)),
}

/** Two connections hear nothing for so long that each asks three times for a sign of life. */
async function idle(stage, prepare, silence) {
  const [alice, bob] = [await stage.join(), await stage.join()]
  const feed = await bob.follow({ kinds: [1], authors: [alice.pubkey] })
  prepare()
  // Whatever comes winds NDK's clock up.
  await feed.has(await alice.publish({ kind: 1, content: 'here' }), 'a live note')
  let [lost, probes] = [0, 0]
  bob.client.relay.on('disconnect', () => (lost += 1))
  bob.client.relay.connectivity.netDebug = (words, _, direction) => {
    if (direction === 'send' && words.includes('99999')) probes += 1
  }
  await silence()
  mock.timers.reset()
  check(lost === 0, 'an idle NDK disconnected', `${lost} times in ${IDLE_SECONDS} s`)
  check(probes >= 3, 'NDK has asked for a sign of life only', `${probes} times: this step checks nothing`)
  await feed.has(await alice.publish({ kind: 1, content: 'still here', created_at: now() }), 'a live note after a silence')
}

session({
  name: 'NDK',
  open,
  steps,
  slow,
  // NDK connects anew no sooner than 60 s after it last connected.
  async aroundRestart(restart) {
    holdClock()
    await restart()
    await pass(65)
    mock.timers.reset()
  },
})
