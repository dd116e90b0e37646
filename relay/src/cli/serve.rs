//! `relay serve`: settings, log, runtime, then the relay itself.

use crate::app;
use crate::config::{Sources, load};
use crate::telemetry::init_logging;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::process::ExitCode;

/// Where `--domain` listens: what the web's ports are, on both families.
const WSS_ADDRESSES: &str = "0.0.0.0:443,[::]:443";
const HTTP_ADDRESSES: &str = "0.0.0.0:80,[::]:80";

/// Where `--tls-self-signed` listens: a port that needs no privilege.
const SELF_SIGNED_ADDRESSES: &str = "0.0.0.0:7443,[::]:7443";

pub(super) fn command() -> Command {
    Command::new("serve").about("Run the relay (the default)").arg(
        Arg::new("domain").long("domain").value_name("NAME").action(ArgAction::Append).help(
            "Serve wss://NAME from here: obtain its certificate (Let's Encrypt) and renew it, listen on ports 443 and 80. \
             NAME must point to this machine. Short for tls.domains, tls.listen, tls.http_listen and public_url, as far as \
             they are not set",
        ),
    )
}

pub(super) fn run(arguments: &ArgMatches, mut sources: Sources) -> anyhow::Result<ExitCode> {
    expand(arguments, &mut sources);
    let loaded = load(&sources)?;
    let log = init_logging(&loaded.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(loaded.config.workers.runtime_threads())
        .thread_name("relay")
        .enable_all()
        .build()?;
    let result = runtime.block_on(app::run(loaded, sources, log));
    // A thread that resolves a host name cannot be cancelled; the exit does not wait for it.
    runtime.shutdown_background();
    result?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the settings that `--domain` and `--tls-self-signed` are short for, as far as no source gives them.
fn expand(arguments: &ArgMatches, sources: &mut Sources) {
    let domains = arguments.try_get_many::<String>("domain").ok().flatten();
    let domains: Vec<_> = domains.into_iter().flatten().map(|domain| domain.to_lowercase()).collect();
    let mut implied = Vec::new();
    if let Some(first) = domains.first() {
        implied.push(("tls.domains", domains.join(",")));
        implied.push(("public_url", format!("wss://{first}")));
        implied.push(("tls.listen", WSS_ADDRESSES.to_owned()));
        implied.push(("tls.http_listen", HTTP_ADDRESSES.to_owned()));
    } else if sources.flags.iter().any(|(key, value)| key == "tls.self_signed" && value == "true") {
        implied.push(("tls.listen", SELF_SIGNED_ADDRESSES.to_owned()));
    }
    implied.retain(|(key, _)| !sources.gives(key));
    sources.flags.extend(implied.into_iter().map(|(key, value)| (key.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(arguments: &[&str], flags: &[(&str, &str)]) -> Vec<String> {
        let matches = command().get_matches_from([&["serve"], arguments].concat());
        let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut sources = Sources { flags, ..Sources::default() };
        expand(&matches, &mut sources);
        sources.flags.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn a_domain_is_short_for_what_makes_it_a_public_relay() {
        assert_eq!(
            expanded(&["--domain", "Relay.example.com"], &[]),
            [
                "tls.domains=relay.example.com",
                "public_url=wss://relay.example.com",
                "tls.listen=0.0.0.0:443,[::]:443",
                "tls.http_listen=0.0.0.0:80,[::]:80"
            ]
        );
        let set = expanded(
            &["--domain", "a.example"],
            &[("tls.listen", "127.0.0.1:8443"), ("public_url", "wss://b.example")],
        );
        assert_eq!(set[2..], ["tls.domains=a.example", "tls.http_listen=0.0.0.0:80,[::]:80"]);
        assert_eq!(expanded(&[], &[]), [""; 0]);
    }

    #[test]
    fn self_signed_alone_listens_on_a_port_without_privileges() {
        let implied = expanded(&[], &[("tls.self_signed", "true")]);
        assert_eq!(implied[1..], ["tls.listen=0.0.0.0:7443,[::]:7443"]);
        assert_eq!(expanded(&[], &[("tls.self_signed", "false")]).len(), 1);
    }
}
