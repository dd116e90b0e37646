//! The command line: arguments and output.

use crate::files;
use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use comfy_table::{Table, presets};
use deploy::Signal;
use deploy::local::{Local, Row, Wish};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Runs a Skein cluster of real processes on this machine: HAProxy in front of relays, Redis, a Postgres primary and
/// its streaming replicas. Everything listens on 127.0.0.1 alone and lies in one directory, from which every command
/// finds what runs.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Programs come from Debian's packages postgresql, redis-server and haproxy; no service of theirs needs to run.
Logs are in DIR/logs, data in DIR/primary, DIR/replica-1 and so on, HAProxy's file is DIR/haproxy.cfg."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct ClusterDirectory {
    /// The cluster's directory
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/skein")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Settings {
    /// A setting of all relays from their next start on, as an environment variable: RELAY_LOG_LEVEL=debug; may be
    /// given again and again
    #[arg(long = "set", value_name = "RELAY_KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Take such a setting back; may be given again and again
    #[arg(long, value_name = "RELAY_KEY")]
    unset: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a cluster up, or what is missing of it; returns when all is ready, and everything runs on
    Up {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// How many relays; 0: only Postgres and Redis [default: 3, or as many as there are]
        #[arg(long, value_name = "N")]
        relays: Option<usize>,
        /// How many streaming replicas [default: 2, or as many as there are]
        #[arg(long, value_name = "M")]
        replicas: Option<usize>,
        /// Where HAProxy listens on 127.0.0.1 [default: 8080]
        #[arg(long)]
        port: Option<u16>,
        /// HAProxy speaks wss:// there, with a certificate of its own making (DIR/haproxy.pem)
        #[arg(long)]
        tls: bool,
        /// Prometheus watches it, with the rules of deploy/observe (Debian's package prometheus)
        #[arg(long)]
        observe: bool,
        /// A commit waits until one of the replicas has it too
        #[arg(long)]
        synchronous: bool,
        /// The relay's program [default: the one it was last; at first the one beside this program, built first under
        /// cargo]
        #[arg(long, value_name = "PROGRAM")]
        relay: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show what there is: every process, how it does, and where to connect
    Status {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// An array of {name, role, pid, url}; pid is null for what does not run
        #[arg(long)]
        json: bool,
        /// Show it again every second until Ctrl-C
        #[arg(long, conflicts_with = "json")]
        watch: bool,
    },
    /// Send a signal to one process, Postgres's backends included
    Kill {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// A name that `status` shows: relay-1, redis, primary, replica-1, haproxy
        name: String,
        /// KILL, TERM, INT, QUIT, HUP, STOP, CONT, USR1 or USR2
        #[arg(long, default_value = "KILL", value_parser = signal)]
        signal: Signal,
    },
    /// Stop the primary for good and promote the replica that has received the most
    Failover {
        #[command(flatten)]
        cluster: ClusterDirectory,
    },
    /// Change the number of relays; those that go are drained first
    Scale {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// How many there shall be
        #[arg(long, value_name = "K")]
        relays: usize,
    },
    /// Replace the relays one at a time, each drained first
    Roll {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// Another program from now on [default: the one it was last; the one beside this program is built first under
        /// cargo]
        #[arg(long, value_name = "PROGRAM")]
        relay: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Have HAProxy read its file and its certificate (DIR/haproxy.pem) anew; connections stay
    Reload {
        #[command(flatten)]
        cluster: ClusterDirectory,
    },
    /// End everything; data and logs stay, and `up` starts from them again
    Down {
        #[command(flatten)]
        cluster: ClusterDirectory,
        /// Remove the directory too, with all events
        #[arg(long)]
        delete: bool,
    },
    /// Print a complete cluster file, to be changed; `render` and `plan` read it
    Example,
    /// Write what runs a cluster in production: HAProxy's file, Compose, systemd units, Kubernetes manifests
    Render {
        /// The cluster file
        cluster: PathBuf,
        /// Where to; made where it is missing, and files of the same names are replaced
        directory: PathBuf,
    },
    /// Say what a number of clients needs, and what of it runs out first
    Plan {
        /// The clients
        #[arg(long, value_name = "N")]
        connections: u32,
        /// The cluster file [default: the example]
        #[arg(long, value_name = "FILE")]
        cluster: Option<PathBuf>,
    },
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Up { cluster, relays, replicas, port, tls, observe, synchronous, relay, settings } => {
                let local = Local::open(&cluster.dir)?;
                let count = relays.unwrap_or(local.as_ref().map_or(3, |local| local.relays().len()));
                let known = local.as_ref().and_then(Local::relay_program);
                let relay_program = if count == 0 { relay } else { Some(relay_program(relay, known).await?) };
                let Settings { settings, unset } = settings;
                let wish = Wish {
                    relays,
                    replicas,
                    port,
                    tls,
                    observe,
                    synchronous,
                    relay_program,
                    settings,
                    unset,
                    guarded: false,
                };
                let progress = spinner();
                let local = Local::up(&cluster.dir, &wish, &progress).await?;
                progress.finish_and_clear();
                show(&local.status().await);
                Ok(())
            }
            Command::Status { cluster, json: true, .. } => {
                let rows = match Local::open(&cluster.dir)? {
                    Some(local) => local.status().await,
                    None => Vec::new(),
                };
                println!("{}", serde_json::to_string_pretty(&rows)?);
                Ok(())
            }
            Command::Status { cluster, watch: false, .. } => {
                show(&open(&cluster.dir)?.status().await);
                Ok(())
            }
            Command::Status { cluster, .. } => watch(&cluster.dir).await,
            Command::Kill { cluster, name, signal } => Ok(open(&cluster.dir)?.kill(&name, signal).await?),
            Command::Failover { cluster } => {
                let progress = spinner();
                let done = open(&cluster.dir)?.failover(&progress).await?;
                progress.finish_and_clear();
                for (name, received) in &done.received {
                    println!("{name} had received {received} bytes of WAL");
                }
                println!(
                    "{} is the primary; {} is stopped, and `up` makes a replica of it",
                    done.promoted, done.fenced
                );
                for name in &done.absent {
                    println!("{name} did not run; should it not attach when `up` starts it, remove its directory");
                }
                Ok(())
            }
            Command::Scale { cluster, relays } => {
                let progress = spinner();
                let mut local = open(&cluster.dir)?;
                local.scale(relays, &progress).await?;
                progress.finish_and_clear();
                show(&local.status().await);
                Ok(())
            }
            Command::Reload { cluster } => Ok(open(&cluster.dir)?.reload().await?),
            Command::Roll { cluster, relay, settings } => {
                let mut local = open(&cluster.dir)?;
                let relay_program = Some(relay_program(relay, local.relay_program()).await?);
                let Settings { settings, unset } = settings;
                let wish = Wish { relay_program, settings, unset, ..Wish::default() };
                let progress = spinner();
                local.roll(&wish, &progress).await?;
                progress.finish_and_clear();
                show(&local.status().await);
                Ok(())
            }
            Command::Down { cluster, delete } => {
                let Some(mut local) = Local::open(&cluster.dir)? else {
                    println!("there is no cluster in {}", cluster.dir.display());
                    return Ok(());
                };
                let progress = spinner();
                local.down(&progress).await?;
                progress.finish_and_clear();
                if delete { Ok(local.delete()?) } else { Ok(()) }
            }
            Command::Example => {
                print!("{}", haproxy::EXAMPLE);
                Ok(())
            }
            Command::Render { cluster, directory } => files::render(&cluster, &directory),
            Command::Plan { connections, cluster } => files::plan(cluster.as_deref(), connections),
        }
    }
}

