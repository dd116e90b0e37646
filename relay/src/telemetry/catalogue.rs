//! Every metric of the relay, once: its name, unit, label, help and the station that feeds it. The type of its
//! handle, its registration and its export all follow from this list.

use super::journeys::Journeys;
use super::labels::{
    AcmeOrder, Build, BusTraffic, CacheLayer, CacheResult, Class, ClientBytes, CloseReason, ConnectionOutcome,
    Direction, EntrySource, EventOutcome, MessageType, Operation, ReadSource, Reason, RemovedBy, ServerRole,
    ServerState, SharedLook, SharedWrite, Shed, Stage, Task, TlsHandshake,
};
use super::notes::Notes;
use super::rate::Rate;
use super::series::{By, ByName, ByTwo, LabelFacts, MetricKind, Series};
use metrics::{Counter, Gauge, Histogram, NoopRecorder, Recorder, Unit};

/// What the catalogue says about one metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name under which it is exported.
    pub name: &'static str,
    /// What it does with numbers.
    pub kind: MetricKind,
    /// The unit of its numbers.
    pub unit: Unit,
    /// Its labels and their values.
    pub labels: &'static [LabelFacts],
    /// The upper bounds of a histogram's buckets.
    pub buckets: &'static [f64],
    /// The station that feeds it.
    pub station: &'static str,
    /// What it counts; begins with a space.
    pub help: &'static str,
}

/// Buckets for durations from 100 µs to 10 s.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets for work of the processor, from 10 µs to 100 ms.
const WORK_SECONDS: &[f64] = &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1];
/// Buckets for numbers of things.
const NUMBERS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

macro_rules! catalogue {
    ($($(#[doc = $help:literal])+
       $field:ident: $series:ty = $name:literal, $unit:ident, $station:literal $(, $buckets:ident)?;)+) => {
        /// Every metric of the relay, in the order of travel. `metrics-process` adds `process_*`.
        pub const CATALOGUE: &[Metric] = &[$(Metric {
            name: $name,
            kind: <$series as Series>::KIND,
            unit: Unit::$unit,
            labels: <$series as Series>::LABELS,
            buckets: { let _buckets: &[f64] = &[]; $(let _buckets = $buckets;)? _buckets },
            station: $station,
            help: concat!($($help),+),
        }),+];

        /// A handle for every metric.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $series,)+
            /// Which journeys are measured stage by stage.
            pub journeys: Journeys,
            /// Lists for the operator that no number can show: the slowest queries, the top senders.
            pub notes: Notes,
        }

        impl Metrics {
            pub(super) fn register(recorder: &dyn Recorder) -> Self {
                let metrics = Self {
                    $($field: <$series as Series>::register(recorder, $name),)+
                    journeys: Journeys::default(),
                    notes: Notes::default(),
                };
                metrics.build_info.of(Build::This).set(1);
                metrics
            }
        }
    };
}

