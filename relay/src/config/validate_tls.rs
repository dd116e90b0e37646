//! Checks how the settings of `[tls]` relate.

use super::check::{Check, is_url};
use super::{Config, TlsSettings};
use std::net::{IpAddr, SocketAddr};

/// The most names and files together: every handshake looks at each.
const MAX_CERTIFICATES: usize = 100;

/// The most threads for handshakes.
const MAX_THREADS: usize = 256;

pub(super) fn tls(config: &Config, check: &mut Check) {
    let tls = &config.tls;
    sources(tls, check);
    authority(tls, check);
    bounds(tls, check);
    listeners(config, check);
}

/// Checks where certificates come from.
fn sources(tls: &TlsSettings, check: &mut Check) {
    check.that(
        tls.certificate.len() == tls.key.len(),
        "tls.key",
        format!(
            "names {} files and tls.certificate {}: each certificate has a key, in the same order",
            tls.key.len(),
            tls.certificate.len()
        ),
    );

    let has_source = !tls.certificate.is_empty() || !tls.domains.is_empty() || tls.self_signed;
    check.that(
        !tls.is_on() || has_source,
        "tls.listen",
        "needs a certificate: name files in tls.certificate and tls.key, or names in tls.domains",
    );

    check.that(
        tls.is_on() || !has_source,
        "tls.listen",
        "is empty, so the certificates would serve nobody: write [\"0.0.0.0:443\", \"[::]:443\"]",
    );

    check.that(
        !tls.self_signed || (tls.certificate.is_empty() && tls.domains.is_empty()),
        "tls.self_signed",
        "stands alone: remove tls.certificate and tls.domains, or this",
    );

    let count = tls.certificate.len() + tls.domains.len();
    check.that(count <= MAX_CERTIFICATES, "tls.domains", format!("and tls.certificate: at most {MAX_CERTIFICATES}"));
}

/// Checks the names, and the authority that certifies them.
fn authority(tls: &TlsSettings, check: &mut Check) {
    for (at, domain) in tls.domains.iter().enumerate() {
        if domain.starts_with("*.") {
            let words = "a wildcard wants a challenge in the DNS: obtain it with another program, name its files in \
                         tls.certificate and tls.key";
            check.that(false, "tls.domains", format!("\"{domain}\": {words}"));
        } else {
            check.that(
                is_domain(domain),
                "tls.domains",
                format!("\"{domain}\" is no public name: write it like relay.example.com, in lowercase"),
            );
        }
        check.that(!tls.domains[..at].contains(domain), "tls.domains", format!("names \"{domain}\" twice"));
    }

    check.that(
        tls.acme_contact.is_empty() || tls.acme_contact.contains('@'),
        "tls.acme_contact",
        "must be a mail address such as you@example.com",
    );

    check.that(
        is_url(tls.acme_directory_url(), &["https"]),
        "tls.acme_directory",
        "must be \"letsencrypt\", \"letsencrypt-staging\" or an https:// URL",
    );
    check.that(!tls.directory.as_os_str().is_empty(), "tls.directory", "must name a directory, such as tls");
}

fn bounds(tls: &TlsSettings, check: &mut Check) {
    check.that(
        (1..=300).contains(&tls.handshake_timeout.as_secs()),
        "tls.handshake_timeout_seconds",
        "must lie between 1 and 300",
    );
    check.above_zero(&[("tls.max_handshakes", tls.max_handshakes)]);
    check.that(
        tls.handshake_threads_or_zero <= MAX_THREADS,
        "tls.handshake_threads",
        format!("must be at most {MAX_THREADS}"),
    );
}

/// Checks that no two listeners want the same port.
fn listeners(config: &Config, check: &mut Check) {
    let tls = &config.tls;
    let mut taken: Vec<(&str, SocketAddr)> = vec![("listen", config.listen)];
    taken.extend(config.admin.listen.map(|address| ("admin.listen", address)));
    taken.extend(config.admin.agent_listen.map(|address| ("admin.agent_listen", address)));
    let ours = tls.listen.iter().map(|address| ("tls.listen", *address));
    let ours = ours.chain(tls.http_listen.iter().map(|address| ("tls.http_listen", *address)));
    for (setting, address) in ours {
        for (other_setting, other) in &taken {
            check.that(
                !clash(address, *other),
                setting,
                format!("{address} and `{other_setting}` = {other} cannot both be had: choose another port"),
            );
        }
        taken.push((setting, address));
    }

    check.that(
        tls.http_listen.is_empty() || tls.is_on(),
        "tls.http_listen",
        "sends clients to https, which nothing serves: set tls.listen too",
    );
}

/// True where one socket keeps the other from being bound. A wildcard address of one family does not clash with the
/// other family: the relay binds IPv6 sockets for IPv6 only.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_host =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_host
}

/// True for a name that a public authority can certify: two labels or more, lowercase, no address.
pub(super) fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label) && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_names_are_told_from_other_texts() {
        for good in ["relay.example.com", "a.b", "xn--bcher-kva.example", "r2-d2.example"] {
            assert!(is_domain(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in ["", "localhost", "Relay.example.com", "192.0.2.1", "a..b", "-a.b", "a-.b", "a.b.", "*.a.b", &long] {
            assert!(!is_domain(bad), "{bad}");
        }
    }

    #[test]
    fn wildcards_of_two_families_stand_side_by_side() {
        let clash = |a: &str, b: &str| clash(a.parse().unwrap(), b.parse().unwrap());
        assert!(!clash("0.0.0.0:443", "[::]:443"));
        assert!(clash("0.0.0.0:443", "127.0.0.1:443") && clash("[::]:443", "[::1]:443"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0") && !clash("127.0.0.1:1", "127.0.0.1:2"));
    }
}
