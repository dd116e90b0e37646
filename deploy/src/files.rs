//! The commands that touch no running cluster: they render a cluster file, and plan for a number of clients.

use anyhow::Context;
use haproxy::{Cluster, plan, production};
use std::path::Path;

/// Writes HAProxy's configuration and the production files of the cluster that a file describes.
pub(crate) fn render(cluster: &Path, directory: &Path) -> anyhow::Result<()> {
    let cluster = read(cluster)?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for file in production::files(&cluster)? {
        let path = directory.join(&file.path);
        std::fs::write(&path, file.text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Prints the plan for `connections` clients: what they need, and which limit is reached first.
pub(crate) fn plan(cluster: Option<&Path>, connections: u32) -> anyhow::Result<()> {
    let cluster = cluster.map_or_else(|| Ok(Cluster::example()), read)?;
    print!("{}", plan::plan(&cluster, &plan::Databases::default(), connections));
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Cluster> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Cluster::parse(&text).with_context(|| format!("in {}", path.display()))
}
