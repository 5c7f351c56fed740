//! Just enough of Cargo.toml: the package's name and its dependencies, one per line, as the
//! manifests of this workspace are written.

/// One manifest.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// In the order of the file.
    pub dependencies: Vec<Dependency>,
}

/// One line of a table of dependencies.
#[derive(Debug)]
pub struct Dependency {
    /// The package's name: our own crates are listed under their short names.
    pub package: String,
    /// Listed under dev-dependencies.
    pub is_for_tests: bool,
    /// Counted from 1.
    pub line: usize,
    /// A comment stands directly above it.
    pub has_comment: bool,
}

/// Crates of ours whose key in a manifest is not their package's name.
const SHORT_NAMES: &[&str] = &[
    "shard", "net", "http", "meshblu", "storage", "cluster", "cli",
];

impl Manifest {
    /// Reads the text of a manifest.
    pub fn parse(text: &str) -> Manifest {
        let mut manifest = Manifest::default();
        let mut section = "";
        let mut has_comment = false;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('#') {
                has_comment = true;
                continue;
            }
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']');
            } else if let Some((key, value)) = line.split_once('=') {
                let key = key.trim();
                if section == "package" && key == "name" {
                    manifest.name = value.trim().trim_matches('"').to_owned();
                } else if section.ends_with("dependencies") {
                    manifest.dependencies.push(Dependency {
                        package: package(key),
                        is_for_tests: section.ends_with("dev-dependencies"),
                        line: index + 1,
                        has_comment,
                    });
                }
            }
            has_comment = false;
        }
        manifest
    }
}

fn package(key: &str) -> String {
    let name = key.split('.').next().unwrap_or(key).trim_matches('"');
    if SHORT_NAMES.contains(&name) {
        format!("meshring-{name}")
    } else {
        name.to_owned()
    }
}
