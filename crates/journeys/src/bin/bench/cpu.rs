//! CPU time of processes, out of Linux' `/proc`: of one process, of a whole PostgreSQL, of the machine.
//!
//! All figures are since the process' or the machine's start; callers take differences. A PostgreSQL is
//! its postmaster, the children that live, and those the postmaster has collected, so that a backend that
//! ends between two readings is counted once. Fails where there is no `/proc`, or the process has ended.

use anyhow::Context;

/// How often a PostgreSQL is counted again because a backend was collected meanwhile.
const TRIES: u32 = 100;

/// CPU seconds, user and kernel, of one process. Its children are not in it.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<f64> {
    let stat = Stat::read(pid)?;
    Ok(seconds(stat.own))
}

/// CPU seconds of a PostgreSQL: the postmaster and everything it started.
pub(crate) fn of_postgres(postmaster: u32) -> anyhow::Result<f64> {
    let mut before = Stat::read(postmaster)?;
    for _ in 0..TRIES {
        let children = of_children(postmaster)?;
        let after = Stat::read(postmaster)?;
        // a child that was collected meanwhile would be in neither sum
        if after.collected == before.collected {
            return Ok(seconds(after.own + after.collected + children));
        }
        before = after;
    }
    anyhow::bail!("backends end faster than they can be counted")
}

/// Ticks of the children that live, or have ended and are not collected.
fn of_children(parent: u32) -> anyhow::Result<u64> {
    Ok(stats_of_children(parent)?.into_iter().map(|(_, child)| child.own).sum())
}

/// The children that live, or have ended and are not collected.
pub(crate) fn children(parent: u32) -> anyhow::Result<Vec<u32>> {
    Ok(stats_of_children(parent)?.into_iter().map(|(pid, _)| pid).collect())
}

fn stats_of_children(parent: u32) -> anyhow::Result<Vec<(u32, Stat)>> {
    let entries = std::fs::read_dir("/proc").context("there is no /proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stats = pids.filter_map(|pid| Some((pid, Stat::read(pid).ok()?)));
    Ok(stats.filter(|(_, stat)| stat.parent == parent).collect())
}

/// CPU seconds in which any process, ours or not, kept a core of this machine busy.
pub(crate) fn of_machine() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("there is no /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = fields.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, t)| t).sum();
    Ok(seconds(busy))
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// `USER_HZ`: what `/proc` counts in, 100 on every Linux there is (proc(5), sysconf(3)).
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

/// The few fields of `/proc/PID/stat` (proc(5)) that are needed here.
struct Stat {
    parent: u32,
    own: u64,
    collected: u64,
}

impl Stat {
    fn read(pid: u32) -> anyhow::Result<Stat> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} has ended"))?;
        Self::parse(&text).with_context(|| format!("/proc/{pid}/stat is not as proc(5) says"))
    }

    fn parse(text: &str) -> Option<Stat> {
        // the program's name, field 2, may hold blanks and parentheses
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(4)?).ok()?,
            own: number(14)? + number(15)?,
            collected: number(16)? + number(17)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_program_is_called() {
        let line = "7 (a) b (c) S 42 7 7 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0 5 6 7";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.own, stat.collected), (42, 33, 77));
        for nonsense in ["", "7 (a)", "7 (a) S 42", "no parentheses at all"] {
            assert!(Stat::parse(nonsense).is_none(), "{nonsense:?}");
        }
    }

    #[test]
    fn this_process_and_this_machine_use_cpu_time() {
        let began = std::time::Instant::now();
        let mut value = 1_u64;
        while began.elapsed().as_millis() < 60 {
            value = std::hint::black_box(value.wrapping_mul(31));
        }
        let own = of_process(std::process::id()).unwrap();
        assert!(own > 0.0 && of_machine().unwrap() >= own);
        assert!(of_process(u32::MAX).is_err());
    }
}
