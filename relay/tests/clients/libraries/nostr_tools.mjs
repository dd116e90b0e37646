// nostr-tools' SimplePool, as most web clients have it. (../nostr_tools.mjs holds every answer against a model.)

import { SimplePool, finalizeEvent } from 'nostr-tools'
import { session } from './session.mjs'

async function open(url, secret) {
  const pool = new SimplePool({ enablePing: true, enableReconnect: true })
  if (secret) pool.automaticallyAuth = () => async template => finalizeEvent(template, secret)
  const relay = await pool.ensureRelay(url)
  const publishSigned = async event => {
    await Promise.all(pool.publish([url], event))
    return event
  }
  return {
    publishSigned,
    publish: template => publishSigned(finalizeEvent(template, secret)),
    // The pool puts the filters of one relay into one REQ.
    fetch: filters =>
      new Promise((resolve, reject) => {
        const found = []
        const subscription = pool.subscribeMap(filters.map(filter => ({ url, filter })), {
          onevent: event => found.push(event),
          oneose: () => {
            resolve(found)
            subscription.close()
          },
          onclose: reasons => reject(new Error(`closed: ${JSON.stringify(reasons)}`)),
        })
      }),
    count: async filters => relay.count(filters, {}),
    follow: (filters, onevent) =>
      new Promise((resolve, reject) => {
        const subscription = pool.subscribeMap(filters.map(filter => ({ url, filter })), {
          onevent,
          oneose: () => resolve(() => subscription.close()),
          onclose: reasons => reject(new Error(`closed: ${JSON.stringify(reasons)}`)),
        })
      }),
    close: () => pool.destroy(),
  }
}

session({ name: 'nostr-tools', open })
