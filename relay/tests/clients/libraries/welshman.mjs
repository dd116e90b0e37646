// @welshman/net: a pool a person with the policies that @welshman/app uses. It sends each filter as a
// REQ of its own, and while a challenge is unanswered it keeps EOSE from whoever has asked: so a stranger signs in, too, as
// somebody whom nobody knows.

import { PublishStatus, Pool, Socket, defaultSocketPolicies, makeSocketPolicyAuth, publish, request, requestOne } from '@welshman/net'
import { bytesToHex } from 'nostr-tools/utils'
import { getPubkey, makeSecret, prep, sign } from '@welshman/util'
import { check, session } from './session.mjs'

async function open(url, secret, { signsIn = true } = {}) {
  const key = secret ? bytesToHex(secret) : makeSecret()
  const signWith = async template => sign(prep(template, getPubkey(key)), key)
  const signingIn = makeSocketPolicyAuth({ sign: signWith, shouldAuth: () => signsIn })
  const policies = [...defaultSocketPolicies, signingIn]
  const pool = new Pool({ makeSocket: address => new Socket(address, policies) })
  const context = { pool }
  const publishSigned = async event => {
    const { [url]: result } = await publish({ relays: [url], event, context })
    if (result.status !== PublishStatus.Success) throw new Error(`${result.status}: ${result.detail}`)
    return event
  }
  return {
    publishSigned,
    publish: async template => publishSigned(await signWith(template)),
    fetch: (filters, signal) => request({ relays: [url], filters, context, autoClose: true, signal }),
    follow: (filters, onEvent) =>
      new Promise(resolve => {
        const controller = new AbortController()
        const onEose = () => resolve(() => controller.abort())
        requestOne({ relay: url, filters, context, signal: controller.signal, onEvent, onEose })
      }),
    close: () => pool.clear(),
  }
}

const steps = {
  // Nobody is logged in: without EOSE, what has come within three seconds is the answer, as @welshman's own `load` has it.
  async anonymous(stage) {
    const alice = await stage.join()
    const note = await alice.publish({ kind: 1, content: 'public' })
    const reader = await open(stage.url, undefined, { signsIn: false })
    const found = await reader.fetch([{ kinds: [1], authors: [alice.pubkey] }], AbortSignal.timeout(3_000))
    reader.close()
    check(found.length === 1 && found[0].id === note.id, 'who is not logged in finds', `${found.length} of one note`)
  },
}

session({ name: '@welshman/net', open, steps, lacks: ['count'] })
