//! Precedence, naming, errors, secrets and reload, from outside.

use super::*;
use std::path::PathBuf;

struct Case {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl Case {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), sources: Sources::default() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn file(mut self, text: &str) -> Self {
        self.sources.file = Some(self.write("relay.toml", text));
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.sources.flags.push((key.into(), value.into()));
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn problems(&self) -> String {
        load(&self.sources).expect_err("should be refused").to_string()
    }
}

#[test]
fn a_later_source_wins() {
    let case = Case::new().file("[limits]\nmax_filters = 2\nmax_limit = 600\nmax_subscriptions = 5");
    let case = case.variable("RELAY_LIMITS_MAX_FILTERS", "3").variable("RELAY_LIMITS_MAX_LIMIT", "700");
    let loaded = case.flag("limits.max_filters", "4").load();
    let limits = &loaded.config.limits;
    assert_eq!((limits.max_filters, limits.max_limit, limits.max_subscriptions), (4, 700, 5));
    assert_eq!(limits.default_limit, Config::default().limits.default_limit);
    let origin = |key: &str| loaded.settings.iter().find(|s| s.key == key).unwrap().origin.to_string();
    assert_eq!(origin("limits.max_filters"), "--limits-max-filters");
    assert_eq!(origin("limits.max_limit"), "RELAY_LIMITS_MAX_LIMIT");
    assert!(origin("limits.max_subscriptions").ends_with("relay.toml"));
    assert_eq!(origin("limits.default_limit"), "the default");
}

#[test]
fn every_setting_can_be_given_in_every_place() {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.to_string().trim_matches('"').to_owned()).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };

    for setting in Document::embedded().settings() {
        let case = Case::new().variable(&setting.variable(), &text(&setting.default));
        assert_eq!(*case.load().config, Config::default(), "{}", setting.variable());
        let case = Case::new().flag(&setting.key, &text(&setting.default));
        assert_eq!(*case.load().config, Config::default(), "{}", setting.flag());
        let case = Case::new();
        let path = case.write("value", &format!("  {}\n", text(&setting.default)));
        let case = case.variable(&format!("{}_FILE", setting.variable()), path.to_str().unwrap());
        assert_eq!(*case.load().config, Config::default(), "{}_FILE", setting.variable());
    }

    let case = Case::new().file(EXAMPLE);
    assert_eq!(*case.load().config, Config::default());
}

#[test]
fn lists_are_written_with_commas_or_lines() {
    let keys = ["01".repeat(32), "02".repeat(32)];
    let case = Case::new().variable("RELAY_ACCESS_ALLOW_PUBKEYS", &keys.join(", "));
    assert_eq!(case.load().config.access.allow_pubkeys.len(), 2);
    let case = Case::new();
    let path = case.write("keys", &(keys.join("\n") + "\n"));
    let toml = format!("[access]\nallow_pubkeys = {{ file = {path:?} }}\ndeny_kinds = \"4, 20000-29999\"");
    let access = case.file(&toml).load().config.access.clone();
    assert_eq!(access.allow_pubkeys.len(), 2);
    assert!(
        access.deny_kinds.contains(crate::types::Kind(25_000)) && !access.deny_kinds.contains(crate::types::Kind(1))
    );
}

