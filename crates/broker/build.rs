//! Puts the version, with the git commit when there is one, into `MESHRING_VERSION`.
//! Needs no network and no git: a source archive builds too, without the commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let version = env!("CARGO_PKG_VERSION");
    let version = match commit() {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo:rustc-env=MESHRING_VERSION={version}");
}

/// The commit of this source tree, if it is a git checkout of its own. An archive unpacked inside
/// somebody else's checkout must not claim that one's commit.
fn commit() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .ok()?;
    let top_level = git(&workspace, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top_level).canonicalize().ok()? != workspace {
        return None;
    }
    // Each commit and checkout appends to this log, so a stale commit is never shown. A missing
    // path would make cargo run this script every time.
    let log = git(&workspace, &["rev-parse", "--git-path", "logs/HEAD"])?;
    let log = workspace.join(log);
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    git(&workspace, &["rev-parse", "--short=10", "HEAD"])
}

/// The first line that git prints, or `None` if there is no git or it refuses.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}
