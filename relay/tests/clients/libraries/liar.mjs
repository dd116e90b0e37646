// A relay that lies: node liar.mjs URL listens on a port for each lie below, passes everything on to the relay at URL and
// back, and breaks one promise. Prints {"STEP": URL} and runs until it is killed. The scenarios' controls.

import { createServer } from 'node:http'
import WebSocket, { WebSocketServer } from 'ws'

const upstream = process.argv[2]

/** Swallows the events of a kind, and says that they are stored. */
const swallow = (kind, from = 0) => {
  const seen = new Map()
  return {
    fromClient(message, answer) {
      if (message[0] !== 'EVENT' || message[1].kind !== kind) return true
      const before = seen.get(message[1].pubkey) ?? 0
      seen.set(message[1].pubkey, before + 1)
      if (before < from) return true
      answer(['OK', message[1].id, true, ''])
      return false
    },
  }
}

/** Refuses the REQs that `bad` names. */
const refuse = (words, bad) => ({
  fromClient(message, answer) {
    if (message[0] !== 'REQ' || !bad(message.slice(2))) return true
    answer(['CLOSED', message[1], words])
    return false
  },
})

/** Keeps back the events after EOSE. */
const deaf = () => {
  const live = new Set()
  return {
    fromRelay(message) {
      if (message[0] === 'EOSE') live.add(message[1])
      return message[0] !== 'EVENT' || !live.has(message[1])
    },
  }
}

const lists = filter => Object.values(filter).filter(Array.isArray)

// One for each step of session.mjs, made anew for each connection. What a side says goes on unless its function says false.
const LIES = {
  profile: () => swallow(0, 1),
  feed: () => {
    let hidden
    return { fromRelay: message => message[0] !== 'EVENT' || (hidden ??= message[2].id) !== message[2].id }
  },
  live: deaf,
  follows: () => refuse('invalid: too many values', filters => filters.some(filter => lists(filter).some(list => list.length > 1_000))),
  'many filters': () => refuse('invalid: too many filters', filters => filters.length > 10),
  'empty lists': () => refuse('invalid: an empty list', filters => filters.some(filter => lists(filter).some(list => list.length === 0))),
  count: () => ({
    fromRelay(message) {
      if (message[0] === 'COUNT') message[2].count += 1
      return true
    },
  }),
  deletion: () => swallow(5),
  'private beside public': () => refuse('auth-required: private', filters => filters.some(({ kinds }) => kinds?.includes(1059))),
  // Once it was asked to restart, nobody gets in any more.
  restart: () => ({}),
  idle: () => refuse('invalid: kinds', filters => filters.some(({ kinds }) => kinds?.includes(99_999))),
  pings: () => ({ fromClient: message => message[0] !== 'REQ' || message.slice(2).every(({ limit }) => limit !== 0) }),
  schema: () => ({
    fromRelay(message) {
      if (message[0] === 'NOTICE') message.push('more')
      return true
    },
  }),
  queue: () => refuse('rate-limited: too many', ([{ ids }]) => ids && Math.random() < 0.5),
  paging: () => {
    let passed = 0
    return { fromRelay: message => message[0] !== 'EVENT' || (passed += 1) % 100 !== 0 }
  },
}

async function listen(lie) {
  let gone = false
  const sockets = new WebSocketServer({ noServer: true })
  const server = createServer(async (request, response) => {
    if (request.url === '/restart') {
      gone = true
      for (const client of sockets.clients) client.terminate()
      return response.end()
    }
    const answer = await fetch(upstream.replace('ws', 'http'), { headers: { accept: request.headers.accept ?? '*/*' } })
    response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') })
    response.end(await answer.text())
  })
  server.on('upgrade', (request, socket, head) => {
    if (gone) return socket.destroy()
    sockets.handleUpgrade(request, socket, head, client => connect(client, request.headers.host, lie()))
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  return `ws://127.0.0.1:${server.address().port}`
}

function connect(client, host, { fromClient = () => true, fromRelay = () => true }) {
  const relay = new WebSocket(upstream, { headers: { host } })
  const opened = new Promise(resolve => relay.on('open', resolve))
  const answer = message => client.send(JSON.stringify(message))
  client.on('message', async text => {
    await opened
    const message = JSON.parse(text)
    if (fromClient(message, answer)) relay.send(JSON.stringify(message))
  })
  relay.on('message', text => {
    const message = JSON.parse(text)
    if (fromRelay(message)) client.send(JSON.stringify(message))
  })
  client.on('close', () => relay.terminate())
  relay.on('close', () => client.terminate())
  relay.on('error', () => client.terminate())
}

const urls = await Promise.all(Object.entries(LIES).map(async ([step, lie]) => [step, await listen(lie)]))
console.log(JSON.stringify(Object.fromEntries(urls)))
