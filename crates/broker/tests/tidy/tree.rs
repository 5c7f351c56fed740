//! The files of the workspace, and how complaints about them are reported.

use crate::manifest::Manifest;
use std::path::{Path, PathBuf};

/// Folders that are not ours to tidy: made by builds and package managers.
const SKIPPED: &[&str] = &[
    "target",
    "node_modules",
    ".git",
    ".venv",
    "data",
    "perf-results",
    "corpus",
    "artifacts",
];

/// Workspaces of their own.
const OTHER_WORKSPACES: &[&str] = &[
    "fuzz/",
    "benches/runtimes/",
    "crates/broker/tests/interop/freshblu_types/",
];

/// What is text, by the ending of its name.
const TEXTS: &[&str] = &[
    "rs", "toml", "md", "py", "js", "mjs", "json", "sh", "yml", "yaml", "html", "txt", "csv", "tsv",
];

/// One file of the tree.
#[derive(Debug)]
pub struct File {
    /// From the root of the workspace, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl File {
    /// A file that need not exist.
    pub fn new(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Whether all of it is test code.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or("");
        let in_tests = self
            .path
            .split('/')
            .any(|folder| folder == "tests" || folder == "benches");
        in_tests || name == "tests.rs" || name.ends_with("_tests.rs")
    }

    /// Where the modules that this file declares are: next to `lib.rs`, below all others.
    pub fn module_folder(&self) -> &str {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder,
            _ => self.path.trim_end_matches(".rs"),
        }
    }

    /// One complaint for each line of `text` (this file's, or its code alone) that `rule` objects
    /// to.
    pub fn complain_by_line(
        &self,
        text: &str,
        rule: impl Fn(&str) -> Option<&'static str>,
    ) -> Vec<String> {
        let lines = text.lines().enumerate();
        lines
            .filter_map(|(index, line)| {
                rule(line).map(|what| format!("{}:{}: {what}", self.path, index + 1))
            })
            .collect()
    }
}

/// The number of the line that a complaint is about.
pub fn line_of(complaint: &str) -> usize {
    complaint
        .split(':')
        .nth(1)
        .and_then(|line| line.parse().ok())
        .unwrap_or(0)
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// All files with this ending.
pub fn files(ending: &str) -> Vec<File> {
    let suffix = format!(".{ending}");
    let found = walk(&root())
        .into_iter()
        .filter(|path| path.ends_with(&suffix));
    found
        .map(|path| File {
            text: read(&path),
            path,
        })
        .collect()
}

/// All files that people write: by ending, and `.ci/run`, which has none.
pub fn texts() -> Vec<File> {
    let mut texts: Vec<File> = TEXTS.iter().flat_map(|ending| files(ending)).collect();
    if root().join(".ci/run").exists() {
        texts.push(File {
            path: ".ci/run".to_owned(),
            text: read(".ci/run"),
        });
    }
    texts
}

/// The manifests of the workspace's members, each with its folder (`crates/http/`). The root has
/// no package; these are workspaces of their own.
pub fn manifests() -> Vec<(String, Manifest)> {
    let found: Vec<(String, Manifest)> = files("toml")
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
        .filter(|file| {
            !OTHER_WORKSPACES
                .iter()
                .any(|other| file.path.starts_with(other))
        })
        .map(|file| {
            (
                file.path.trim_end_matches("Cargo.toml").to_owned(),
                Manifest::parse(&file.text),
            )
        })
        .collect();
    assert!(
        found.len() >= 8,
        "the manifests of the workspace are not where they were"
    );
    found
}

/// Fails with all complaints, if there are any.
#[track_caller]
pub fn pass(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All paths below `folder`, from the root, sorted.
fn walk(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    folders.push(entry.path());
                }
                continue;
            }
            let path = entry
                .path()
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            paths.push(path);
        }
    }
    paths.sort();
    paths
}