#[test]
fn unknown_names_are_errors_that_name_the_nearest() {
    let case = Case::new().file("lisen = \"127.0.0.1:1\"\n[limit]\nmax_filters = 1\n[limits]\nmax_filter = 1\n");
    let problems = case.variable("RELAY_LIMITS_MAX_FILTER", "1").variable("RELAY_LISTN", "x").problems();
    for hint in [
        "lisen (from ",
        "did you mean listen?",
        "limit.max_filters",
        "did you mean limits.max_filters?",
        "RELAY_LIMITS_MAX_FILTER: there is no such environment variable; did you mean RELAY_LIMITS_MAX_FILTERS?",
        "RELAY_LISTN: there is no such environment variable; did you mean RELAY_LISTEN?",
    ] {
        assert!(problems.contains(hint), "{hint}\nin:\n{problems}");
    }
    assert_eq!(problems.lines().count(), 5);
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let case = Case::new().file("listen = \"localhost\"\n[limits]\nmin_pow_bits = 300\nmax_filters = \"3\"");
    let case = case.variable("RELAY_ACCESS_AUTH_TO_READ", "yes").flag("log.format", "xml");
    let problems = case.flag("access.deny_pubkeys", "npub1x").problems();
    for setting in [
        "listen",
        "limits.min_pow_bits",
        "limits.max_filters",
        "access.auth_to_read",
        "log.format",
        "access.deny_pubkeys",
    ] {
        assert_eq!(problems.lines().filter(|line| line.starts_with(setting)).count(), 1, "{setting} in:\n{problems}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let defaults = validate(&Config::default());
    assert!(defaults.is_empty(), "control: {defaults:?}");
    for (key, value) in [
        ("public_url", "https://relay.example.com"),
        ("public_url", "wss://user@relay.example.com"),
        ("public_url", "wss://"),
        ("public_urls", "ws://relay.onion,https://relay.example.com"),
        ("admin.listen", "127.0.0.1:7777"),
        ("admin.listen", "0.0.0.0:7777"),
        ("admin.agent_listen", "127.0.0.1:7777"),
        ("admin.agent_listen", "127.0.0.1:7778"),
        ("database.urls", ""),
        ("database.urls", "postgres://db/relay,sqlite:relay.db"),
        ("database.urls", "postgres://db/relay,postgres://db/relay"),
        ("database.urls", "postgres://db:x/relay"),
        ("database.urls", "sqlite:"),
        ("database.urls", "sqlite:a.db,sqlite:b.db"),
        ("database.urls", "mysql://db"),
        ("database.statement_timeout_seconds", "0"),
        ("postgres.primary_connections_min", "21"),
        ("postgres.replica_connections_max", "5000"),
        ("postgres.primary_reads", "19"),
        ("postgres.connect_timeout_seconds", "0"),
        ("postgres.log_days", "0"),
        ("postgres.retention_months", "1201"),
        ("postgres.retention_kinds", "7=0"),
        ("redis.url", "redis://localhost"),
        ("limits.max_message_bytes", "100"),
        ("limits.default_limit", "5001"),
        ("limits.max_content_chars", "524289"),
        ("queues.ring_bytes", "1000000"),
        ("queues.outbox_events", "0"),
        ("timeouts.headers_seconds", "11"),
        ("timeouts.pong_timeout_seconds", "61"),
        ("timeouts.write_stall_seconds", "0"),
        ("timeouts.drain_seconds", "9223372036854775807"),
        ("proxy.trusted_networks", "10.0.0.0/33"),
        ("proxy.proxy_protocol", "true"),
        ("info.name", "a name of more than thirty characters"),
        ("info.contact", "me"),
        ("info.icon", "javascript:alert(1)"),
        ("log.level", "relay=loud"),
        ("log.level", ""),
    ] {
        let problems = Case::new().flag(key, value).problems();
        assert!(problems.lines().any(|line| line.starts_with(key)), "{key} = {value}:\n{problems}");
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let case = Case::new();
    let path = case.write("url", "hunter2\n");
    let case = case.variable("RELAY_INFO_DESCRIPTION_FILE", path.to_str().unwrap());
    let loaded = case.load();
    assert_eq!(loaded.config.info.description, "hunter2");
    assert!(!format!("{:?}", loaded.settings).contains("hunter2"), "a value from a file of its own is a secret");

    let case = Case::new().variable("RELAY_ADMIN_TOKEN", "hunter2hunter2hunter2");
    let loaded = case.load();
    assert_eq!(loaded.config.admin.token.expose(), "hunter2hunter2hunter2");
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.config).contains("hunter2"), "nor is a token");
    let short = Case::new().variable("RELAY_ADMIN_TOKEN", "hunter2").problems();
    assert!(short.contains("at least 16") && !short.contains("hunter2"), "{short}");

    let url = "postgres://relay:hunter2@db/relay";
    let mut config = Config::default();
    config.database.urls = vec![Redacted::new(url)];
    assert!(!format!("{config:?} {:?}", validate(&config)).contains("hunter2"));
    assert!(config.database.urls[0].expose().contains("hunter2"), "control");

    for case in [
        Case::new().flag("database.urls", &format!("{url},sqlite:x")),
        Case::new().flag("database.durability", url),
        Case::new().flag("admin.listen", url),
        Case::new().flag("access.deny_kinds", url),
        Case::new().file(&format!("[database]\nurls = \"{url}")),
        Case::new().file(&format!("[database]\nread_connections = \"{url}\"")),
        Case::new().variable("RELAY_WORKERS_VERIFY_THREADS", url),
        Case::new().variable("RELAY_DATABASE_DURABILITY_FILE", path.to_str().unwrap()),
        Case::new().variable("RELAY_WORKERS_VERIFY_THREADS_FILE", path.to_str().unwrap()),
    ] {
        assert!(!case.problems().contains("hunter2"), "{}", case.problems());
    }
}

#[test]
fn one_setting_from_two_variables_is_an_error() {
    let case = Case::new().variable("RELAY_LISTEN", "127.0.0.1:1").variable("RELAY_LISTEN_FILE", "/nowhere");
    assert!(case.problems().contains("RELAY_LISTEN and RELAY_LISTEN_FILE are both set"));
}

#[test]
fn the_file_is_named_by_flag_or_variable_and_must_be_there() {
    assert_eq!(*Case::new().load().config, Config::default(), "none is read unless named");
    let case = Case::new();
    let path = case.write("other.toml", "[log]\nlevel = \"warn\"");
    let case = case.variable("RELAY_CONFIG", path.to_str().unwrap());
    assert_eq!(case.load().config.log.level, "warn");
    let case = case.variable("RELAY_LOG", "debug");
    assert_eq!(case.load().config.log.level, "debug");
    let case = case.variable("RELAY_LOG_LEVEL", "trace");
    assert_eq!(case.load().config.log.level, "trace");
    assert!(Case::new().variable("RELAY_CONFIG", "/nowhere.toml").problems().contains("/nowhere.toml: cannot be read"));
    let mistake = Case::new().file("\n[limits]\nmax_filters = = 1").problems();
    assert!(mistake.contains("relay.toml: line 3: "), "{mistake}");
}

#[test]
fn a_reload_takes_what_it_can_and_names_the_rest() {
    let case = Case::new().file("[limits]\nmax_filters = 5");
    let running = case.load();
    let same = reload(&running, &case.sources).unwrap();
    assert!(same.changed.is_empty() && same.needs_restart.is_empty());

    let case = case.file("listen = \"127.0.0.1:9\"\n[limits]\nmax_filters = 6\n[info]\nname = \"new\"");
    let reloaded = reload(&running, &case.sources).unwrap();
    assert_eq!(reloaded.changed, ["info.name", "limits.max_filters"]);
    assert_eq!(reloaded.needs_restart, ["listen"]);
    let config = &reloaded.loaded.config;
    assert_eq!((config.limits.max_filters, config.listen), (6, running.config.listen));

    let again = reload(&reloaded.loaded, &case.sources).unwrap();
    assert_eq!((again.changed.len(), again.needs_restart), (0, vec!["listen".to_owned()]), "still due");
    let case = case.file("[limits]\nmax_filters = 7\nmax_limit = 1");
    assert!(reload(&running, &case.sources).unwrap_err().to_string().contains("limits.default_limit"));
}
