//! One client's session: its state, and the handling of each message. It knows no socket.

mod subscriptions;
#[cfg(test)]
mod tests;

use super::context::ListenerContext;
use super::origin::ClientOrigin;
use super::rate::MessageRateLimiter;
use super::services::Services;
use super::settings::ConnectionSettings;
use crate::ingest::{InFlight, IngestClosed, Submission};
use crate::log::Log;
use crate::memory::{Pressure, Reservation};
use crate::message::ClientMessage;
use crate::outbox::Outbox;
use crate::policy::{self, OwnUrls, RelayUrl};
use crate::telemetry::{MessageType, Operation, Shed};
use crate::types::{Access, Event, EventId, Filter, PublicKey, Refusal, Reply, ReplyId, Verdict, now};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use subscriptions::Subscriptions;

/// The most pubkeys that may authenticate on one connection: every event that it publishes carries them.
const MAX_AUTHENTICATED_KEYS: usize = 32;

/// A connection notes its address once in this many messages: a note takes a lock, which is too slow for each.
const MESSAGES_PER_NOTE: u32 = 16;

/// One client's state, from its first message to its last. Dropping it ends its subscriptions and closes its outbox, so
/// that a connection that panics leaves nothing behind.
pub(super) struct Session {
    pub(super) origin: ClientOrigin,
    outbox: Arc<Outbox>,
    log: Arc<Log>,
    access: Access,
    challenge: Box<str>,
    subscriptions: Subscriptions,
    message_rate: MessageRateLimiter,
    /// How many events were submitted and not answered yet.
    in_flight: Arc<AtomicUsize>,
    messages_since_note: u32,
}

/// A step that must end before the client's next message is read. Sending to the client goes on meanwhile.
pub(super) type PendingStep = BoxFuture<'static, StepOutcome>;

/// The outcome of a [`PendingStep`].
pub(super) enum StepOutcome {
    /// Ingest has accepted the event into its queue, and will answer it.
    Submitted,
    /// Ingest is closed: the relay is shutting down.
    NotSubmitted(EventId),
    /// The signature of an AUTH was checked; with the time at which the AUTH came.
    SignatureChecked(Arc<Event>, Result<bool, IngestClosed>, Instant),
}

impl Session {
    /// A new session, whose challenge (NIP-42) is the first thing in its outbox.
    pub(super) fn new(origin: ClientOrigin, outbox: Arc<Outbox>, log: Arc<Log>) -> Self {
        let challenge = format!("{:032x}", rand::random::<u128>());
        outbox.reply(Reply::Auth(challenge.clone()));
        Self {
            origin,
            outbox,
            log,
            access: Access::default(),
            challenge: challenge.into(),
            subscriptions: Subscriptions::default(),
            message_rate: MessageRateLimiter::default(),
            in_flight: Arc::default(),
            messages_since_note: 0,
        }
    }

    /// True while as many queries run as one connection may have: its next message is not read.
    pub(super) fn is_at_query_limit(&self, settings: &ConnectionSettings) -> bool {
        self.subscriptions.running() >= settings.max_running_queries
    }

    /// How many more messages may be read now, so that the replies owed stay bounded. Each message has one reply, but
    /// for queries, which [`is_at_query_limit`](Self::is_at_query_limit) bounds.
    pub(super) fn reply_capacity(&self, settings: &ConnectionSettings) -> usize {
        settings.max_pending_replies.saturating_sub(self.in_flight() + self.outbox.replies())
    }

