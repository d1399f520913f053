//! What the numbers were measured on.

use std::fs;
use std::process::Command;

use crate::Run;

/// A line about the programs and the machine: versions, cores, processor, memory, kernel, load.
pub(crate) fn describe(run: &Run) -> String {
    let etcd = Command::new(&run.etcd).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
    let etcd = String::from_utf8_lossy(&etcd);
    let etcd = etcd.lines().next().and_then(|line| line.split(": ").nth(1)).unwrap_or("of unknown version");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Hither {} and etcd {etcd} on {cpus} cores ({}), {} GiB, Linux {}, load at the start {}",
        run.commit,
        model.trim_start_matches([' ', '\t', ':']),
        kib / 1024 / 1024,
        kernel.trim(),
        fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("unknown"),
    )
}
