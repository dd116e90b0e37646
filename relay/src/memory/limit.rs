//! How much memory this process may use: what its cgroups allow (version 2 and 1), at most what the machine has.

use std::fs::read_to_string;
use std::path::Path;

/// The automatic account takes this fraction of the memory that the process may use.
const AUTOMATIC_SHARE: u64 = 4;
/// The automatic account has at least this many bytes: less would serve no client.
const AUTOMATIC_MIN_BYTES: u64 = 64 << 20;
/// The automatic account has at most this many bytes: more is the operator's decision.
const AUTOMATIC_MAX_BYTES: u64 = 4 << 30;

/// How much memory this process may use, and where the limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes.
    pub bytes: u64,
    /// `cgroup` or `machine`.
    pub source: &'static str,
}

/// How much memory this process may use; `None` where nothing in `/proc` says so.
pub fn memory_limit() -> Option<MemoryLimit> {
    limit_under(Path::new("/"))
}

/// How many bytes the account of clients has where the operator has not said.
pub fn automatic_clients_bytes(limit: Option<MemoryLimit>) -> usize {
    let bytes = limit.map_or(AUTOMATIC_MIN_BYTES, |limit| limit.bytes / AUTOMATIC_SHARE);
    usize::try_from(bytes.clamp(AUTOMATIC_MIN_BYTES, AUTOMATIC_MAX_BYTES)).unwrap_or(usize::MAX)
}

/// The same for a machine whose file system is below `root`.
fn limit_under(root: &Path) -> Option<MemoryLimit> {
    let machine = machine_bytes(&read_to_string(root.join("proc/meminfo")).ok()?)?;
    let cgroup = read_to_string(root.join("proc/self/cgroup")).ok().and_then(|groups| cgroup_bytes(root, &groups));
    Some(match cgroup.filter(|bytes| *bytes < machine) {
        Some(bytes) => MemoryLimit { bytes, source: "cgroup" },
        None => MemoryLimit { bytes: machine, source: "machine" },
    })
}

/// `MemTotal` of `/proc/meminfo`.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit of the cgroups in `/proc/self/cgroup` and of those above them.
fn cgroup_bytes(root: &Path, groups: &str) -> Option<u64> {
    let groups = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => Some(("sys/fs/cgroup", "memory.max", path)),
            names if names.split(',').any(|name| name == "memory") => {
                Some(("sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
            }
            _ => None,
        }
    });
    groups.filter_map(|(mount, file, path)| least_limit(&root.join(mount), path, file)).min()
}

/// The least number in `file` of the cgroup `path` and of those above it. In a container the path may be that of the
/// host, which does not exist there; then the mount itself is our cgroup.
fn least_limit(mount: &Path, path: &str, file: &str) -> Option<u64> {
    let mut group = mount.join(path.trim_start_matches('/'));
    let mut least: Option<u64> = None;
    while group.starts_with(mount) {
        // "max" is no number, as it should be: no limit.
        let own = read_to_string(group.join(file)).ok().and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(own).min();
        if !group.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(files: &[(&str, &str)]) -> Option<MemoryLimit> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit_under(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\n");

    fn is(limit: Option<MemoryLimit>, mib: u64, source: &'static str) {
        assert_eq!(limit, Some(MemoryLimit { bytes: mib << 20, source }));
    }

    #[test]
    fn a_cgroup_of_version_2_and_those_above_it_bound_the_process() {
        let own = ("proc/self/cgroup", "0::/system.slice/relay.service\n");
        is(machine(&[MEMINFO]), 16_384, "machine");
        is(machine(&[MEMINFO, own]), 16_384, "machine");
        let unlimited = ("sys/fs/cgroup/system.slice/relay.service/memory.max", "max\n");
        is(machine(&[MEMINFO, own, unlimited]), 16_384, "machine");
        let parent = ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
        is(machine(&[MEMINFO, own, unlimited, parent]), 1_024, "cgroup");
        let least = ("sys/fs/cgroup/system.slice/relay.service/memory.max", "536870912\n");
        is(machine(&[MEMINFO, own, parent, least]), 512, "cgroup");
    }

    #[test]
    fn a_container_sees_its_own_cgroup_as_the_mount() {
        let host_path = ("proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n");
        let own = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
        is(machine(&[MEMINFO, host_path, own]), 1_024, "cgroup");
        // Version 1 says "none" with a number beyond every machine.
        let none = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        is(machine(&[MEMINFO, host_path, none]), 16_384, "machine");
    }

    #[test]
    fn nonsense_is_no_limit() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[("proc/meminfo", "MemTotal: many kB\n")]), None);
        is(machine(&[MEMINFO, ("proc/self/cgroup", "\n0\nx:y\n")]), 16_384, "machine");
    }

    #[test]
    fn the_automatic_account_is_a_share_within_bounds() {
        let of = |mib: u64| automatic_clients_bytes(Some(MemoryLimit { bytes: mib << 20, source: "machine" })) >> 20;
        assert_eq!([of(100), of(1_024), of(8_192), of(1 << 20)], [64, 256, 2_048, 4_096]);
        assert_eq!(automatic_clients_bytes(None) >> 20, 64);
    }
}
