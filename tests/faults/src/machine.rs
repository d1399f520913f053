//! What a process takes of the machine, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// A look at a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident memory, MiB.
    pub memory_mib: f64,
    /// Threads.
    pub threads: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Those of them that are files on disk: a store opens more and closes them again as it goes.
    pub files: f64,
    /// Processor time so far.
    pub processor: Duration,
}

/// Looks at a process.
///
/// # Errors
/// There is none of this id.
pub fn usage(process: u32) -> anyhow::Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the process is gone")?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0)
    };
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name, which may hold anything: state is the third field, and user and system time the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks: u64 = fields.get(11..13).unwrap_or_default().iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    let (mut descriptors, mut files) = (0.0, 0.0);
    for open in fs::read_dir(format!("/proc/{process}/fd"))? {
        // It may be closed by now.
        let Ok(target) = fs::read_link(open?.path()) else { continue };
        let is_file = target.is_absolute() && !target.starts_with("/dev") && !target.starts_with("/memfd:");
        descriptors += 1.0;
        files += if is_file { 1.0 } else { 0.0 };
    }
    Ok(Usage {
        memory_mib: number("VmRSS:") / 1024.0,
        threads: number("Threads:"),
        descriptors,
        files,
        // The kernel counts in hundredths of a second for all who ask this way.
        processor: Duration::from_millis(ticks * 10),
    })
}

/// The slope of the line that fits best, for each unit of the first number.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no run has so many")]
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut above, mut below) = (0.0, 0.0);
    for point in points {
        above += (point.0 - x) * (point.1 - y);
        below += (point.0 - x) * (point.0 - x);
    }
    if below == 0.0 { 0.0 } else { above / below }
}

/// As many descriptors as the system lets this process have, and those it starts.
///
/// # Errors
/// It lets it have fewer than `needed`.
pub fn raise_descriptors(needed: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(most >= needed, "{needed} open files are needed and {most} allowed: raise `ulimit -n`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let seen = usage(std::process::id()).expect("it runs");
        assert!(seen.memory_mib > 0.5 && seen.threads >= 1.0 && seen.descriptors >= 3.0, "{seen:?}");
    }

    #[test]
    fn a_file_that_is_open_is_no_socket() {
        let usage = || usage(std::process::id()).expect("it runs");
        // Other tests may run in this process, and open some too.
        let files: Vec<_> = (0..50).map(|_| fs::File::open(std::env::current_exe().expect("a path"))).collect();
        let with_files = usage();
        drop(files);
        let sockets: Vec<_> = (0..50).map(|_| std::net::UdpSocket::bind("127.0.0.1:0")).collect();
        let with_sockets = usage();
        drop(sockets);
        assert!(with_files.files >= with_sockets.files + 30.0, "{with_files:?} {with_sockets:?}");
        let others = |usage: Usage| usage.descriptors - usage.files;
        assert!(others(with_sockets) >= others(with_files) + 30.0, "{with_files:?} {with_sockets:?}");
    }

    #[test]
    fn a_line_has_its_slope_and_noise_around_a_level_has_none() {
        let line: Vec<_> = (0..10_u8).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&line) - 2.0).abs() < 1e-9);
        let level: Vec<_> = (0..100_u8).map(|x| (f64::from(x), f64::from(x % 2))).collect();
        assert!(slope(&level).abs() < 0.001);
        assert_eq!(slope(&[(1.0, 1.0)]), 0.0);
    }
}
