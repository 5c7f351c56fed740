//! The rules of the house, as tests: which crate may depend on which, what the pure crates must
//! not touch, where `unsafe` may stand, how long a file may be. ARCHITECTURE.md explains them.
//!
//! Each rule is a function from a file to a list of complaints, tried on a bad example first and
//! then on the whole tree; a failure lists every complaint as `path:line: what is wrong`.

#![allow(
    clippy::unwrap_used,
    reason = "all of this file is a test, its helpers too"
)]

#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/rust_code.rs"]
mod rust_code;
#[path = "tidy/tree.rs"]
mod tree;

use manifest::Manifest;
use rust_code::{code_of, has_word, lines_of_tests};
use tree::{File, files, manifests, pass};

/// The arrows between our crates: package, what it may depend on, what its tests may besides.
/// A crate may be missing, since some come later; a crate that is not listed may not exist.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("mqtt-v5-codec", &[], &[]),
    ("meshring-http", &[], &[]),
    ("meshring-meshblu", &[], &[]),
    ("meshring-shard", PURE_BELOW_SHARD, &[]),
    (
        "meshring-storage",
        &["meshring-shard", "mqtt-v5-codec"],
        &[],
    ),
    ("meshring-net", &["meshring-shard"], &["mqtt-v5-codec"]),
    ("meshring-cluster", &["meshring-shard"], &[]),
    ("meshring-cli", &[], &[]),
    (
        "meshring",
        &[
            "meshring-shard",
            "meshring-storage",
            "meshring-net",
            "meshring-cluster",
            "meshring-cli",
            "meshring-meshblu",
        ],
        PURE_BELOW_SHARD,
    ),
    (
        "sim",
        &[
            "meshring-shard",
            "meshring-storage",
            "mqtt-v5-codec",
            "meshring-http",
        ],
        &[],
    ),
    ("perf", PURE_BELOW_SHARD, &[]),
    (
        "benches",
        &[
            "mqtt-v5-codec",
            "meshring-http",
            "meshring-shard",
            "meshring-net",
        ],
        &[],
    ),
];

const PURE_BELOW_SHARD: &[&str] = &["mqtt-v5-codec", "meshring-http", "meshring-meshblu"];

/// The folders of the pure crates. Those that do not exist yet are skipped.
const PURE: &[&str] = &[
    "crates/mqtt-v5-codec",
    "crates/http",
    "crates/meshblu",
    "shard",
];

/// What every pure crate's clippy.toml must ban, so that nothing of the outside gets in.
const BANNED: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::fs::File",
    "std::fs::read",
    "std::fs::write",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::env::var",
    "std::hash::RandomState",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// Packages that may be used in one of our crates only.
const CONFINED: &[(&str, &str)] = &[("io-uring", "meshring-net"), ("redb", "meshring-storage")];

/// Programs of their own: what their flags and surroundings are is theirs to read.
const PROGRAMS: &[&str] = &[
    "crates/broker/",
    "crates/sim/",
    "crates/cli/",
    "perf/",
    "benches/",
];

/// The longest file, tests included.
const LINES_MAX: usize = 700;

#[test]
fn crates_depend_on_each_other_as_designed() {
    let bad =
        Manifest::parse("[package]\nname = \"meshring-net\"\n[dependencies]\nsim.path = \"\"");
    assert_eq!(arrows(&bad).len(), 1);
    pass(
        manifests()
            .iter()
            .flat_map(|(_, manifest)| arrows(manifest)),
    );
}

fn arrows(manifest: &Manifest) -> Vec<String> {
    let Some((_, normal, tests)) = ARROWS.iter().find(|(name, ..)| *name == manifest.name) else {
        return vec![format!(
            "{}: not in the table of crates (ARROWS)",
            manifest.name
        )];
    };
    let ours = |name: &str| ARROWS.iter().any(|(package, ..)| *package == name);
    let mut complaints = Vec::new();
    for dependency in manifest.dependencies.iter().filter(|d| ours(&d.package)) {
        let name = dependency.package.as_str();
        let is_allowed =
            normal.contains(&name) || (dependency.is_for_tests && tests.contains(&name));
        if !is_allowed {
            complaints.push(format!("{} must not depend on {name}", manifest.name));
        }
    }
    complaints
}

#[test]
fn io_uring_and_redb_have_one_home_each() {
    let bad = Manifest::parse("[package]\nname = \"perf\"\n[dependencies]\nredb = \"1\"");
    assert_eq!(confined(&bad).len(), 1);
    pass(
        manifests()
            .iter()
            .flat_map(|(_, manifest)| confined(manifest)),
    );
}