    /// How many events were submitted and not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// True when every submitted event is answered and no query runs.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight() == 0 && self.subscriptions.running() == 0
    }

    /// What this client may read under the present `settings`.
    pub(super) fn access(&mut self, settings: &ConnectionSettings) -> &Access {
        if self.access.private_kinds != settings.private_kinds {
            self.access.private_kinds = settings.private_kinds.clone();
        }
        &self.access
    }

    /// Handles one text message, which `memory` counts where it is large; its reply, if it has one, goes to the outbox.
    /// Where a step is returned, it must end and be given to [`resume`](Self::resume) before the next message.
    pub(super) fn receive(
        &mut self,
        text: &str,
        memory: Option<Reservation>,
        context: &ListenerContext,
    ) -> Option<PendingStep> {
        let received_at = Instant::now();
        let services = &context.services;
        let settings = services.settings.load();
        let parsed = ClientMessage::parse(text, &settings.parse);
        services.metrics.messages.of(message_type(&parsed)).increment(1);
        self.messages_since_note += 1;
        if self.messages_since_note == MESSAGES_PER_NOTE {
            services.metrics.notes.heard(self.origin.address, u64::from(MESSAGES_PER_NOTE));
            self.messages_since_note = 0;
        }

        // A CLOSE is exempt from the rate limit: it reduces the relay's work, and has no reply from which the client
        // could learn that it must send it again.
        let within_rate = self.message_rate.allows(settings.messages);
        if !within_rate && !matches!(parsed, Ok(ClientMessage::Close(_))) {
            self.reply(refusal_reply(parsed, Refusal::RateLimited), services);
            return None;
        }
        if text.len() > settings.max_message_bytes {
            let refusal = Refusal::MessageTooLarge { max_bytes: settings.max_message_bytes };
            self.reply(refusal_reply(parsed, refusal), services);
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
            ClientMessage::Event(event) => return self.submit(event, memory, received_at, context, &settings),
            ClientMessage::Auth(event) => return self.authenticate(event, received_at, context, &settings),
            ClientMessage::Close(id) => self.subscriptions.close(&id, &services.log),
            ClientMessage::Req(id, filters) => {
                // The old subscription of this id ends even where the new one is refused.
                self.subscriptions.forget(&id, &services.log);
                let admitted = policy::check_read(&filters, &rules, &self.access)
                    .and_then(|()| self.subscriptions.check_room(&filters, &settings))
                    .and_then(|()| shed(Shed::Req, req_pressure(&filters), services))
                    .and_then(|()| self.subscriptions.open(&id, filters, &self.outbox, &self.access, services));
                if let Err(refusal) = admitted {
                    self.reply(Reply::Closed(id, refusal), services);
                }
            }
            ClientMessage::Count(id, filters) => match policy::check_read(&filters, &rules, &self.access)
                .and_then(|()| shed(Shed::Count, Pressure::Counts, services))
            {
                Ok(()) => self.subscriptions.count(id, filters, &self.outbox, &self.access, services),
                Err(refusal) => self.reply(Reply::Closed(id, refusal), services),
            },
        }
        None
    }

    /// EVENT: submits it to ingest, which answers it.
    fn submit(
        &mut self,
        event: Event,
        memory: Option<Reservation>,
        received_at: Instant,
        context: &ListenerContext,
        settings: &ConnectionSettings,
    ) -> Option<PendingStep> {
        let id = event.id();
        if !context.event_rate.allows(self.origin.address, settings.events_per_address) {
            self.answer(id, Verdict::Refused(Refusal::RateLimited), &context.services);
            return None;
        }
        self.access.has_published = true;
        let submission = Submission {
            event: Arc::new(event),
            access: self.access.clone(),
            outbox: self.outbox.clone(),
            metrics: context.services.metrics.clone(),
            received_at,
            trace: context.services.metrics.journeys.begin(received_at),
            in_flight: InFlight::with_memory(&self.in_flight, memory),
        };

        let submission = context.services.ingest.try_submit(submission).err()?;
        let ingest = context.services.ingest.clone();
        Some(Box::pin(async move {
            match ingest.submit(submission).await {
                Ok(()) => StepOutcome::Submitted,
                Err(IngestClosed) => StepOutcome::NotSubmitted(id),
            }
        }))
    }

    /// AUTH (NIP-42): makes the cheap checks here; the CPU workers check the signature.
    fn authenticate(
        &mut self,
        event: Event,
        received_at: Instant,
        context: &ListenerContext,
        settings: &ConnectionSettings,
    ) -> Option<PendingStep> {
        let reached = self.origin.relay_url.as_deref().and_then(|url| RelayUrl::parse(url).ok());
        let own_urls = match settings.public_urls.as_slice() {
            [] => OwnUrls::Reached(reached.as_ref()),
            configured => OwnUrls::Configured(configured),
        };
        let checked = policy::check_auth(&event, &self.challenge, own_urls, now());
        let checked = checked.and_then(|_| match self.access.authenticated.len() < MAX_AUTHENTICATED_KEYS {
            true => Ok(()),
            false => Err(Refusal::WrongAuthentication("too many keys have authenticated here".to_owned())),
        });

        if let Err(refusal) = checked {
            self.answer(event.id(), Verdict::Refused(refusal), &context.services);
            return None;
        }
        let (event, ingest) = (Arc::new(event), context.services.ingest.clone());
        Some(Box::pin(async move {
            let holds = ingest.signature_holds(event.clone()).await;
            StepOutcome::SignatureChecked(event, holds, received_at)
        }))
    }

    /// Continues after a [`PendingStep`].
    pub(super) fn resume(&mut self, outcome: StepOutcome, context: &ListenerContext) {
        let (event, holds) = match outcome {
            StepOutcome::Submitted => return,
            StepOutcome::NotSubmitted(id) => {
                return self.answer(id, Verdict::Refused(Refusal::ShuttingDown), &context.services);
            }
            StepOutcome::SignatureChecked(event, holds, received_at) => {
                let latency = context.services.metrics.query_latency.of(Operation::Auth);
                latency.record(received_at.elapsed());
                (event, holds)
            }
        };

        let verdict = match holds {
            Ok(true) => {
                self.add_authenticated(event.pubkey());
                Verdict::Accepted
            }
            Ok(false) => Verdict::Refused(Refusal::WrongSignature),
            Err(IngestClosed) => Verdict::Refused(Refusal::ShuttingDown),
        };
        self.answer(event.id(), verdict, &context.services);
    }

    fn add_authenticated(&mut self, pubkey: PublicKey) {
        if !self.access.authenticated.contains(&pubkey) {
            self.access.authenticated.push(pubkey);
        }
    }

    fn answer(&mut self, id: EventId, verdict: Verdict, services: &Services) {
        self.reply(Reply::Ok { id: ReplyId::Id(id), verdict }, services);
    }

    fn reply(&mut self, reply: Reply, services: &Services) {
        if let Reply::Closed(id, _) = &reply {
            // A CLOSED promises the client that nothing more comes under this id.
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

    /// Closes every subscription where the present rules no longer let this client read: rules may change while
    /// subscriptions are open. Called before anything is sent.
    pub(super) fn close_if_no_longer_allowed(&self, services: &Services) {
        if let Err(refusal) = policy::check_reader(&services.rules.load(), &self.access) {
            self.subscriptions.end_all(&refusal, &services.log);
        }
    }

    /// Ends every subscription and query. Events that were submitted are still stored and answered.
    pub(super) fn end(&mut self) {
        self.subscriptions.close_all(&self.log);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
        // Queued items hold their subscriptions, which hold the outbox: only this breaks the circle.
        self.outbox.close();
    }
}

/// Refuses work that is shed from `level` on, where the memory for clients is that full.
fn shed(what: Shed, level: Pressure, services: &Services) -> Result<(), Refusal> {
    if services.memory.pressure() < level {
        return Ok(());
    }
    services.metrics.shed.of(what).increment(1);
    Err(Refusal::Overloaded)
}

/// The level from which a REQ is refused: one with an unselective filter earlier than others.
fn req_pressure(filters: &[Filter]) -> Pressure {
    let is_selective = |filter: &Filter| filter.ids.is_some() || filter.authors.is_some() || !filter.tags.is_empty();
    if filters.iter().all(is_selective) { Pressure::Reqs } else { Pressure::UnselectiveReqs }
}

/// The refusal of a message as the reply that its sender waits for.
fn refusal_reply(message: Result<ClientMessage, Reply>, refusal: Refusal) -> Reply {
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
