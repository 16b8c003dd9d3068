//! Memory of processes, out of Linux' `/proc`: the proportional share (PSS), in which a page that several processes have
//! is counted once in all. Fails where there is no `/proc`, or the process has ended.

use anyhow::Context;

use crate::cpu;

/// Bytes of one process.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .with_context(|| format!("the memory of process {pid} cannot be read"))?;
    parse(&text).with_context(|| format!("/proc/{pid}/smaps_rollup is not as proc(5) says"))
}

/// Bytes of a PostgreSQL: the postmaster and everything it started that still lives.
pub(crate) fn of_postgres(postmaster: u32) -> anyhow::Result<u64> {
    let children = cpu::children(postmaster)?;
    // one that ends meanwhile has no memory any more
    let theirs: u64 = children.into_iter().filter_map(|pid| of_process(pid).ok()).sum();
    Ok(of_process(postmaster)? + theirs)
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_share_is_read() {
        let text =
            "5581d000-7fff ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:     512 kB\nPss_Anon: 1 kB\n";
        assert_eq!(parse(text), Some(512 * 1024));
        assert_eq!(parse("Rss: 1 kB"), None);
        assert!(of_process(std::process::id()).unwrap() > 0);
    }
}