catalogue! {
    /// The version that runs; always 1.
    build_info: By<Build, Gauge> = "nostr_build_info", Count, "app";
    /// 1 while this instance is ready for clients, 0 while it starts or drains.
    ready: Gauge = "nostr_ready", Count, "app";
    /// Panics of tasks and threads. Each is a fault of this program, and its log line says what it means.
    task_panics: By<Task, Counter> = "nostr_task_panics_total", Count, "app";
    /// Free bytes on the disk of the embedded database; with PostgreSQL, of the relay's working directory.
    disk_free: Gauge = "nostr_disk_free_bytes", Bytes, "app";
    /// Size of the file system whose free bytes are counted.
    disk_size: Gauge = "nostr_disk_size_bytes", Bytes, "app";
    /// Tasks that are alive on the threads that serve clients: about one a connection and one a query.
    runtime_tasks: Gauge = "nostr_runtime_tasks", Count, "app";
    /// Tasks that wait for a thread in the common queue.
    runtime_queue: Gauge = "nostr_runtime_queue_tasks", Count, "app";
    /// Share of the last second that the threads that serve clients were busy, from 0 to 1.
    runtime_busy: Gauge = "nostr_runtime_busy_ratio", Count, "app";
    /// Processor time of this process in the last second, in cores.
    cpu_cores: Gauge = "nostr_cpu_cores", Count, "app";
    /// How late a task gets its turn, on average over some 3 s.
    runtime_lateness: Gauge = "nostr_runtime_lateness_seconds", Seconds, "app";

    /// TLS handshakes, by outcome.
    tls_handshakes: By<TlsHandshake, Counter> = "nostr_tls_handshakes_total", Count, "tls";
    /// Seconds until a certificate that is served expires, by its first name; below zero: it has expired.
    tls_expiry: ByName = "nostr_tls_certificate_expiry_seconds", Seconds, "tls";
    /// Orders for certificates (ACME), by outcome.
    acme_orders: By<AcmeOrder, Counter> = "nostr_tls_acme_orders_total", Count, "tls";

    /// Client connections that are open.
    connections_active: Gauge = "nostr_connections_active", Count, "connection";
    /// Connections that clients began, by outcome before their first message.
    connections: By<ConnectionOutcome, Counter> = "nostr_connections_total", Count, "connection";
    /// Connections that ended, by reason.
    connections_closed: By<CloseReason, Counter> = "nostr_connections_closed_total", Count, "connection";
    /// Bytes of messages that clients sent.
    received_bytes: Counter = "nostr_received_bytes_total", Bytes, "connection";
    /// Bytes of messages that were sent to clients.
    sent_bytes: Counter = "nostr_sent_bytes_total", Bytes, "connection";
    /// Times a subscription fell behind.
    slow_clients: Counter = "nostr_slow_clients_total", Count, "connection";
    /// Time from an event's arrival on this instance to its copy in a client's socket buffer, of one event
    /// in 16: the lag of the fan-out.
    fanout: Histogram = "nostr_fanout_seconds", Seconds, "connection", SECONDS;
    /// Work that was refused because of overload.
    shed: By<Shed, Counter> = "nostr_shed_total", Count, "connection";
    /// Subscriptions that are open.
    subscriptions_active: Gauge = "nostr_subscriptions_active", Count, "connection";

    /// Bytes that are held for clients, by purpose.
    client_bytes: By<ClientBytes, Gauge> = "nostr_client_bytes", Bytes, "connection";
    /// The most bytes that may be held for clients (memory.clients_bytes).
    client_limit: Gauge = "nostr_client_limit_bytes", Bytes, "connection";
    /// Bytes that the program has allocated and not freed; the rest of its resident memory is code, stacks, and pages
    /// that go back to the system within ten seconds.
    allocated: Gauge = "nostr_allocated_bytes", Bytes, "connection";
    /// Reads that wait until memory for clients comes free.
    client_waiting: Gauge = "nostr_client_memory_waiting", Count, "connection";

    /// Messages that clients sent, by type.
    messages: By<MessageType, Counter> = "nostr_messages_total", Count, "message";
    /// Time from a message's arrival to the moment its answer is ready to be sent: OK for an event or an
    /// authentication, EOSE for a REQ, COUNT for a count.
    query_latency: By<Operation, Histogram> = "nostr_query_latency_seconds", Seconds, "message", SECONDS;
    /// Refusals of events, REQs, counts and authentications, by reason.
    refusals: By<Reason, Counter> = "nostr_refusals_total", Count, "message";

    /// Events that clients published, by outcome.
    events: By<EventOutcome, Counter> = "nostr_events_total", Count, "ingest";
    /// Events that clients published, a second, over the last few seconds.
    events_per_second: Rate = "nostr_events_per_second", CountPerSecond, "ingest";
    /// Events that were accepted, by the class of their kind.
    accepted: By<Class, Counter> = "nostr_events_accepted_total", Count, "ingest";
    /// Time that each stage takes of the journeys that are sampled (observe.sample_percent).
    stages: By<Stage, Histogram> = "nostr_stage_seconds", Seconds, "ingest", SECONDS;
    /// Events that wait for the first station.
    admit_queue: Gauge = "nostr_admit_queue_events", Count, "ingest";
    /// Batches that are committed and wait to be applied.
    follow_queue: Gauge = "nostr_follow_queue_batches", Count, "ingest";
    /// Events that wait for the writer.
    ingest_queue: Gauge = "nostr_ingest_queue_events", Count, "ingest";
    /// Events in one batch of the writer.
    batch_events: Histogram = "nostr_writer_batch_events", Count, "ingest", NUMBERS;
    /// Time to store one batch, to the end of its commit.
    commit: Histogram = "nostr_commit_seconds", Seconds, "ingest", SECONDS;
    /// Removed events, by what removed them.
    removals: By<RemovedBy, Counter> = "nostr_removals_total", Count, "ingest";
    /// Events that wait for a thread that checks signatures.
    verify_queue: Gauge = "nostr_verify_queue_events", Count, "verify";
    /// Time to check one id and signature, without the wait.
    signature: Histogram = "nostr_signature_seconds", Seconds, "verify", WORK_SECONDS;

    /// Queries that wait or run.
    queries_active: Gauge = "nostr_queries_active", Count, "query";
    /// Time of one read of one filter in the store.
    store_read: Histogram = "nostr_store_read_seconds", Seconds, "query", SECONDS;
    /// Reads of a REQ beyond one for each filter, because the rows were too few or too old.
    rereads: Counter = "nostr_store_rereads_total", Count, "query";

    /// Reads that should have asked the primary for its head first and could not, so that another instance's latest
    /// events may be missing from them.
    reads_without_primary: Counter = "nostr_reads_without_primary_total", Count, "query";

    /// Questions to the cache, by its layer and what that had. Who finds nothing in the process asks the layer that
    /// instances share.
    cache_requests: ByTwo<CacheLayer, CacheResult, Counter> = "nostr_cache_requests_total", Count, "cache";
    /// The share of hits among the questions of the last minute or so that a layer of the cache could have answered.
    cache_hit_rate: By<CacheLayer, Gauge> = "nostr_cache_hit_rate", Count, "cache";
    /// Answers that are kept in the process.
    cache_entries: Gauge = "nostr_cache_entries", Count, "cache";
    /// Bytes that the answers in the process take, estimated.
    cache_bytes: Gauge = "nostr_cache_bytes", Bytes, "cache";
    /// Answers that were evicted to make room for others.
    cache_evictions: Counter = "nostr_cache_evictions_total", Count, "cache";
    /// Answers that were kept, but reached back less far than was asked, and were read again.
    cache_refetches: Counter = "nostr_cache_refetches_total", Count, "cache";
    /// Reads for which the cache has gone to the layer behind or to the store.
    cache_flights: Counter = "nostr_cache_flights_total", Count, "cache";
    /// Queries that waited for the read of another one instead of reading the same.
    cache_followers: Counter = "nostr_cache_passengers_total", Count, "cache";
    /// Time to get the rows of one filter, or a count, by where they came from.
    cache_reads: By<ReadSource, Histogram> = "nostr_cache_read_seconds", Seconds, "cache", WORK_SECONDS;
    /// Looks into the cache that instances share.
    shared_looks: By<SharedLook, Counter> = "nostr_cache_shared_total", Count, "cache";
    /// Entries for the cache that instances share.
    shared_writes: By<SharedWrite, Counter> = "nostr_cache_shared_writes_total", Count, "cache";
    /// Bytes of entries from and to the cache that instances share.
    shared_bytes: By<Direction, Counter> = "nostr_cache_shared_bytes_total", Bytes, "cache";
    /// Servers of the cache that instances share.
    shared_servers: Gauge = "nostr_cache_shared_servers", Count, "cache";
    /// Servers of the cache that instances share that answer.
    shared_servers_up: Gauge = "nostr_cache_shared_servers_up", Count, "cache";

    /// The position of the log's head.
    log_head: Gauge = "nostr_log_head_position", Count, "log";
    /// How many positions the ring reaches back.
    ring_positions: Gauge = "nostr_ring_positions", Count, "log";
    /// Bytes of recent changes in the ring.
    ring_bytes: Gauge = "nostr_ring_bytes", Bytes, "log";
    /// Entries of the log that were applied, by where they came from first.
    entries: By<EntrySource, Counter> = "nostr_log_entries_total", Count, "log";
    /// Positions that are known to exist and were not applied yet.
    log_behind: Gauge = "nostr_log_behind_positions", Count, "log";
    /// Times that something missing was read from the shared log.
    hole_repairs: Counter = "nostr_log_repairs_total", Count, "log";
    /// Failovers that this instance has followed.
    epochs: Counter = "nostr_log_epochs_total", Count, "log";
    /// Messages between instances, by outcome.
    bus_messages: By<BusTraffic, Counter> = "nostr_bus_messages_total", Count, "log";
    /// Bytes of messages to other instances.
    bus_bytes: Counter = "nostr_bus_sent_bytes_total", Bytes, "log";
    /// 1 while this instance receives its own heartbeats over the bus, else 0.
    bus_up: Gauge = "nostr_bus_up", Count, "log";
    /// Times that the bus went down for this instance.
    bus_losses: Counter = "nostr_bus_losses_total", Count, "log";
    /// Distinct filters that are watched for changes.
    matcher_filters: Gauge = "nostr_matcher_filters", Count, "matcher";
    /// Events that were compared with the watched filters.
    matcher_events: Counter = "nostr_matcher_events_total", Count, "matcher";
    /// Filters that were looked at because they share a value with an event; few more than hits, or the index is bad.
    matcher_candidates: Counter = "nostr_matcher_candidates_total", Count, "matcher";
    /// Filters that matched an event.
    matcher_hits: Counter = "nostr_matcher_hits_total", Count, "matcher";
    /// Live events that were handed to subscriptions.
    deliveries: Counter = "nostr_deliveries_total", Count, "matcher";
    /// Ephemeral events that a full outbox did not take; they are sent at most once.
    ephemeral_dropped: Counter = "nostr_ephemeral_dropped_total", Count, "matcher";

    /// Calls that the store failed.
    store_errors: Counter = "nostr_store_errors_total", Count, "store";
    /// Database servers, by state.
    nodes: By<ServerState, Gauge> = "nostr_database_servers", Count, "store";
    /// Open connections to database servers, by the server's role.
    pool_connections: By<ServerRole, Gauge> = "nostr_database_connections", Count, "store";
    /// Open connections to database servers that have no work.
    pool_idle: By<ServerRole, Gauge> = "nostr_database_connections_idle", Count, "store";
    /// Calls that wait for a connection to a database server.
    pool_waiting: By<ServerRole, Gauge> = "nostr_database_waiting", Count, "store";
    /// Calls that waited in vain for a connection to a database server.
    pool_timeouts: Counter = "nostr_database_timeouts_total", Count, "store";
    /// Positions of the log by which the slowest replica is behind the primary.
    replica_lag_positions: Gauge = "nostr_replica_lag_positions", Count, "store";
    /// How long the slowest replica has been behind the primary.
    replica_lag: Gauge = "nostr_replica_lag_seconds", Seconds, "store";
    /// 1 where this instance is the one that keeps the database's partitions.
    keeper_elected: Gauge = "nostr_keeper_elected", Count, "store";
    /// Partitions of the coming days and months that could not be made; the elected instance knows.
    partitions_missing: Gauge = "nostr_partitions_missing", Count, "store";
    /// Partitions that this instance made ahead.
    partitions_made: Counter = "nostr_partitions_made_total", Count, "store";
    /// Partitions that this instance dropped.
    partitions_dropped: Counter = "nostr_partitions_dropped_total", Count, "store";
    /// Events that this instance removed because they were beyond the retention.
    retention_removed: Counter = "nostr_retention_removed_total", Count, "store";
    /// Rounds of the keeper that failed; the next one tries again.
    keeper_failures: Counter = "nostr_keeper_failures_total", Count, "store";
}

impl Metrics {
    /// Handles that count nowhere: for tests and tools.
    pub fn detached() -> Self {
        Self::register(&NoopRecorder)
    }
}
