// rx-nostr: RxJS again, with a queue that respects NIP-11's max_subscriptions. It leaves empty lists out of a filter, so that
// the relay never sees one.

import { createRxBackwardReq, createRxForwardReq, createRxNostr, noopSigner, uniq } from 'rx-nostr'
import { seckeySigner, verifier } from '@rx-nostr/crypto'
import { bytesToHex } from 'nostr-tools/utils'
import { filter, firstValueFrom, lastValueFrom, toArray } from 'rxjs'
import WebSocket from 'ws'
import { check, session } from './session.mjs'

async function open(url, secret) {
  const signer = secret && seckeySigner(bytesToHex(secret))
  const rxNostr = createRxNostr({
    verifier,
    signer,
    authenticator: signer && 'auto',
    websocketCtor: WebSocket,
    retry: { strategy: 'linear', maxCount: 100, interval: 200 },
  })
  rxNostr.setDefaultRelays([url])
  const messages = rxNostr.createAllMessageObservable()
  const publishSigned = async event => {
    const { ok, notice } = await lastValueFrom(rxNostr.send(event, { signer: noopSigner() }))
    if (!ok) throw new Error(notice)
    return event
  }
  const fetchOnce = async (rxReq, filters) => {
    const found = lastValueFrom(rxNostr.use(rxReq).pipe(uniq(), toArray()))
    rxReq.emit(filters)
    rxReq.over()
    return (await found).map(({ event }) => event)
  }
  return {
    messages,
    publishSigned,
    publish: async template => publishSigned(await signer.signEvent(template)),
    fetch: filters => fetchOnce(createRxBackwardReq(), filters),
    async follow(filters, onevent) {
      const rxReq = createRxForwardReq()
      const subscription = rxNostr.use(rxReq).pipe(uniq()).subscribe(({ event }) => onevent(event))
      const live = firstValueFrom(messages.pipe(filter(({ type, subId }) => type === 'EOSE' && subId.startsWith(rxReq.rxReqId))))
      rxReq.emit(filters)
      await live
      return () => subscription.unsubscribe()
    },
    close: () => rxNostr.dispose(),
  }
}

const steps = {
  // More questions at once than a connection may have: the library waits with the rest, so nobody is refused.
  async queue(stage) {
    const [alice, bob] = [await stage.join(), await stage.stranger()]
    const note = await alice.publish({ kind: 1, content: 'asked for often' })
    const sent = await fetch(stage.url.replace('ws', 'http'), { headers: { accept: 'application/nostr+json' } })
    const { limitation } = await sent.json()
    const refused = []
    bob.client.messages.subscribe(({ type, notice }) => type === 'CLOSED' && refused.push(notice))
    const asked = Array.from({ length: limitation.max_subscriptions + 20 }, () => bob.fetch({ ids: [note.id] }))
    const answers = await Promise.all(asked)
    check(refused.length === 0, 'the library respects max_subscriptions, and still was refused:', refused.slice(0, 3))
    check(answers.every(events => events.length === 1), 'some of many questions found nothing:', answers.filter(events => events.length !== 1).length)
  },
}

session({ name: 'rx-nostr', open, steps, lacks: ['count', 'empty lists'] })
