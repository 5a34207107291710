//! How much memory there is for this process.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process may ever have on the host, swap included: those of the machine, or of its control group if that has fewer. `None`
/// where the system does not tell.
pub fn host() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits: Vec<String> = limit_files(&own).iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    bytes(&text, &limits)
}

/// The same of the texts of the files that say it.
fn bytes(meminfo: &str, limits: &[String]) -> Option<u64> {
    let kib = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let (total, swap) = (kib("MemTotal")? << 10, kib("SwapTotal").unwrap_or(0) << 10);
    // A group without a limit says `max`, or (in the first version) a number beyond any machine.
    let group = limits.iter().filter_map(|text| text.trim().parse::<u64>().ok()).min().unwrap_or(u64::MAX);
    Some(total.min(group).saturating_add(swap))
}

/// The files with the limits of the groups that `own` (`/proc/self/cgroup`) names, and of the groups that hold them.
fn limit_files(own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or("/"));
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "MemTotal:       24000000 kB\nMemFree: 1 kB\nSwapTotal:       1000000 kB\n";

    #[test]
    fn the_smaller_of_machine_and_group_counts() {
        let of = |limits: &[&str]| bytes(MACHINE, &limits.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        let (total, swap) = (24_000_000u64 << 10, 1_000_000u64 << 10);
        assert_eq!([of(&[]), of(&["max\n"]), of(&["9223372036854771712\n"])], [total + swap; 3]);
        assert_eq!(of(&["max", "2147483648\n", "4294967296"]), (2 << 30) + swap);
        assert_eq!(bytes("nothing", &[]), None);
    }

    #[test]
    fn every_group_on_the_way_up_has_a_say() {
        let paths = |own: &str| limit_files(own).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/user.slice/job\n"),
            ["/sys/fs/cgroup/user.slice/job/memory.max", "/sys/fs/cgroup/user.slice/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            paths("5:cpu,cpuacct:/a\n4:memory:/a\n"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some() {
        assert!(host().is_some_and(|bytes| bytes > 64 << 20));
    }
}
