//! `relay explain`: how each server answers a filter, and which indexes nothing reads.

use crate::config::{Redacted, Sources, load};
use crate::store::postgres::{IndexUse, Role, ServerInspector, ServerPosition};
use crate::store::{Read, StoreError};
use crate::types::{Access, Filter, Head, Kind, Position, PrivateKinds, now};
use anyhow::{anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// The limit of a filter that has none.
const DEFAULT_LIMIT: u32 = 500;

/// How long one server may take to answer.
const SERVER_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn command() -> Command {
    let parse =
        |text: &str| Filter::parse(text).map_err(|error| format!("{error}; write it as in a REQ: {{\"kinds\":[1]}}"));
    Command::new("explain")
        .about("Tell how each PostgreSQL server answers a filter: form, statement, plan, buffers, time")
        .long_about(
            "Tell how each PostgreSQL server answers a filter: what the server is and how far it is behind, the form chosen \
             and why, the statement, its plan, the buffers read and the time. The statements are run. They see \
             everything: no reader's rights are applied. A server that cannot be asked is named, the others answer, \
             and the exit code is 1.",
        )
        .arg(Arg::new("filter").value_name("FILTER").value_parser(parse).help("A NIP-01 filter: {\"kinds\":[1]}"))
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .action(ArgAction::Append)
                .value_parser(value_parser!(String))
                .help("Ask this server instead of those in the settings; may be repeated"),
        )
        .arg(
            Arg::new("unused")
                .long("unused")
                .action(ArgAction::SetTrue)
                .help("List the indexes that no server has read since its statistics began"),
        )
}

