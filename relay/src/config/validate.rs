//! Checks how settings relate, and bounds that no type can express.

use super::check::{Check, is_url};
use super::database::is_postgres;
use super::error::Problem;
use super::validate_tls::tls;
use super::{
    AccessRules, Config, DatabaseSettings, Limits, MemorySettings, PostgresSettings, Redacted, RedisAddress,
    RedisSettings,
};
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// All problems of settings whose values each have the right type.
pub fn validate(config: &Config) -> Vec<Problem> {
    let mut check = Check::default();
    addresses(config, &mut check);
    database(&config.database, &mut check);
    postgres(&config.postgres, &mut check);
    limits(&config.limits, &mut check);
    cache(config, &mut check);
    queues_and_timeouts(config, &mut check);
    access(&config.access, &mut check);
    service(config, &mut check);
    tls(config, &mut check);
    let named = |peer: &String| {
        peer.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };

    let peers_named = config.admin.peers.iter().all(named);
    check.that(peers_named, "admin.peers", "each must be a host and a port, such as 10.0.0.2:7778");
    check.that(config.observe.sample_percent <= 100, "observe.sample_percent", "must be at most 100");
    check.into_problems()
}

fn addresses(config: &Config, check: &mut Check) {
    let relay_url = |url: &String| is_url(url, &["ws", "wss"]);
    let wanted = "must begin with ws:// or wss:// and name a host, without a user, a query or a fragment";
    check.that(config.public_url.is_empty() || relay_url(&config.public_url), "public_url", wanted);
    check.that(config.public_urls.iter().all(relay_url), "public_urls", format!("each {wanted}"));
    let clash = |a: SocketAddr, b: SocketAddr| {
        let same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_host
    };

    let (listen, admin, agent) = (Some(config.listen), config.admin.listen, config.admin.agent_listen);
    for (setting, address, other_setting, other) in [
        ("admin.listen", admin, "listen", listen),
        ("admin.agent_listen", agent, "listen", listen),
        ("admin.agent_listen", agent, "admin.listen", admin),
    ] {
        let (Some(address), Some(other)) = (address, other) else { continue };
        check.that(
            !clash(address, other),
            setting,
            format!("{address} and `{other_setting}` = {other} cannot both be had: choose another port"),
        );
    }

    redis(config, check);
    check.that(
        !config.proxy.proxy_protocol || !config.proxy.trusted_networks.is_empty(),
        "proxy.proxy_protocol",
        "would let nobody in: name your proxies in proxy.trusted_networks",
    );
}

fn cache(config: &Config, check: &mut Check) {
    let cache = &config.cache;
    above_zero(&[("cache.l2_lifetime_seconds", cache.l2_lifetime)], check);
    check.that(!cache.l2_patience.is_zero(), "cache.l2_patience_milliseconds", "must be at least 1 millisecond");
    let token = &config.admin.token;
    let visible = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    check.that(
        token.is_empty() || (token.expose().len() >= 16 && visible),
        "admin.token",
        "must have at least 16 characters, all of them visible ASCII",
    );
}

fn redis(config: &Config, check: &mut Check) {
    let RedisSettings { url, prefix } = &config.redis;
    if url.is_empty() {
        return;
    }
    if let Err(wrong) = RedisAddress::parse(url.expose()) {
        check.that(false, "redis.url", wrong.to_string());
    }

    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    check.that(
        (1..=64).contains(&prefix.len()) && prefix.chars().all(plain),
        "redis.prefix",
        "must have 1 to 64 letters, digits or any of - _ . :",
    );

    check.that(
        !config.database.urls.iter().any(|url| url.expose().starts_with("sqlite:")),
        "redis.url",
        "a relay with a SQLite file stands alone and uses no Redis: leave it empty, or keep events in PostgreSQL",
    );
}

