//! What processes cost, from `/proc`: CPU time, memory, and what the rest of the machine did meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// In the status of a thread.
const SLEEPS: &str = "voluntary_ctxt_switches:";

/// A broker's process with all that it started.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes(Vec<u32>);

/// CPU seconds at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuTime {
    /// Of the broker.
    pub broker: f64,
    /// Of this process.
    pub own: f64,
    /// Of the whole machine.
    pub machine: f64,
    /// How often threads of the broker that still run went to sleep by themselves.
    pub sleeps: u64,
}

impl Processes {
    /// `root` and its descendants; `None` when there is no such process.
    pub(super) fn of(root: u32) -> Option<Self> {
        stat(root)?;
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            if let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                && let Some(fields) = stat(pid)
            {
                parents.push((pid, fields[1]));
            }
        }
        let mut found = vec![root];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            let children = parents.iter().filter(|(_, of)| *of == u64::from(parent));
            found.extend(children.map(|(pid, _)| *pid));
            at += 1;
        }
        Some(Self(found))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// CPU seconds in user and kernel so far, of children that have ended too.
    fn cpu_s(&self) -> f64 {
        let ticks: u64 = self
            .0
            .iter()
            .filter_map(|pid| stat(*pid))
            .map(|fields| fields[11..15].iter().sum::<u64>())
            .sum();
        in_seconds(ticks)
    }

    fn sleeps(&self) -> u64 {
        let of = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task"));
        let tasks = self.0.iter().filter_map(|pid| of(pid).ok()).flatten();
        let of = |task: fs::DirEntry| number_in(&task.path().join("status"), SLEEPS);
        tasks.flatten().filter_map(of).sum()
    }

    /// Resident memory in KiB.
    pub(super) fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory in KiB since [`Self::forget_peak`].
    pub(super) fn peak_rss_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Starts the peak anew. Without the right to do so the peak stays that of the process's whole life.
    pub(super) fn forget_peak(&self) {
        for pid in &self.0 {
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    fn status_kib(&self, key: &str) -> u64 {
        let of = |pid: &u32| number_in(Path::new(&format!("/proc/{pid}/status")), key);
        self.0.iter().filter_map(of).sum()
    }

    /// CPU time now.
    pub(super) fn cpu_time(&self) -> CpuTime {
        CpuTime {
            broker: self.cpu_s(),
            own: own_cpu_s(),
            machine: machine_cpu_s(),
            sleeps: self.sleeps(),
        }
    }
}

impl CpuTime {
    /// What was used since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            broker: self.broker - earlier.broker,
            own: self.own - earlier.own,
            machine: self.machine - earlier.machine,
            // Those of threads that have ended are not known any more.
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
        }
    }

    /// What neither the broker nor this process used.
    pub(super) fn others(self) -> f64 {
        (self.machine - self.own - self.broker).max(0.0)
    }
}

/// The number behind `key` in a file of `/proc`.
fn number_in(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third, the state, on; what is no number counts as 0.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may itself hold blanks and brackets.
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<u64> = rest
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    (fields.len() > 15).then_some(fields)
}

fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos).as_secs_f64()
}

fn machine_cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // user, nice, system, (idle, iowait), irq, softirq
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    in_seconds(busy)
}

fn in_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_has_memory_and_cpu_time() {
        let processes = Processes::of(std::process::id()).unwrap();
        assert!(processes.rss_kib() > 100);
        assert!(processes.peak_rss_kib() >= processes.rss_kib() / 2);
        let time = processes.cpu_time();
        assert!(time.own > 0.0 && time.machine >= time.own / 2.0);
    }

    #[test]
    fn a_thread_that_waits_for_another_is_seen_to_sleep() {
        let processes = Processes::of(std::process::id()).unwrap();
        let before = processes.cpu_time();
        while processes.cpu_time().since(before).sleeps == 0 {
            std::thread::spawn(std::thread::yield_now).join().unwrap();
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_not_found() {
        assert!(Processes::of(u32::MAX).is_none());
    }
}