pub(super) fn run(arguments: &ArgMatches, sources: &Sources) -> anyhow::Result<ExitCode> {
    let loaded = load(sources);
    let settings = loaded.as_ref().map(|loaded| loaded.config.clone()).unwrap_or_default();
    let urls: Vec<Redacted> = match arguments.get_many::<String>("url") {
        Some(urls) => urls.map(Redacted::new).collect(),
        None => loaded?.config.database.urls.clone(),
    };
    if urls.iter().any(|url| !url.expose().starts_with("postgres")) {
        bail!("explain speaks of PostgreSQL: name its servers in database.urls or by --url");
    }
    let filter = arguments.get_one::<Filter>("filter");
    let unused = arguments.get_flag("unused");
    if filter.is_none() && !unused {
        bail!("give a filter, or --unused");
    }
    if let Some(filter) = filter {
        let private = settings.access.restricted_kinds();
        println!("readers  {}", readers(filter, &private));
        println!("hints    {}\n", hints(filter, &private, settings.protocol.eose_hints));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // At the same time: a silent server does not delay the others.
        let mut servers = join_all(urls.iter().map(connect)).await;
        let positions =
            servers.iter().filter_map(|(_, looked)| looked.as_ref().ok().map(|(_, server_position)| *server_position));
        let head = positions
            .filter(|server_position| server_position.role == Role::Primary)
            .map(|primary| primary.head)
            .next_back();
        let mut indexes = Vec::new();
        let mut failed = 0;
        for (url, looked) in &mut servers {
            if filter.is_some() {
                println!("{url}");
            }
            let asked = async {
                let (inspector, server_position) = looked.as_mut().map_err(|error| anyhow!("{error}"))?;
                if let Some(filter) = filter {
                    println!("role     {}", describe(server_position, head));
                    explain(inspector, filter).await?;
                }
                if unused {
                    indexes.push(inspector.indexes().await?);
                }
                anyhow::Ok(())
            };
            if let Err(error) =
                timeout(SERVER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(anyhow!("it does not answer")))
            {
                println!("cannot be asked: {error:#}\n");
                eprintln!("relay: the server at {url} cannot be asked: {error:#}");
                failed += 1;
            }
        }
        if unused {
            print!("{}", idle(&indexes));
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn connect(url: &Redacted) -> (&Redacted, Result<(ServerInspector, ServerPosition), StoreError>) {
    let looked = async {
        let mut inspector = ServerInspector::connect(url).await?;
        let server_position = inspector.server_position().await?;
        Ok((inspector, server_position))
    };
    (url, timeout(SERVER_TIMEOUT, looked).await.unwrap_or(Err(StoreError::Timeout)))
}

/// A line about a server; `head`: the primary's, where there is one.
fn describe(server_position: &ServerPosition, head: Option<Head>) -> String {
    let ServerPosition { role, head: Head { epoch, position }, seconds_behind } = server_position;
    let at = format!("at position {}", position.0);
    match (role, head) {
        (Role::Replica, None) => format!("replica {at}; no primary answers"),
        (Role::Replica, Some(head)) if head.epoch != *epoch => {
            format!("replica {at} of another epoch than the primary's")
        }
        (Role::Replica, Some(head)) => {
            let positions = head.position.0.saturating_sub(position.0);
            format!("replica {at}, {positions} positions and {seconds_behind:.1} s behind the primary")
        }
        _ => format!("primary {at}"),
    }
}

async fn explain(inspector: &mut ServerInspector, filter: &Filter) -> anyhow::Result<()> {
    let read = Read {
        filter,
        limit: filter.limit.unwrap_or(DEFAULT_LIMIT) as usize,
        after: None,
        access: None,
        at_least: Position::default(),
        now: now(),
        max_text_bytes: usize::MAX,
    };
    let explanation = inspector.explain(&read).await?;
    println!("form     {}\nwhy      {}", explanation.form, explanation.why);
    for step in explanation.steps {
        println!(
            "\n{}: {} rows, {} buffers, {:.3} ms\n\n{}\n\nwith ({})\n\n{}",
            step.name, step.rows, step.buffers, step.milliseconds, step.sql, step.parameters, step.plan
        );
    }
    println!();
    Ok(())
}

/// Whom the events of a filter are served to.
fn readers(filter: &Filter, private: &PrivateKinds) -> String {
    let access = Access { private_kinds: private.clone(), ..Access::default() };
    if access.unrestricted(filter) {
        return "everybody".into();
    }
    let selected = |kind: &Kind| filter.kinds.as_ref().is_none_or(|kinds| kinds.contains(kind));
    let list = |kinds: Vec<Kind>| kinds.iter().map(|kind| kind.0.to_string()).collect::<Vec<_>>().join(", ");
    let author_only = private.as_slice().iter().filter(|kind| !private.serves_recipients(**kind)).copied();
    let mut parts = Vec::new();
    for (kinds, whom) in [
        (private.for_recipients().filter(selected).collect(), "recipients"),
        (author_only.filter(selected).collect::<Vec<_>>(), "author alone"),
    ] {
        if !kinds.is_empty() {
            parts.push(format!("kinds {} go to their {whom}", list(kinds)));
        }
    }
    let stranger = if access.needs_authentication(filter) { "is told to authenticate" } else { "gets the rest" };
    format!("{}; who has not authenticated {stranger}", parts.join(", "))
}

/// What EOSE may say of the rest (NIP-67).
fn hints(filter: &Filter, private: &PrivateKinds, is_on: bool) -> String {
    if !is_on {
        return "none: protocol.eose_hints is off".into();
    }
    let stranger = Access { private_kinds: private.clone(), ..Access::default() };
    let auth = if stranger.could_show_more(filter) { ", and auth to who has not authenticated" } else { "" };
    match stranger.holds_nothing_back(filter) {
        true => "finish, more or none".into(),
        false => format!("more or none; finish only to readers from whom nothing can be held back{auth}"),
    }
}

/// The indexes that none of the servers has read.
fn idle(servers: &[Vec<IndexUse>]) -> String {
    let mut sums: BTreeMap<&str, (u64, &IndexUse)> = BTreeMap::new();
    for index in servers.iter().flatten() {
        sums.entry(&index.index).or_insert((0, index)).0 += index.scans;
    }
    let idle: Vec<_> = sums.values().filter(|(scans, _)| *scans == 0).map(|(_, index)| index).collect();
    if idle.is_empty() {
        return "every index has been read\n".into();
    }
    let line = |index: &&&IndexUse| {
        let note = if index.unique { "  keeps keys unique: do not drop" } else { "" };
        format!("{:40} {:28} {:>10} KiB{note}\n", index.index, index.table, index.bytes / 1024)
    };
    idle.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_by_kind() {
        let private = PrivateKinds::default().with_author_only(vec![Kind(78)]);
        let of = |json: &str| readers(&Filter::parse(json).unwrap(), &private);
        assert_eq!(of(r#"{"kinds":[1]}"#), "everybody");
        let told = "kinds 78 go to their author alone; who has not authenticated is told to authenticate";
        assert_eq!(of(r#"{"kinds":[78]}"#), told);
        assert_eq!(
            of("{}"),
            "kinds 1059, 21059 go to their recipients, kinds 78 go to their author alone; \
             who has not authenticated gets the rest"
        );
    }

    #[test]
    fn hints_are_told_by_the_filter() {
        let of = |json: &str, is_on| hints(&Filter::parse(json).unwrap(), &PrivateKinds::default(), is_on);
        assert_eq!(of(r#"{"kinds":[1]}"#, true), "finish, more or none");
        assert!(of(r#"{"kinds":[1059]}"#, true).ends_with("auth to who has not authenticated"));
        assert!(of("{}", true).starts_with("more or none") && !of("{}", true).contains("auth to"));
        assert!(of("{}", false).contains("off"));
    }

    #[test]
    fn an_index_is_idle_where_no_server_reads_it() {
        let index = |name: &str, scans| IndexUse {
            table: "event".into(),
            index: name.into(),
            scans,
            bytes: 2048,
            unique: name == "c",
        };
        let text = idle(&[vec![index("a", 0), index("b", 0), index("c", 0)], vec![index("a", 3), index("b", 0)]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("b ") && text.contains("keeps keys unique"), "{text}");
        assert!(idle(&[vec![index("a", 1)]]).contains("every index"));
    }
}
