//! `relay vanish`: everything of a key leaves the store for good, for a request that came by mail; and `relay
//! vanished`, which counts what is left of it.

use super::progress::Bar;
use crate::app::Opened;
use crate::config::{Sources, load, parse_pubkey};
use crate::store::Store;
use crate::store::rules::Vanish;
use crate::transfer::vanish;
use crate::types::{Access, Filter, Kind, Position, PrivateKinds, PublicKey, Timestamp, now};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn command() -> Command {
    Command::new("vanish")
        .about("Remove everything of a public key, and keep it out (NIP-62)")
        .long_about(
            "Remove every event of a public key up to now (or --up-to), deletions included, and the gift wraps addressed \
             to it, and refuse all of them from then on; newer events may come in. For a request by mail: a signed \
             request (kind 62) has the same effect by itself. The relay on a SQLite database must be stopped; those on \
             PostgreSQL may run. What write-ahead logs, backups and the log's copies keep, and for how long, stands in \
             docs/operations/erasure.md.",
        )
        .arg(pubkey_argument())
        .arg(up_to_argument())
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Really remove; without it the events are only counted"),
        )
}

pub(super) fn proof_command() -> Command {
    Command::new("vanished")
        .about("Count what is left of a public key that has vanished")
        .long_about(
            "Count the stored events of a public key up to now (or --up-to) and the gift wraps addressed to it. Requests to \
             vanish themselves (kind 62) are counted apart: they carry the refusal through exports and imports. Exit code \
             1 where anything else is left.",
        )
        .arg(pubkey_argument())
        .arg(up_to_argument())
}

fn pubkey_argument() -> Arg {
    Arg::new("pubkey")
        .value_name("PUBKEY")
        .required(true)
        .value_parser(parse_pubkey)
        .help("The public key, hex or npub")
}

fn up_to_argument() -> Arg {
    Arg::new("up-to")
        .long("up-to")
        .value_name("SECONDS")
        .value_parser(clap::value_parser!(i64).range(0..))
        .help("The last second that counts, in Unix time [default: now]")
}

/// What the arguments ask for.
fn wanted(arguments: &ArgMatches) -> anyhow::Result<Vanish> {
    let Some(pubkey) = arguments.get_one::<PublicKey>("pubkey") else { anyhow::bail!("PUBKEY is missing") };
    let up_to = arguments.get_one::<Timestamp>("up-to").copied().unwrap_or_else(now);
    Ok(Vanish { pubkey: *pubkey, up_to, request: None })
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let order = wanted(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Opened::open_for_operator(&loaded.config).await?.store();
        if arguments.get_flag("yes") {
            let bar = Bar::items(None);
            let removed = vanish(&*store, &order, |removed| bar.at(removed, "removed")).await;
            bar.done();
            store.close().await;
            println!("{} events removed; nothing of this key up to {} comes in again", removed?, order.up_to);
        } else {
            let left = left(&store, &order).await;
            store.close().await;
            let Left { events, requests, wraps } = left?;
            println!(
                "{} events and {wraps} gift wraps would be removed; nothing was: add --yes to remove them",
                events + requests
            );
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn prove(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources)?;
    let order = wanted(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Opened::open_for_operator(&loaded.config).await?.store();
        let left = left(&store, &order).await;
        store.close().await;
        let Left { events, requests, wraps } = left?;
        println!("{events} events, {wraps} gift wraps, {requests} requests to vanish up to {}", order.up_to);
        Ok(if events + wraps == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

struct Left {
    events: u64,
    requests: u64,
    wraps: u64,
}

async fn left(store: &Arc<dyn Store>, order: &Vanish) -> anyhow::Result<Left> {
    let all = Access { private_kinds: PrivateKinds::new(Vec::new()), ..Access::default() };
    let count = async |filter: &Filter| -> anyhow::Result<u64> {
        // From the second before all time: what has expired and was not swept yet counts as well.
        let counted = store.count(std::slice::from_ref(filter), &all, Position::default(), Timestamp::MIN).await?;
        Ok(counted.number)
    };
    let [events, wraps] = order.filters();
    let requests = count(&Filter { kinds: Some([Kind::VANISH].into()), ..events.clone() }).await?;
    Ok(Left { events: count(&events).await?.saturating_sub(requests), requests, wraps: count(&wraps).await? })
}
