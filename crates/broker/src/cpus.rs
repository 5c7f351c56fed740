//! Which CPUs the shards run on.

use rustix::thread::{CpuSet, sched_setaffinity};
use shard::limits::SHARDS_MAX;
use std::fmt;
use std::str::FromStr;
use std::thread::available_parallelism;
use tracing::debug;

/// Linux knows at most this many CPUs (`CONFIG_NR_CPUS` of the largest builds); bounds a list.
const CPU_NUMBERS_MAX: usize = 8_192;

/// The value of `--cpus`: CPU numbers in the order given, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    /// Reads `0,2-5`. The error says what is wrong with which part.
    fn from_str(text: &str) -> Result<CpuList, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first, part)?, number(last, part)?),
                None => (number(part, part)?, number(part, part)?),
            };
            if last < first {
                return Err(format!(
                    "`{part}` counts down; write the lower number first"
                ));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is named twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(CpuList(cpus))
    }
}

impl fmt::Display for CpuList {
    /// As it is read.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(usize::to_string).collect();
        out.write_str(&numbers.join(","))
    }
}

fn number(text: &str, part: &str) -> Result<usize, String> {
    let number: usize = text
        .trim()
        .parse()
        .map_err(|_| format!("`{part}` is neither a CPU number nor a range such as 2-5"))?;
    if number >= CPU_NUMBERS_MAX {
        return Err(format!("there is no CPU {number}"));
    }
    Ok(number)
}

/// Why the shards cannot be placed.
#[derive(Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// `--cpus` names a CPU that does not exist or that this process may not use.
    NotUsable {
        /// The CPU.
        cpu: usize,
        /// The usable ones.
        usable: Vec<usize>,
    },
    /// The system does not say which CPUs this process may use.
    Unknown,
    /// More shards than a process can have.
    TooManyShards {
        /// As asked for.
        shards: usize,
    },
}

impl std::error::Error for PlacementError {}

impl fmt::Display for PlacementError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlacementError::NotUsable { cpu, usable } => write!(
                out,
                "--cpus: CPU {cpu} is not usable by this process; the usable CPUs are {}",
                ranges(usable)
            ),
            PlacementError::Unknown => {
                out.write_str("the system does not say which CPUs this process may use")
            }
            PlacementError::TooManyShards { shards } => {
                write!(
                    out,
                    "{shards} shards are too many: {SHARDS_MAX} is the limit"
                )
            }
        }
    }
}

/// The CPUs this process may run on, ascending. Empty only where the system will not say.
pub fn usable() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cpus: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// One CPU per shard. `shards` and `list` are what the command line says.
///
/// Without `--shards` there are as many as CPUs listed; without either, as many as CPUs are
/// usable, but no more than a CPU quota (cgroup) pays for. More shards than CPUs take turns.
pub fn place(
    shards: Option<u16>,
    list: Option<&CpuList>,
    usable: &[usize],
) -> Result<Vec<usize>, PlacementError> {
    if let Some(CpuList(listed)) = list
        && let Some(&cpu) = listed.iter().find(|cpu| !usable.contains(cpu))
    {
        let usable = usable.to_vec();
        return Err(PlacementError::NotUsable { cpu, usable });
    }
    let candidates = list.map_or(usable, |CpuList(listed)| listed);
    let count = match (shards, list) {
        (Some(shards), _) => shards as usize,
        (None, Some(_)) => candidates.len(),
        (None, None) => {
            let paid_for = available_parallelism().map_or(1, |count| count.get());
            candidates.len().min(paid_for).clamp(1, SHARDS_MAX)
        }
    };
    if count > SHARDS_MAX {
        return Err(PlacementError::TooManyShards { shards: count });
    }
    if candidates.is_empty() {
        return Err(PlacementError::Unknown);
    }
    Ok(candidates.iter().copied().cycle().take(count).collect())
}

/// The CPUs for all that is not a shard: those that no shard is pinned to, or all if none is left.
pub fn spare(usable: &[usize], shards: &[usize]) -> Vec<usize> {
    let is_free = |cpu: &&usize| !shards.contains(cpu);
    let free: Vec<usize> = usable.iter().filter(is_free).copied().collect();
    if free.is_empty() {
        usable.to_vec()
    } else {
        free
    }
}

/// Lets the calling thread run on these CPUs. That the system may refuse is no reason not to run.
pub fn run_on(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        debug!(%error, cpus = ranges(cpus), "a thread stays where it is");
    }
}

/// `[0, 2, 3, 4]` as `0,2-4`. The numbers ascend.
pub fn ranges(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        shards: Option<u16>,
        list: Option<&str>,
        usable: &[usize],
        expected: Result<&[usize], &str>,
    ) {
        let list = list.map(|text| text.parse::<CpuList>().unwrap());
        let placed = place(shards, list.as_ref(), usable);
        match (placed, expected) {
            (Ok(placed), Ok(expected)) => assert_eq!(placed, expected),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (placed, expected) => panic!("{placed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn lists_are_read() {
        for (text, cpus) in [
            ("0", vec![0]),
            ("0,2-5", vec![0, 2, 3, 4, 5]),
            ("7,1", vec![7, 1]),
        ] {
            assert_eq!(text.parse(), Ok(CpuList(cpus)), "{text}");
        }
        for text in [
            "", ",", "0,", "a", "1-", "-1", "3-1", "0,0", "1-3,2", "99999", "1-2-3",
        ] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    #[test]
    fn shards_take_the_listed_cpus_in_order() {
        check(None, Some("3,1"), &[0, 1, 2, 3], Ok(&[3, 1]));
        check(Some(1), Some("3,1"), &[0, 1, 2, 3], Ok(&[3]));
        check(Some(2), None, &[4, 6, 7], Ok(&[4, 6]));
        check(Some(3), Some("3,1"), &[0, 1, 2, 3], Ok(&[3, 1, 3]));
        check(Some(2), None, &[0], Ok(&[0, 0]));
    }

    #[test]
    fn what_cannot_be_placed_is_explained() {
        check(
            None,
            Some("0,9"),
            &[0, 1, 2, 5],
            Err("--cpus: CPU 9 is not usable by this process; the usable CPUs are 0-2,5"),
        );
        check(
            None,
            None,
            &[],
            Err("the system does not say which CPUs this process may use"),
        );
        check(
            Some(129),
            None,
            &[0, 1],
            Err("129 shards are too many: 128 is the limit"),
        );
    }

    #[test]
    fn other_threads_keep_off_the_shards_where_they_can() {
        assert_eq!(spare(&[0, 1, 2, 5], &[1, 5]), [0, 2]);
        assert_eq!(spare(&[0, 1], &[1, 0]), [0, 1]);
        assert_eq!(spare(&[3], &[3, 3]), [3]);
        let usable = usable();
        run_on(&usable[..1]);
        assert_eq!(super::usable(), usable[..1]);
        run_on(&usable);
        assert_eq!(super::usable(), usable);
    }

    #[test]
    fn without_a_word_there_is_a_shard_per_usable_cpu() {
        let placed = place(None, None, &usable()).unwrap();
        assert!(!placed.is_empty() && placed.len() <= SHARDS_MAX);
        let many: Vec<usize> = (0..1_000).collect();
        assert!(place(None, None, &many).unwrap().len() <= SHARDS_MAX);
    }
}