fn open(folder: &Path) -> anyhow::Result<Local> {
    Local::open(folder)?.with_context(|| format!("there is no cluster in {}: `deploy up` makes one", folder.display()))
}

async fn watch(folder: &Path) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    loop {
        interval.tick().await;
        let rows = open(folder)?.status().await;
        // Clears the screen only when there is a new table to show: so it does not flicker.
        print!("\x1b[2J\x1b[H");
        show(&rows);
    }
}

fn show(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "ROLE", "PID", "URL", ""]);
    for row in rows {
        let pid = row.pid.map_or("-".to_owned(), |pid| pid.to_string());
        table.add_row([row.name.as_str(), row.role, &pid, &row.url, &row.detail]);
    }
    // The reader of the pipe may have gone: `status | head`.
    let _ = writeln!(std::io::stdout(), "{table}");
}

fn spinner() -> ProgressBar {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (variable, value) = text.split_once('=').ok_or("it is no RELAY_KEY=VALUE")?;
    Ok((variable.to_owned(), value.to_owned()))
}

fn signal(name: &str) -> Result<Signal, String> {
    let signals = [
        ("KILL", Signal::KILL),
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("HUP", Signal::HUP),
        ("STOP", Signal::STOP),
        ("CONT", Signal::CONT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
    ];

    let upper = name.to_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = signals.iter().find(|(known, signal)| *known == short || signal.as_raw().to_string() == name);
    let names = || signals.map(|(known, _)| known).join(", ");
    found.map(|(_, signal)| *signal).ok_or_else(|| format!("it is none of {}", names()))
}

/// The relay's program: `named`, else the one that the cluster ran last, else the one beside this program. Cargo builds
/// that one first where it runs this program.
async fn relay_program(named: Option<PathBuf>, known: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        return program.canonicalize().with_context(|| format!("looking for {}", program.display()));
    }
    let this = std::env::current_exe().context("looking for this program")?;
    let beside = this.with_file_name("relay");
    if let Some(other) = known.filter(|known| **known != beside) {
        return Ok(other.to_owned());
    }

    // `cargo run` sets these variables.
    if let (Some(cargo), Some(package)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
        let release = this.components().any(|part| part.as_os_str() == "release");
        let mut command = tokio::process::Command::new(cargo);
        command.args(["build", "-p", "relay"]).args(release.then_some("--release")).current_dir(package);
        let status = command.stdin(Stdio::null()).status().await.context("running cargo")?;
        if !status.success() {
            bail!("the relay could not be built");
        }
    }

    if !beside.exists() {
        bail!(
            "there is no relay at {}: build one (cargo build --release -p relay) or name it by --relay",
            beside.display()
        );
    }
    Ok(beside)
}
