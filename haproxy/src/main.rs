//! The operator's side of the cluster file: renders what runs a cluster, and plans one.

use anyhow::Context;
use clap::{Parser, Subcommand};
use haproxy::{Cluster, EXAMPLE, plan, production};
use std::path::{Path, PathBuf};

/// Renders what runs a Skein cluster from its cluster file, and plans one.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print a complete cluster file, to be changed.
    Example,
    /// Write HAProxy's configuration and the production files into a directory.
    Render {
        /// The cluster file.
        cluster: PathBuf,
        /// The directory; it is made where it is missing, and files of the same names are replaced.
        directory: PathBuf,
    },
    /// Say what a number of clients needs, and what of it runs out first.
    Plan {
        /// The clients.
        #[arg(long)]
        connections: u32,
        /// The cluster file; without it, the example.
        #[arg(long)]
        cluster: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Example => print!("{EXAMPLE}"),
        Command::Render { cluster, directory } => write(&read(&cluster)?, &directory)?,
        Command::Plan { connections, cluster } => {
            let cluster = cluster.map_or_else(|| Ok(Cluster::example()), |path| read(&path))?;
            print!("{}", plan::plan(&cluster, &plan::Databases::default(), connections));
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Cluster> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Cluster::parse(&text).with_context(|| format!("in {}", path.display()))
}

fn write(cluster: &Cluster, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for file in production::files(cluster)? {
        let path = directory.join(&file.path);
        std::fs::write(&path, file.text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
