// nostr-tools against a running, empty relay: node nostr_tools.mjs ws://127.0.0.1:PORT [SEED]
// Every answer is held against a model. Ends with 1 at the first disagreement, else prints what it has checked.

import { fetchRelayInformation, useFetchImplementation } from 'nostr-tools/nip11'
import { Corpus } from './corpus.mjs'
import { Model } from './model.mjs'
import { Disagreement, Session, agree, publishAll } from './session.mjs'

const [url, seed = '1'] = process.argv.slice(2)
const counts = { published: 0, queries: 0, rows: 0, counts: 0, live: 0 }
const now = () => Math.floor(Date.now() / 1000)

async function main() {
  agree(new URL(url).hostname === '127.0.0.1', 'only a relay on 127.0.0.1 is talked to, not', url)
  const information = await relayInformation()
  const model = new Model(information.limitation)
  const corpus = new Corpus(Number(seed), now())
  const publisher = await Session.open(url)
  const stranger = await Session.open(url)
  const observer = await Session.open(url)
  const addressee = await Session.open(url)
  await addressee.authenticate(corpus, corpus.recipients[0], corpus.recipients[1])

  const questions = corpus.questions(8)
  for (const { filters } of questions.filter((_, at) => at % 2 === 0)) await observer.follow(filters)
  await observer.follow([{ kinds: [1, 1059], limit: 0 }])
  await addressee.follow([{ kinds: [1059] }])
  await addressee.follow([{ '#p': [corpus.recipients[0]] }, { '#p': [corpus.recipients[2]], kinds: [1059], limit: 0 }])

  for (const name of ['regular', 'replaceable', 'addressable', 'ephemeral', 'wraps', 'deletions']) {
    const tally = await publishAll(publisher, [observer, addressee], model, corpus[name])
    counts.published += corpus[name].length
    console.log(`${name}: ${JSON.stringify(tally)}`)
    await compareStored(stranger, model, questions)
    await giftWraps(stranger, addressee, model, corpus)
  }
  // Everything once more: duplicates, superseded versions, and what was deleted must stay away, known or not.
  const again = [corpus.regular, corpus.replaceable, corpus.addressable, corpus.wraps, corpus.unborn].flat()
  console.log(`again: ${JSON.stringify(await publishAll(publisher, [observer, addressee], model, again))}`)
  await compareStored(stranger, model, questions)

  await expiry(publisher, stranger, [observer, addressee], model, corpus)
  await protection(publisher, [observer, addressee], model, corpus)
  await compareStored(stranger, model, questions)
  // Whatever the live subscriptions should not have got would have come by now: this comes after it.
  await publishAll(publisher, [observer, addressee], model, [corpus.draft([1])])
  counts.live = observer.received() + addressee.received()
  for (const session of [publisher, stranger, observer, addressee]) session.close()
  console.log(`nostr-tools agrees: ${JSON.stringify(counts)}`)
}

async function relayInformation() {
  useFetchImplementation((target, options) => {
    agree(new URL(target).hostname === '127.0.0.1', 'NIP-11 is fetched from the relay only, not from', String(target))
    return fetch(target, options)
  })
  const information = await fetchRelayInformation(url)
  for (const nip of [1, 9, 11, 40, 42, 45, 59, 70]) agree(information.supported_nips?.includes(nip), `NIP-11 lacks NIP ${nip}:`, information)
  for (const limit of ['max_limit', 'default_limit', 'max_subscriptions', 'max_message_length']) {
    agree(information.limitation?.[limit] > 0, `NIP-11 has no limitation.${limit}:`, information)
  }
  return information
}

/** Every question as REQ and as COUNT, a few at the same time. */
async function compareStored(session, model, questions) {
  const waiting = [...questions]
  const worker = async () => {
    for (let question = waiting.pop(); question; question = waiting.pop()) await compareOne(session, model, question)
  }
  await Promise.all(Array.from({ length: 8 }, worker))
}