fn database(database: &DatabaseSettings, check: &mut Check) {
    let urls: Vec<&str> = database.urls.iter().map(Redacted::expose).collect();
    match urls.as_slice() {
        [] => check.that(false, "database.urls", "must name a database, such as sqlite:relay.db"),
        servers if database.is_postgres() => {
            check.that(
                servers.iter().all(|url| is_postgres(url) && PgConnectOptions::from_str(url).is_ok()),
                "database.urls",
                "must be postgres:// URLs alone, such as postgres://user:password@host/database",
            );
            let distinct: BTreeSet<_> = servers.iter().collect();
            check.that(distinct.len() == servers.len(), "database.urls", "names a server twice");
        }
        [url] => check.that(
            url.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty()),
            "database.urls",
            "must be a sqlite: URL that names a file, such as sqlite:relay.db, or a list of postgres:// URLs",
        ),
        more => check.that(
            false,
            "database.urls",
            format!("names {} databases; only PostgreSQL servers may be several", more.len()),
        ),
    }

    check.that(database.read_connections_or_zero <= 1024, "database.read_connections", "must be at most 1024");
    let waits = [
        ("database.statement_timeout_seconds", database.statement_timeout),
        ("database.pool_wait_seconds", database.pool_wait),
    ];
    above_zero(&waits, check);
}

fn postgres(postgres: &PostgresSettings, check: &mut Check) {
    // Two connections to the primary are reserved, for the writer and for the follower: reads must not delay them.
    const FOR_WRITING: u32 = 2;
    for (setting, min, max) in [
        ("postgres.primary_connections_min", postgres.primary_connections_min, postgres.primary_connections_max),
        ("postgres.replica_connections_min", postgres.replica_connections_min, postgres.replica_connections_max),
    ] {
        check.that(min <= max, setting, format!("{min} is more than the most, {max}: lower it or raise that"));
    }

    for (setting, max, least) in [
        ("postgres.primary_connections_max", postgres.primary_connections_max, FOR_WRITING + 1),
        ("postgres.replica_connections_max", postgres.replica_connections_max, 1),
    ] {
        check.that((least..=1024).contains(&max), setting, format!("must lie between {least} and 1024"));
    }

    check.that(
        postgres.primary_reads.saturating_add(FOR_WRITING) <= postgres.primary_connections_max,
        "postgres.primary_reads",
        format!("must leave {FOR_WRITING} of postgres.primary_connections_max for writing"),
    );

    check.that(postgres.retention_months <= 1200, "postgres.retention_months", "must lie between 0 and 1200");
    check.that((1..=365).contains(&postgres.log_days), "postgres.log_days", "must lie between 1 and 365");
    let waits = [
        ("postgres.connect_timeout_seconds", postgres.connect_timeout),
        ("postgres.idle_timeout_seconds", postgres.idle_timeout),
        ("postgres.connection_lifetime_seconds", postgres.connection_lifetime),
        ("postgres.primary_statement_timeout_seconds", postgres.primary_statement_timeout),
        ("postgres.max_replica_lag_seconds", postgres.max_replica_lag),
    ];
    above_zero(&waits, check);
}

fn limits(limits: &Limits, check: &mut Check) {
    check.above_zero(&[
        ("limits.max_subscriptions", limits.max_subscriptions),
        ("limits.max_filters", limits.max_filters),
        ("limits.max_req_bytes", limits.max_req_bytes),
        ("limits.max_subscriptions_bytes", limits.max_subscriptions_bytes),
        ("limits.default_limit", limits.default_limit),
        ("limits.max_limit", limits.max_limit),
        ("limits.max_event_tags", limits.max_event_tags as usize),
        ("limits.max_content_chars", limits.max_content_chars as usize),
    ]);

    check.that(
        (1024..=64 << 20).contains(&limits.max_message_bytes),
        "limits.max_message_bytes",
        "must lie between 1024 bytes and 64 MiB",
    );

    check.that(
        limits.default_limit <= limits.max_limit,
        "limits.default_limit",
        format!(
            "{} is more than limits.max_limit = {}: lower it or raise that",
            limits.default_limit, limits.max_limit
        ),
    );

    check.that(
        limits.max_content_chars as usize <= limits.max_message_bytes,
        "limits.max_content_chars",
        format!("{} do not fit into limits.max_message_bytes: lower it or raise that", limits.max_content_chars),
    );

    check.that(
        limits.messages_per_second == 0 || limits.messages_burst > 0,
        "limits.messages_burst",
        "must be at least 1 where limits.messages_per_second is on",
    );

    check.that(
        limits.events_per_second_per_address == 0 || limits.events_burst_per_address > 0,
        "limits.events_burst_per_address",
        "must be at least 1 where limits.events_per_second_per_address is on",
    );
}

