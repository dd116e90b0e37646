//! What a client has said so far, and what each of its messages means. No sockets here.

mod subscriptions;

use super::http::upgrade::Client;
use super::listening::listener::Gate;
use super::rate::MessageRate;
use super::{ConnectionSettings, Services};
use crate::ingest::{InFlight, IngestClosed, Submission};
use crate::message::ClientMessage;
use crate::outbox::Outbox;
use crate::policy::{self, RelayUrl};
use crate::telemetry::{MessageType, Operation};
use crate::types::{Access, Event, EventId, PublicKey, Refusal, Reply, ReplyId, Verdict, now};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use subscriptions::Subscriptions;

/// The most pubkeys that may authenticate on one connection: every event that it hands in carries them.
const MAX_AUTHENTICATED: usize = 32;

/// One client's state, from its first message to its last.
pub(super) struct Session {
    pub(super) client: Client,
    outbox: Arc<Outbox>,
    access: Access,
    challenge: Box<str>,
    subscriptions: Subscriptions,
    rate: MessageRate,
    /// Events that were handed in and not answered yet.
    in_flight: Arc<AtomicUsize>,
    /// Messages so far, to note who sends most.
    heard: u32,
}

/// An address is noted with every so many messages of a connection: a lock for each would be too dear.
const HEARD_STEP: u32 = 16;

/// Something that must be over before the client's next message is read. What is sent to it goes on meanwhile.
pub(super) type Waiting = BoxFuture<'static, Outcome>;

/// What came of it.
pub(super) enum Outcome {
    /// The event was handed in; ingest answers it.
    HandedIn,
    /// It was not: the relay is shutting down.
    TurnedAway(EventId),
    /// The signature of an AUTH was checked.
    Checked(Arc<Event>, Result<bool, IngestClosed>, Instant),
}

impl Session {
    /// A new session, whose challenge (NIP-42) is the first thing in its outbox.
    pub(super) fn new(client: Client, outbox: Arc<Outbox>) -> Self {
        let challenge = format!("{:032x}", rand::random::<u128>());
        outbox.reply(Reply::Auth(challenge.clone()));
        Self {
            client,
            outbox,
            access: Access::default(),
            challenge: challenge.into(),
            subscriptions: Subscriptions::default(),
            rate: MessageRate::default(),
            in_flight: Arc::default(),
            heard: 0,
        }
    }

    /// True where as many queries are under way as one client may have: its next message waits.
    pub(super) fn is_busy(&self, settings: &ConnectionSettings) -> bool {
        self.subscriptions.running() >= settings.max_running_queries
    }

    /// How many more messages may be read now, so that the answers owed stay bounded; each has one, but for queries,
    /// which [`is_busy`](Self::is_busy) bounds.
    pub(super) fn room(&self, settings: &ConnectionSettings) -> usize {
        settings.max_pending_replies.saturating_sub(self.in_flight() + self.outbox.replies())
    }

    /// How many events were handed in and not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// What this client may read as of now.
    pub(super) fn access(&mut self, settings: &ConnectionSettings) -> &Access {
        if self.access.private_kinds != settings.private_kinds {
            self.access.private_kinds = settings.private_kinds.clone();
        }
        &self.access
    }

    /// Deals with one text message. Whatever it gets as an answer comes to the outbox.
    pub(super) fn receive(&mut self, text: &str, gate: &Gate) -> Option<Waiting> {
        let received_at = Instant::now();
        let services = &gate.services;
        let settings = services.settings.load();
        let parsed = ClientMessage::parse(text, &settings.parse);
        services.metrics.messages.of(message_type(&parsed)).increment(1);
        self.heard = self.heard.wrapping_add(1);
        if self.heard.is_multiple_of(HEARD_STEP) {
            services.metrics.notes.heard(self.client.address, u64::from(HEARD_STEP));
        }
        if !self.rate.allows(settings.messages) {
            self.reply(refused(parsed, Refusal::RateLimited), services);
            return None;
        }
        if text.len() > settings.max_message_bytes {
            let refusal = Refusal::MessageTooLarge { max_bytes: settings.max_message_bytes };
            self.reply(refused(parsed, refusal), services);
            return None;
        }
        let message = match parsed {
            Ok(message) => message,
            Err(reply) => {
                self.reply(reply, services);
                return None;
            }
        };
        let rules = services.rules.load();
        self.access(&settings);
        match message {
            ClientMessage::Event(event) => return self.hand_in(event, received_at, gate, &settings),
            ClientMessage::Auth(event) => return self.authenticate(event, received_at, gate, &settings),
            ClientMessage::Close(id) => self.subscriptions.close(&id, &services.log),
            ClientMessage::Req(id, filters) => {
                // Whatever becomes of the new one, its id no longer means the old one.
                self.subscriptions.forget(&id, &services.log);
                let admitted = policy::check_read(&filters, &rules, &self.access)
                    .and_then(|()| self.subscriptions.check_room(settings.max_subscriptions));
                match admitted {
                    Ok(()) => self.subscriptions.open(id, filters, &self.outbox, &self.access, services),
                    Err(refusal) => self.reply(Reply::Closed(id, refusal), services),
                }
            }
            ClientMessage::Count(id, filters) => match policy::check_read(&filters, &rules, &self.access) {
                Ok(()) => self.subscriptions.count(id, filters, &self.outbox, &self.access, services),
                Err(refusal) => self.reply(Reply::Closed(id, refusal), services),
            },
        }
        None
    }

