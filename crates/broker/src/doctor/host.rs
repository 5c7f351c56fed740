//! The host as /proc and /sys show it, below a root that a test can replace.

use std::path::{Path, PathBuf};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// Below this root: `/` is this machine.
    pub fn new(root: &Path) -> Host {
        Host {
            root: root.to_owned(),
        }
    }

    /// Whether this is this machine, so that things can be tried out, and not only read.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the host is for us.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file without space around it; none if it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The numbers in a file; none if it cannot be read or holds something else.
    pub fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        let text = self.text(path)?;
        text.split_whitespace()
            .map(|word| word.parse().ok())
            .collect()
    }

    /// The only number in a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        match self.numbers(path)?[..] {
            [number] => Some(number),
            _ => None,
        }
    }

    /// The CPUs that a file lists, such as `0,2-5`.
    pub fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        cpu_list(&self.text(path)?)
    }

    /// The names in a directory, in order; empty if it cannot be read.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The process whose limits count: a broker that runs here, or else the one that looks.
    pub fn process(&self) -> Process {
        let broker = self.names("/proc").into_iter().find_map(|name| {
            let number: u32 = name.parse().ok()?;
            let is_other = number != std::process::id();
            let command = self.text(&format!("/proc/{number}/cmdline"))?;
            let mut words = command.split('\0');
            let program = words.next().unwrap_or_default();
            let is_broker =
                program.rsplit('/').next() == Some("meshring") && words.any(|word| word == "serve");
            (is_other && is_broker).then_some(number)
        });
        Process { broker }
    }
}

/// A process of the host.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    broker: Option<u32>,
}

impl Process {
    /// Whether it is a broker that runs here.
    pub fn is_broker(self) -> bool {
        self.broker.is_some()
    }

    /// A file of it in /proc.
    pub fn file(self, name: &str) -> String {
        match self.broker {
            Some(number) => format!("/proc/{number}/{name}"),
            None => format!("/proc/self/{name}"),
        }
    }

    /// Who it is, for people.
    pub fn name(self) -> String {
        match self.broker {
            Some(number) => format!("the running broker (process {number})"),
            None => "a broker started from here".to_owned(),
        }
    }

    /// Whether it is a broker that runs.
    pub fn is_running(self) -> bool {
        self.broker.is_some()
    }

    /// One of its limits, soft and hard, such as `Max open files`; `u64::MAX` is unlimited.
    pub fn limit(self, host: &Host, name: &str) -> Option<(u64, u64)> {
        let limits = host.text(&self.file("limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some((words.next()??, words.next()??))
    }

    /// The value of a line of /proc/PID/status, such as `VmSwap`.
    pub fn status(self, host: &Host, name: &str) -> Option<String> {
        let status = host.text(&self.file("status"))?;
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }
}

/// Reads `0,2-5`; an empty text is no CPU.
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    const CPU_NUMBERS_MAX: usize = 8_192;
    let mut cpus = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CPU_NUMBERS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpu_list("0,2-4"), Some(vec![0, 2, 3, 4]));
        assert_eq!(cpu_list(""), Some(vec![]));
        for text in ["a", "1-", "0-99999999999", "0-9999999"] {
            assert_eq!(cpu_list(text), None, "{text}");
        }
    }

    #[test]
    fn limits_are_read_whatever_the_file_holds() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let process = host.process();
        assert_eq!(process.limit(&host, "Max open files"), None);
        std::fs::create_dir_all(host.path("/proc/self")).unwrap();
        let write = |text| std::fs::write(host.path("/proc/self/limits"), text).unwrap();
        write("Max open files            1024                 unlimited            files\n");
        let limit = process.limit(&host, "Max open files");
        assert_eq!(limit, Some((1_024, u64::MAX)));
        for text in ["Max open files", "Max open files many few", "\u{0}"] {
            write(text);
            assert_eq!(process.limit(&host, "Max open files"), None);
        }
    }
}
