//! CPU and memory of processes, from `/proc`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The fields of `/proc/PID/stat` that are used here (proc(5)), in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// user + system
    own: u64,
    /// user + system of children that have ended and were waited for
    ended_children: u64,
}

/// All processes at one moment.
pub struct Processes {
    stats: HashMap<u32, Stat>,
}

impl Processes {
    /// Reads `/proc`. Leaves out a process that ends meanwhile.
    #[must_use]
    pub fn now() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let stats = pids.filter_map(|pid| {
            Some((pid, parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
        });
        Self { stats: stats.collect() }
    }

    /// The process and all its descendants, without the trees of `except`.
    #[must_use]
    pub fn tree(&self, root: u32, except: &[u32]) -> HashSet<u32> {
        let mut tree = HashSet::new();
        let mut open = vec![root];
        while let Some(pid) = open.pop() {
            if !self.stats.contains_key(&pid) || except.contains(&pid) || !tree.insert(pid) {
                continue;
            }
            open.extend(self.stats.iter().filter(|(_, stat)| stat.parent == pid).map(|(child, _)| *child));
        }
        tree
    }

    /// CPU ticks of one process since it began, without its children.
    #[must_use]
    pub fn own_ticks(&self, pid: u32) -> u64 {
        self.stats.get(&pid).map_or(0, |stat| stat.own)
    }

    /// CPU ticks of these processes since each began, and of their children that have ended.
    #[must_use]
    pub fn ticks(&self, pids: &HashSet<u32>) -> u64 {
        pids.iter().filter_map(|pid| self.stats.get(pid)).map(|stat| stat.own + stat.ended_children).sum()
    }
}

/// Clock ticks per second.
#[must_use]
pub fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Highest resident memory that the process ever had, in bytes.
#[must_use]
pub fn peak_bytes(pid: u32) -> Option<u64> {
    parse_kib(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:").map(|kib| kib * 1024)
}

/// Resident memory of the process now, in bytes.
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    parse_kib(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:").map(|kib| kib * 1024)
}

/// Resident memory of several processes now, with shared pages counted once; `None` when one may not be read.
#[must_use]
pub fn proportional_bytes(pids: &HashSet<u32>) -> Option<u64> {
    let mut total = 0;
    for pid in pids {
        if Path::new(&format!("/proc/{pid}")).exists() {
            total += parse_kib(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")?
                * 1024;
        }
    }
    Some(total)
}

/// Resets what [`peak_bytes`] reports, where the kernel and the process's owner allow it (proc(5),
/// `clear_refs`).
pub fn reset_peak(pid: u32) {
    // Where it is not allowed, the peak is that of the process's whole life.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Ticks of all cores since the machine began, from the first line of `/proc/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTicks {
    /// Ticks in which the cores worked: without idle time and waiting for I/O.
    pub busy: u64,
    /// Ticks that the hypervisor gave to other machines.
    pub stolen: u64,
}

/// The machine's ticks now.
#[must_use]
pub fn machine_ticks() -> Option<MachineTicks> {
    parse_machine(&std::fs::read_to_string("/proc/stat").ok()?)
}

fn parse_machine(text: &str) -> Option<MachineTicks> {
    let mut fields = text.lines().next()?.split_whitespace();
    (fields.next()? == "cpu").then_some(())?;
    let numbers: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let field = |index: usize| numbers.get(index).copied().unwrap_or_default();
    Some(MachineTicks { busy: field(0) + field(1) + field(2) + field(5) + field(6), stolen: field(7) })
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may itself contain spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let times: Vec<u64> = fields.skip(9).take(4).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, system, children_user, children_system] = times[..] else {
        return None;
    };
    Some(Stat { parent, own: user + system, ended_children: children_user + children_system })
}

fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{MachineTicks, Processes, Stat, parse_kib, parse_machine, parse_stat, peak_bytes};

    #[test]
    fn a_name_may_hold_parentheses() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3000 400 10 -10 13 0 24 44625920";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, own: 120, ended_children: 3400 }));
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let ticks = parse_machine("cpu  100 10 50 9999 88 3 2 7 0 0\ncpu0 1");
        assert_eq!(ticks, Some(MachineTicks { busy: 165, stolen: 7 }));
        assert_eq!(parse_machine("intr 5"), None);
    }

    #[test]
    fn memory_is_named_in_kib() {
        assert_eq!(parse_kib("VmPeak:\t 5 kB\nVmHWM:\t    1234 kB\n", "VmHWM:"), Some(1234));
        assert_eq!(parse_kib("VmPeak: 5 kB", "VmHWM:"), None);
    }

    #[test]
    fn a_tree_leaves_out_the_trees_that_are_excepted() {
        let stat = |parent| Stat { parent, own: 1, ended_children: 10 };
        let processes = Processes {
            stats: [(1, stat(0)), (2, stat(1)), (3, stat(2)), (4, stat(1)), (5, stat(0))].into(),
        };
        assert_eq!(processes.tree(1, &[]), [1, 2, 3, 4].into());
        assert_eq!(processes.tree(1, &[2]), [1, 4].into());
        assert_eq!(processes.ticks(&processes.tree(1, &[2])), 22);
        assert!(processes.tree(9, &[]).is_empty());
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        assert!(Processes::now().tree(pid, &[]).contains(&pid));
        assert!(peak_bytes(pid).is_some_and(|bytes| bytes > 100_000));
    }
}