    /// EVENT: hands it to ingest, which answers it.
    fn hand_in(
        &mut self,
        event: Event,
        received_at: Instant,
        gate: &Gate,
        settings: &ConnectionSettings,
    ) -> Option<Waiting> {
        let id = event.id();
        if !gate.events.allows(self.client.address, settings.events_per_address) {
            self.answer(id, Verdict::Refused(Refusal::RateLimited), &gate.services);
            return None;
        }
        self.access.has_published = true;
        let submission = Submission {
            event: Arc::new(event),
            access: self.access.clone(),
            outbox: self.outbox.clone(),
            metrics: gate.services.metrics.clone(),
            received_at,
            trace: gate.services.metrics.journeys.begin(received_at),
            in_flight: InFlight::start(&self.in_flight),
        };
        let submission = gate.services.ingest.try_submit(submission).err()?;
        let ingest = gate.services.ingest.clone();
        Some(Box::pin(async move {
            match ingest.submit(submission).await {
                Ok(()) => Outcome::HandedIn,
                Err(IngestClosed) => Outcome::TurnedAway(id),
            }
        }))
    }

    /// AUTH (NIP-42): what is cheap to check is checked at once, the signature by the CPU workers.
    fn authenticate(
        &mut self,
        event: Event,
        received_at: Instant,
        gate: &Gate,
        settings: &ConnectionSettings,
    ) -> Option<Waiting> {
        let as_seen = || RelayUrl::parse(self.client.own_url.as_deref()?).ok();
        let own_url = settings.public_url.clone().or_else(as_seen);
        let checked = policy::check_auth(&event, &self.challenge, own_url.as_slice(), now());
        let checked = checked.and_then(|_| match self.access.authenticated.len() < MAX_AUTHENTICATED {
            true => Ok(()),
            false => Err(Refusal::WrongAuthentication("too many keys have authenticated here".to_owned())),
        });
        if let Err(refusal) = checked {
            self.answer(event.id(), Verdict::Refused(refusal), &gate.services);
            return None;
        }
        let (event, ingest) = (Arc::new(event), gate.services.ingest.clone());
        Some(Box::pin(async move {
            let holds = ingest.signature_holds(event.clone()).await;
            Outcome::Checked(event, holds, received_at)
        }))
    }

    /// Takes up what a [`Waiting`] has come to.
    pub(super) fn resume(&mut self, outcome: Outcome, gate: &Gate) {
        let (event, holds) = match outcome {
            Outcome::HandedIn => return,
            Outcome::TurnedAway(id) => {
                return self.answer(id, Verdict::Refused(Refusal::ShuttingDown), &gate.services);
            }
            Outcome::Checked(event, holds, received_at) => {
                let latency = gate.services.metrics.query_latency.of(Operation::Auth);
                latency.record(received_at.elapsed());
                (event, holds)
            }
        };
        let verdict = match holds {
            Ok(true) => {
                self.add_reader(event.pubkey());
                Verdict::Accepted
            }
            Ok(false) => Verdict::Refused(Refusal::WrongSignature),
            Err(IngestClosed) => Verdict::Refused(Refusal::ShuttingDown),
        };
        self.answer(event.id(), verdict, &gate.services);
    }

    fn add_reader(&mut self, pubkey: PublicKey) {
        if !self.access.authenticated.contains(&pubkey) {
            self.access.authenticated.push(pubkey);
        }
    }

    fn answer(&mut self, id: EventId, verdict: Verdict, services: &Services) {
        self.reply(Reply::Ok { id: ReplyId::Id(id), verdict }, services);
    }

    fn reply(&mut self, reply: Reply, services: &Services) {
        if let Reply::Closed(id, _) = &reply {
            // It tells the client that nothing more comes under this id.
            self.subscriptions.forget(id, &services.log);
        }
        if let Reply::Ok { verdict: Verdict::Refused(refusal), .. }
        | Reply::Closed(_, refusal)
        | Reply::Notice(refusal) = &reply
        {
            services.metrics.refusals.of(refusal).increment(1);
        }
        self.outbox.reply(reply);
    }

    /// Ends the subscriptions that would be refused by now: rules may change while they are open. To be called before
    /// anything is sent.
    pub(super) fn hold_to_rules(&self, services: &Services) {
        if let Err(refusal) = policy::check_reader(&services.rules.load(), &self.access) {
            self.subscriptions.end_all(&refusal, &services.log);
        }
    }

    /// Ends every subscription and query. What was handed in goes on; its answers just find nobody.
    pub(super) fn end(&mut self, gate: &Gate) {
        self.subscriptions.close_all(&gate.services.log);
    }
}

/// The refusal of a message, in the form that its sender waits for.
fn refused(message: Result<ClientMessage, Reply>, refusal: Refusal) -> Reply {
    match message {
        Ok(ClientMessage::Event(event) | ClientMessage::Auth(event)) => {
            Reply::Ok { id: ReplyId::Id(event.id()), verdict: Verdict::Refused(refusal) }
        }
        Ok(ClientMessage::Req(id, _) | ClientMessage::Count(id, _)) => Reply::Closed(id, refusal),
        Err(Reply::Ok { id, .. }) => Reply::Ok { id, verdict: Verdict::Refused(refusal) },
        Err(Reply::Closed(id, _)) => Reply::Closed(id, refusal),
        Ok(ClientMessage::Close(_)) | Err(_) => Reply::Notice(refusal),
    }
}

fn message_type(parsed: &Result<ClientMessage, Reply>) -> MessageType {
    match parsed {
        Ok(ClientMessage::Event(_)) => MessageType::Event,
        Ok(ClientMessage::Req(..)) => MessageType::Req,
        Ok(ClientMessage::Count(..)) => MessageType::Count,
        Ok(ClientMessage::Close(_)) => MessageType::Close,
        Ok(ClientMessage::Auth(_)) => MessageType::Auth,
        Err(_) => MessageType::Invalid,
    }
}