fn above_zero(durations: &[(&str, Duration)], check: &mut Check) {
    for (setting, duration) in durations {
        check.that(!duration.is_zero(), setting, "must be at least 1 second");
    }
}

fn queues_and_timeouts(config: &Config, check: &mut Check) {
    let (queues, timeouts) = (&config.queues, &config.timeouts);
    check.above_zero(&[
        ("queues.pending_replies_per_connection", queues.pending_replies_per_connection),
        ("queues.outbox_events", queues.outbox_events),
        ("queues.outbox_bytes", queues.outbox_bytes),
        ("cache.l1_bytes", config.cache.l1_bytes),
    ]);

    check.that(
        queues.ring_bytes >= config.limits.max_message_bytes.max(queues.outbox_bytes),
        "queues.ring_bytes",
        "must be at least limits.max_message_bytes and at least queues.outbox_bytes: a client catches up from the ring",
    );

    check.that(
        config.memory.clients_bytes().is_none_or(|bytes| bytes >= MemorySettings::MIN_CLIENTS_BYTES),
        "memory.clients_bytes",
        format!("must be 0 or at least {}: less serves nobody", MemorySettings::MIN_CLIENTS_BYTES),
    );

    let durations = [
        ("timeouts.handshake_seconds", timeouts.handshake),
        ("timeouts.headers_seconds", timeouts.headers),
        ("timeouts.message_seconds", timeouts.message),
        ("timeouts.pong_timeout_seconds", timeouts.pong_timeout),
        ("timeouts.write_stall_seconds", timeouts.write_stall),
    ];

    above_zero(&durations, check);
    check.that(
        timeouts.headers <= timeouts.handshake,
        "timeouts.headers_seconds",
        "must not exceed timeouts.handshake_seconds, of which it is a part",
    );

    check.that(
        timeouts.ping_interval.is_zero() || timeouts.pong_timeout <= timeouts.ping_interval,
        "timeouts.pong_timeout_seconds",
        "must not exceed timeouts.ping_interval_seconds: a ping is answered before the next one is sent",
    );
}

fn access(access: &AccessRules, check: &mut Check) {
    let both = access.author_kinds.iter().find(|kind| access.private_kinds.contains(*kind));
    check.that(
        both.is_none(),
        "access.author_kinds",
        format!(
            "names kind {}, which access.private_kinds serves to its recipients: a kind belongs into one of the two",
            both.map_or(0, |kind| kind.0)
        ),
    );
}

fn service(config: &Config, check: &mut Check) {
    let info = &config.info;
    check.that(info.name.chars().count() <= 30, "info.name", "must have at most 30 characters (NIP-11)");
    for (setting, url) in
        [("info.banner", &info.banner), ("info.icon", &info.icon), ("info.terms_of_service", &info.terms_of_service)]
    {
        let web = url.is_empty() || url.starts_with("https://") || url.starts_with("http://");
        check.that(web, setting, "must begin with https:// or http://");
    }

    check.that(
        info.contact.is_empty() || info.contact.contains(':'),
        "info.contact",
        "must be a URI such as mailto:you@example.com or https://example.com (NIP-11)",
    );

    if let Err(error) = EnvFilter::builder().parse(&config.log.level) {
        check.that(
            false,
            "log.level",
            format!("is neither a level nor a filter such as \"info,relay=debug\": {error}"),
        );
    }

    check.that(!config.log.level.trim().is_empty(), "log.level", "must not be empty: \"error\" is the quietest");
    for (setting, threads) in [
        ("workers.verify_threads", config.workers.verify_threads_or_zero),
        ("workers.runtime_threads", config.workers.runtime_threads_or_zero),
    ] {
        check.that(threads <= 1024, setting, "must be at most 1024");
    }
}
