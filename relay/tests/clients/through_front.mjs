// nostr-tools against a cluster: node through_front.mjs ws://127.0.0.1:PORT. Nine connections, which HAProxy spreads over
// the relays, follow an author, publish in turn, and each must get every event once, live and stored.

import { fetchRelayInformation, useFetchImplementation } from 'nostr-tools/nip11'
import { Corpus } from './corpus.mjs'
import { Session, agree } from './session.mjs'

const [url] = process.argv.slice(2)
const now = () => Math.floor(Date.now() / 1000)

async function main() {
  useFetchImplementation((target, options) => fetch(target, options))
  const information = await fetchRelayInformation(url)
  agree(information.supported_nips?.includes(42), 'NIP-11 lacks NIP 42:', information)
  const corpus = new Corpus(1, now())
  const author = corpus.person()
  const sessions = await Promise.all(Array.from({ length: 9 }, () => Session.open(url)))
  for (const session of sessions) await session.follow([{ authors: [author] }])
  const published = []
  for (let n = 0; n < 90; n += 1) {
    const event = corpus.sign(author, { kind: 1, created_at: now() - n, tags: [], content: `note ${n}` })
    published.push(event.id)
    sessions.forEach(session => session.expect(event))
    const answer = await sessions[n % sessions.length].publish(event)
    agree(answer.ok, 'a note was refused:', answer)
  }
  for (const session of sessions) {
    await session.caught()
    const { ids } = await session.ask([{ authors: [author], kinds: [1] }])
    agree(ids.length === 90 && published.every(id => ids.includes(id)), 'stored notes are missing or doubled:', ids.length)
    const { count } = await session.count([{ authors: [author] }])
    agree(count === 90, 'COUNT says', count)
  }
  // The relays know by which address clients know them.
  await sessions[0].authenticate(corpus, author)
  sessions.forEach(session => session.close())
  console.log(`nostr-tools agrees: ${sessions.length} connections, ${published.length} notes`)
}

main().then(
  () => process.exit(0),
  error => {
    console.error(error)
    process.exit(1)
  },
)