fn confined(manifest: &Manifest) -> Vec<String> {
    let uses = |package: &str| manifest.dependencies.iter().any(|d| d.package == package);
    CONFINED
        .iter()
        .filter(|(package, home)| uses(package) && manifest.name != *home)
        .map(|(package, home)| format!("{}: {package} belongs to {home} alone", manifest.name))
        .collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let bad =
        Manifest::parse("[package]\nname = \"a\"\n[dependencies]\n# Why b.\nb = \"1\"\nc = \"1\"");
    assert_eq!(
        reasons("", &bad),
        ["Cargo.toml:6: c has no comment that says why it is used"]
    );
    pass(
        manifests()
            .iter()
            .flat_map(|(path, manifest)| reasons(path, manifest)),
    );
}

fn reasons(folder: &str, manifest: &Manifest) -> Vec<String> {
    let ours = |name: &str| ARROWS.iter().any(|(package, ..)| *package == name);
    manifest
        .dependencies
        .iter()
        .filter(|d| !d.has_comment && !ours(&d.package))
        .map(|d| {
            let (line, package) = (d.line, &d.package);
            format!("{folder}Cargo.toml:{line}: {package} has no comment that says why it is used")
        })
        .collect()
}

#[test]
fn pure_crates_shut_the_outside_out() {
    assert_eq!(lints("", "shard").len(), 1 + BANNED.len());
    let folders = PURE
        .iter()
        .filter(|folder| tree::root().join(folder).exists());
    pass(folders.flat_map(|folder| {
        let read = |file| std::fs::read_to_string(tree::root().join(folder).join(file));
        let mut complaints = lints(&read("clippy.toml").unwrap_or_default(), folder);
        if !code_of(&read("src/lib.rs").unwrap()).contains("#![forbid(unsafe_code)]") {
            complaints.push(format!(
                "{folder}/src/lib.rs: lacks #![forbid(unsafe_code)]"
            ));
        }
        complaints
    }));
}

fn lints(clippy_toml: &str, folder: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    // The nearest clippy.toml counts alone, so what the root's says must be said again.
    if !clippy_toml.contains("allow-unwrap-in-tests = true") {
        complaints.push(format!("{folder}/clippy.toml: must allow unwrap in tests"));
    }
    for path in BANNED {
        let is_banned =
            |line: &str| line.contains("path = ") && line.contains(&format!("\"{path}\""));
        if !clippy_toml.lines().any(is_banned) {
            complaints.push(format!("{folder}/clippy.toml: must ban {path}"));
        }
    }
    complaints
}

#[test]
fn pure_crates_are_free_of_async() {
    let bad = File::new("shard/src/a.rs", "//! A.\nasync fn a() {}\n");
    assert_eq!(asynchrony(&bad).len(), 1);
    pass(files("rs").iter().flat_map(asynchrony));
}

fn asynchrony(file: &File) -> Vec<String> {
    if !PURE
        .iter()
        .any(|folder| file.path.starts_with(&format!("{folder}/src/")))
    {
        return Vec::new();
    }
    file.complain_by_line(&code_of(&file.text), |line| {
        (has_word(line, "async") || has_word(line, "await")).then_some("a pure crate never waits")
    })
}

#[test]
fn unsafe_stands_in_net_only() {
    let bad = File::new(
        "perf/src/a.rs",
        "//! No unsafe here.\nfn a() { unsafe { b() } }\n",
    );
    assert_eq!(danger(&bad).len(), 1);
    pass(files("rs").iter().flat_map(danger));
}

fn danger(file: &File) -> Vec<String> {
    if file.path.starts_with("net/") {
        return Vec::new();
    }
    file.complain_by_line(&code_of(&file.text), |line| {
        (has_word(line, "unsafe") || line.contains("io_uring::"))
            .then_some("unsafe and io_uring belong to net alone")
    })
}

#[test]
fn only_programs_read_their_surroundings() {
    let bad = File::new("net/src/a.rs", "//! A.\nfn a() { std::env::var(\"A\"); }\n");
    assert_eq!(surroundings(&bad).len(), 1);
    pass(files("rs").iter().flat_map(surroundings));
}