async function compareOne(session, model, { form, filters }) {
  const said = JSON.stringify(filters)
  const { ids, closed } = await session.ask(filters)
  agree(!closed, `[${form}] CLOSED instead of an answer: ${closed} for`, said)
  const wanted = model.answer(filters, session.readers)
  const at = wanted.findIndex((id, index) => ids[index] !== id)
  const here = at < 0 ? Math.min(ids.length, wanted.length) : at
  agree(at < 0 && ids.length === wanted.length,
    `[${form}] ${ids.length} events instead of ${wanted.length}, differing at ${here}: ${ids[here]} instead of ${wanted[here]} for`, said)
  counts.queries += 1
  counts.rows += ids.length
  const { count, closed: refused } = await session.count(filters)
  agree(count === model.count(filters, session.readers),
    `[${form}] COUNT says ${refused ?? count} instead of ${model.count(filters, session.readers)} for`, said)
  counts.counts += 1
}

/** NIP-17, NIP-59: gift wraps go to those who have proved that they are meant, in REQ and COUNT alike. */
async function giftWraps(stranger, addressee, model, corpus) {
  const [first, second, third] = corpus.recipients
  const filters = [{ kinds: [1059] }, { kinds: [1059], '#p': [first] }, { '#p': [first, second, third] }, { kinds: [1059], '#p': [third] },
    { ids: corpus.wraps.slice(0, 50).map(event => event.id) }, { kinds: [1, 1059], limit: 30 }, { kinds: [1059], authors: corpus.authors, limit: 9 }]
  for (const filter of filters) await compareOne(addressee, model, { form: 'addressee', filters: [filter] })
  await compareOne(addressee, model, { form: 'addressee', filters })
  for (const filter of filters) {
    if (filter.kinds?.length !== 1) {
      await compareOne(stranger, model, { form: 'stranger', filters: [filter] })
      continue
    }
    const answer = await stranger.ask([filter])
    agree(answer.closed?.startsWith('auth-required:'), 'a stranger asked for gift wraps and was not told auth-required:', answer)
    const counted = await stranger.count([filter])
    agree(counted.closed?.startsWith('auth-required:'), 'a stranger counted gift wraps and was not told auth-required:', counted)
  }
}

/** NIP-40: refused once expired, served until then, gone afterwards. */
async function expiry(publisher, reader, observers, model, corpus) {
  const expiring = (at, content) => corpus.sign(corpus.authors[0], { kind: 4242, created_at: now(), tags: [['expiration', String(at)]], content })
  const late = await publisher.publish(expiring(now() - 1, 'too late'))
  agree(!late.ok && late.words.startsWith('invalid:'), 'an expired event was not refused with invalid:', late)
  const [soon, never] = [expiring(now() + 3, 'soon'), expiring(now() + 100_000, 'not soon')]
  await publishAll(publisher, observers, model, [soon, never])
  for (;;) {
    const asked = now()
    const { ids } = await reader.ask([{ kinds: [4242] }])
    const { count } = await reader.count([{ kinds: [4242] }])
    const answered = now()
    agree(ids.includes(never.id), 'an event that has not expired is missing:', never)
    const expiresAt = Number(soon.tags[0][1])
    if (answered < expiresAt) agree(ids.includes(soon.id) && count === 2, 'an event left before it expired:', soon)
    if (asked > expiresAt) {
      agree(!ids.includes(soon.id) && count === 1, 'an event is served after it expired:', soon)
      break
    }
    // Time itself is awaited here, nothing else.
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  model.stored.delete(soon.id)
}

/** NIP-70: a protected event comes from its author or not at all. */
async function protection(publisher, observers, model, corpus) {
  const author = corpus.person()
  const guarded = corpus.sign(author, { kind: 4242, created_at: now(), tags: [['-']], content: 'mine' })
  const session = await Session.open(url)
  const refused = await session.publish(guarded)
  agree(!refused.ok && refused.words.startsWith('auth-required:'), 'a protected event from nobody was not told auth-required:', refused)
  await session.authenticate(corpus, corpus.authors[0])
  const foreign = await session.publish(guarded)
  agree(!foreign.ok && foreign.words.startsWith('restricted:'), "a protected event from somebody else was not told restricted:", foreign)
  const repost = corpus.sign(corpus.authors[0], { kind: 6, created_at: now(), tags: [['e', guarded.id]], content: JSON.stringify(guarded) })
  const reposted = await publisher.publish(repost)
  agree(!reposted.ok, 'a repost that embeds a protected event was taken:', reposted)
  await session.authenticate(corpus, author)
  await publishAll(session, observers, model, [guarded])
  session.close()
}

main().then(
  () => process.exit(0),
  error => {
    console.error(error instanceof Disagreement ? `nostr-tools disagrees (seed ${seed}): ${error.message}` : error)
    process.exit(1)
  },
)