fn surroundings(file: &File) -> Vec<String> {
    let is_library = file.path.contains("src/") && !file.path.starts_with("fuzz/");
    if !is_library || PROGRAMS.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let code = code_of(&file.text);
    let tests = lines_of_tests(&code);
    file.complain_by_line(&code, |line| {
        (line.contains("env::") || line.contains("std::env"))
            .then_some("a library is handed typed values; only broker reads configuration")
    })
    .into_iter()
    .filter(|complaint| !tests.contains(&tree::line_of(complaint)))
    .collect()
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let long = "//! A.\n".repeat(LINES_MAX + 1);
    assert_eq!(shape(&File::new("a/b.rs", &long)).len(), 1);
    assert_eq!(shape(&File::new("a/b.rs", "fn main() {}\n")).len(), 1);
    let all = ["rs", "py", "js", "mjs", "sh"].into_iter().flat_map(files);
    pass(all.collect::<Vec<_>>().iter().flat_map(shape));
}

fn shape(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let count = file.text.lines().count();
    if count > LINES_MAX {
        complaints.push(format!(
            "{}:{count}: longer than {LINES_MAX} lines",
            file.path
        ));
    }
    if file.path.ends_with(".rs") && !file.text.starts_with("//!") {
        complaints.push(format!("{}:1: must begin with a `//!` comment", file.path));
    }
    complaints
}

#[test]
fn unwrap_stays_in_tests() {
    let bad = "//! A.\nfn a() { b().unwrap() }\n\
               #[cfg(test)]\nmod tests {\n fn c() { d().unwrap() }\n}\n";
    assert_eq!(unwraps(&File::new("net/src/a.rs", bad)).len(), 1);
    let all = files("rs");
    let model = File::new("net/src/lib.rs", "#[cfg(test)]\nmod model;\nmod other;\n");
    assert_eq!(modules_of_tests(&[model]), ["net/src/model.rs"]);
    let of_tests = modules_of_tests(&all);
    pass(
        all.iter()
            .filter(|file| !of_tests.contains(&file.path))
            .flat_map(unwraps),
    );
}

fn unwraps(file: &File) -> Vec<String> {
    if file.is_test() {
        return Vec::new();
    }
    let code = code_of(&file.text);
    let tests = lines_of_tests(&code);
    file.complain_by_line(&code, |line| {
        line.contains(".unwrap()")
            .then_some("say why it holds: `expect(\"...\")`")
    })
    .into_iter()
    .filter(|complaint| !tests.contains(&tree::line_of(complaint)))
    .collect()
}

/// The files of modules that another file declares as `#[cfg(test)] mod name;`.
fn modules_of_tests(all: &[File]) -> Vec<String> {
    let mut paths = Vec::new();
    for file in all {
        let folder = file.module_folder();
        let code = code_of(&file.text);
        let tests = lines_of_tests(&code);
        for (index, line) in code.lines().enumerate() {
            let name = line
                .trim()
                .strip_prefix("mod ")
                .and_then(|rest| rest.strip_suffix(';'));
            if let Some(name) = name.filter(|_| tests.contains(&(index + 1))) {
                paths.push(format!("{folder}/{name}.rs"));
            }
        }
    }
    paths
}

#[test]
fn nothing_is_left_for_later() {
    let bad = File::new("a.md", concat!("one\nTO", "DO: two\n"));
    assert_eq!(leftovers(&bad).len(), 1);
    pass(tree::texts().iter().flat_map(leftovers));
}

fn leftovers(file: &File) -> Vec<String> {
    // Put together here, so that this file does not complain about itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
    ];
    let ignore = concat!("#[", "ignore");
    file.complain_by_line(&file.text, |line| {
        let is_left = words.iter().any(|word| has_word(line, word)) || line.contains(ignore);
        is_left.then_some("nothing is left for later, and no test is skipped")
    })
}

#[test]
fn no_path_of_anybodys_machine() {
    let bad = File::new(
        "a.md",
        concat!("see /ro", "ot/notes\nand home", "/kitchen\n"),
    );
    assert_eq!(machine_paths(&bad).len(), 1);
    pass(tree::texts().iter().flat_map(machine_paths));
}

fn machine_paths(file: &File) -> Vec<String> {
    let paths = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    file.complain_by_line(&file.text, |line| {
        let is_absolute = |path: &str| {
            line.match_indices(path).any(|(at, _)| {
                // `a/home/b` is a topic; with nothing before its first slash it is a path.
                !line[..at]
                    .ends_with(|before: char| before.is_alphanumeric() || "+}._-".contains(before))
            })
        };
        paths
            .iter()
            .any(|path| is_absolute(path))
            .then_some("a path of somebody's machine")
    })
}
