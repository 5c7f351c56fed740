//! Who says what, and who counts: a flag before a variable, a variable before the file, the file
//! before the default.
//!
//! The file is checked as a whole. Of variables only those are read that count; one that is empty
//! says nothing.

use super::file::{self, Entry, unknown};
use super::flags::LogFlags;
use super::key::Key;
use super::keys::{Config, KEYS, default_ip};
use super::mcloudtt;
use super::problem::{Origin, Problem, Severity, hint, nearest};
use super::raw::Raw;
use super::relations;
use super::setting::{ANY, Setting};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The variable that names the file.
const FILE_VARIABLE: &str = "MESHRING_CONFIG";
/// The file if nobody names one, where it exists.
pub const FILE: &str = "/etc/meshring/meshring.toml";
/// The beginnings of names that are looked at.
const PREFIXES: &[&str] = &[
    "MESHRING_",
    "FRESHBLU_",
    "MCLOUDTT_",
    "mcloudtt_",
    "RUST_LOG",
    "OTEL_EXPORTER_OTLP_",
    "OTEL_SERVICE_NAME",
    "PRIVATE_KEY_BASE64",
];

/// So many letters may be wrong in the name of a variable that is taken for another.
const SLIPS_MAX: usize = 2;

/// Variables of the environment that may be meant for this program.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(String, OsString)>);

impl Environment {
    /// Those of this process.
    pub fn of_process() -> Environment {
        Environment::of(std::env::vars_os())
    }

    /// Those among these.
    pub fn of(all: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        let named = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let is_ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let mut found: Vec<_> = named
            .filter(|(name, value)| is_ours(name) && !value.is_empty())
            .collect();
        found.sort();
        Environment(found)
    }

    fn find(&self, name: &str) -> Option<&OsString> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

/// All who may say something.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Whether `--dev` changes defaults.
    pub dev: bool,
    /// The file that was named, if one was.
    pub file: Option<PathBuf>,
    /// The variables.
    pub environment: Environment,
    /// What flags say, in order of their keys.
    pub flags: Vec<(&'static Key, Raw)>,
}

/// A configuration, and who has said what of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// A value for each key.
    pub config: Config,
    /// Who has said it, in the order of [`KEYS`].
    pub origins: Vec<Origin>,
    /// What may surprise.
    pub warnings: Vec<Problem>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Sources {
    /// The file to read: as named by the flag, by the variable, or where one usually is.
    fn file_to_read(&self) -> Option<PathBuf> {
        let named = self.file.clone();
        let named = named.or_else(|| self.environment.find(FILE_VARIABLE).map(PathBuf::from));
        let usual = Path::new(FILE);
        named.or_else(|| (!self.dev && usual.exists()).then(|| usual.to_owned()))
    }

    /// Reads everything. Errs with all that is wrong, if anything makes it unusable.
    pub fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let file = self.file_to_read();
        let read = file.as_deref().map(file::read).unwrap_or_default();
        self.layer(read, file)
    }

    /// What can be made of everything, whatever is wrong: for commands that only have to find the
    /// broker. The warnings say what is wrong. Errs if a file that was named cannot be read.
    pub fn glance(&self) -> Result<Loaded, String> {
        let file = self.file_to_read();
        let named = file.as_deref().filter(|file| *file != Path::new(FILE));
        if let Some(file) = named {
            let opened = std::fs::File::open(file);
            opened.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        }
        let read = file.as_deref().map(file::read).unwrap_or_default();
        let Layers {
            config,
            origins,
            mut problems,
        } = self.layers(read);
        problems.retain(|problem| problem.severity == Severity::Error);
        Ok(Loaded {
            config,
            origins,
            warnings: problems,
            file,
        })
    }

    /// Reads what variables and flags say of these keys: for commands that read no file, and that do
    /// not mind what else is wrong.
    pub fn load_only(&self, paths: &[&str]) -> Result<Config, Vec<Problem>> {
        let mut layers = Layers {
            config: Config::defaults(self.dev),
            origins: KEYS.iter().map(|key| self.default_origin(key)).collect(),
            problems: Vec::new(),
        };
        for key in KEYS.iter().filter(|key| paths.contains(&&*key.path())) {
            let flag = self
                .flags
                .iter()
                .find(|(flagged, _)| std::ptr::eq(*flagged, key));
            if let Some((_, raw)) = flag {
                layers.put(key, raw, Origin::Flag(format!("--{}", key.name)));
            } else if let Some((name, value, is_port)) = self.variable_of(key) {
                self.put_variable(&mut layers, key, name, value, is_port);
            }
        }
        let problems = &mut layers.problems;
        problems.retain(|problem| problem.severity == Severity::Error);
        match problems.is_empty() {
            true => Ok(layers.config),
            false => Err(layers.problems),
        }
    }

    /// Reads variables and flags alone.
    #[cfg(test)]
    pub fn load_without_file(&self) -> Result<Loaded, Vec<Problem>> {
        self.layer(file::FileRead::default(), None)
    }

    /// Puts a file that has been read under variables and flags.
    pub(super) fn layer(
        &self,
        read: file::FileRead,
        file: Option<PathBuf>,
    ) -> Result<Loaded, Vec<Problem>> {
        let Layers {
            mut config,
            mut origins,
            mut problems,
        } = self.layers(read);
        relations::settle(&mut config, &mut origins);
        if problems
            .iter()
            .all(|problem| problem.severity != Severity::Error)
        {
            problems.extend(relations::problems(&config, &origins));
            problems.extend(
                file.as_deref()
                    .and_then(|file| exposed_secret(file, &origins)),
            );
        }
        match problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
        {
            true => Err(problems),
            false => Ok(Loaded {
                config,
                origins,
                warnings: problems,
                file,
            }),
        }
    }

    fn layers(&self, read: file::FileRead) -> Layers {
        let mut layers = Layers {
            config: Config::defaults(self.dev),
            origins: KEYS.iter().map(|key| self.default_origin(key)).collect(),
            problems: read.problems,
        };
        let entries = mcloudtt::translate(read.entries, self.dev, &mut layers.problems);
        for entry in entries {
            layers.put_entry(entry);
        }
        self.put_variables(&mut layers);
        for (key, raw) in &self.flags {
            let flag = format!("--{}", key.flag.map_or(key.name, |(flag, _)| flag));
            layers.put(key, raw, Origin::Flag(flag.replace('_', "-")));
        }
        layers
    }

    fn default_origin(&self, key: &Key) -> Origin {
        match self.dev && key.dev.is_some() {
            true => Origin::Dev,
            false => Origin::Default,
        }
    }

    fn put_variables(&self, layers: &mut Layers) {
        let mut theirs = Vec::new();
        for (name, value) in &self.environment.0 {
            if let Some(path) = mcloudtt::path_of_variable(name) {
                let origin = Origin::Variable(name.clone());
                match (mcloudtt::has_key(&path), value.to_str()) {
                    (true, Some(text)) => {
                        theirs.push(Entry {
                            path,
                            raw: Raw::Word(text.to_owned()),
                            origin,
                        });
                    }
                    _ => layers.problems.push(Problem::warning(
                        origin,
                        "McloudTT has no such setting, and this broker does not read it",
                    )),
                }
            } else if let Some(problem) = unknown_variable(name) {
                layers.problems.push(problem);
            }
        }
        let theirs = mcloudtt::translate(theirs, self.dev, &mut layers.problems);
        for key in KEYS {
            if self
                .flags
                .iter()
                .any(|(flagged, _)| std::ptr::eq(*flagged, key))
            {
                continue;
            }
            if let Some((name, value, is_port)) = self.variable_of(key) {
                self.put_variable(layers, key, name, value, is_port);
            } else if let Some(entry) = theirs.iter().find(|entry| entry.path == key.path()) {
                layers.put(key, &entry.raw, entry.origin.clone());
            }
        }
    }

    /// The strongest variable that says something of a key, and whether it says a port alone.
    fn variable_of(&self, key: &Key) -> Option<(String, &OsString, bool)> {
        let ours = [(key.variable(), false)];
        let older = key.variables.iter().map(|name| ((*name).to_owned(), false));
        let ports = key.ports.iter().map(|name| ((*name).to_owned(), true));
        let mut names = ours.into_iter().chain(older).chain(ports);
        names.find_map(|(name, is_port)| {
            let value = self.environment.find(&name)?;
            Some((name, value, is_port))
        })
    }

    fn put_variable(
        &self,
        layers: &mut Layers,
        key: &'static Key,
        name: String,
        value: &OsString,
        is_port: bool,
    ) {
        let origin = Origin::Variable(name);
        let raw = match value.to_str() {
            _ if key.is_secret => Raw::Bytes(value.clone().into_vec()),
            None if key.is_path => Raw::Bytes(value.clone().into_vec()),
            Some(text) => Raw::Word(text.trim().to_owned()),
            None => {
                let shown = String::from_utf8_lossy(value.as_bytes());
                let text = format!("={shown}: it is not UTF-8");
                return layers.problems.push(Problem::error(origin, text));
            }
        };
        if !is_port {
            return layers.put(key, &raw, origin);
        }
        match u16::read(&raw, ANY) {
            Ok(port) => {
                let address = format!("{}:{port}", default_ip(self.dev));
                layers.put(key, &Raw::List(vec![Raw::Word(address)]), origin);
            }
            Err(why) => layers
                .problems
                .push(Problem::error(origin, format!("={raw}: {why}"))),
        }
    }
}

/// What commands are told that are no broker and read no file, by these flags and by variables: how
/// they log, and where traces go. The rest is as it is by default. Errs with what makes no sense.
pub fn of_commands(logs: &LogFlags) -> Result<Config, Vec<Problem>> {
    let sources = Sources {
        environment: Environment::of_process(),
        flags: logs.said().collect(),
        ..Sources::default()
    };
    sources.load_only(&[
        "general.log",
        "general.log_format",
        "telemetry.endpoint",
        "telemetry.service_name",
    ])
}

/// What has been said so far.
struct Layers {
    config: Config,
    origins: Vec<Origin>,
    problems: Vec<Problem>,
}

impl Layers {
    fn put_entry(&mut self, entry: Entry) {
        let key = KEYS.iter().find(|key| key.path() == entry.path);
        match key {
            Some(key) => self.put(key, &entry.raw, entry.origin),
            None => self
                .problems
                .push(Problem::error(entry.origin, unknown(&entry.path))),
        }
    }

    fn put(&mut self, key: &'static Key, raw: &Raw, origin: Origin) {
        let place = KEYS.iter().position(|known| std::ptr::eq(known, key));
        let place = place.expect("keys come from the table");
        match key.read(&mut self.config, raw) {
            Ok(()) => self.origins[place] = origin,
            Err(why) => {
                let shown = raw.to_string();
                let shown = match key.is_secret || has_credentials(&shown) {
                    true => "…",
                    false => &shown,
                };
                let text = match &origin {
                    Origin::Variable(_) => format!("={shown}: {why}"),
                    _ => format!("{} = {shown}: {why}", key.path()),
                };
                // That variable is for all programs, and others read more in it.
                let is_ours = !matches!(&origin, Origin::Variable(name) if name == "RUST_LOG");
                self.problems.push(match is_ours {
                    true => Problem::error(origin, text),
                    false => Problem::warning(origin, text),
                });
            }
        }
    }
}

/// Whether this may be an address with a user's name and password in it.
fn has_credentials(text: &str) -> bool {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    rest.is_some_and(|rest| rest.contains('@'))
}

/// That a variable looks like one of ours and is none.
fn unknown_variable(name: &str) -> Option<Problem> {
    let rest = name.strip_prefix("MESHRING_")?;
    let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
    if !rest.contains("__") {
        return misspelt_variable(name, &variables);
    }
    if variables.iter().any(|known| known == name) {
        return None;
    }
    let hint = hint(nearest(name, variables.iter().map(String::as_str)));
    let text = format!("there is no such setting{hint}");
    Some(Problem::error(Origin::Variable(name.to_owned()), text))
}

/// That a variable without two underscores differs by a slip from one that is read. No more than a
/// warning: a cluster makes variables for each of its services, some of which begin like ours.
fn misspelt_variable(name: &str, variables: &[String]) -> Option<Problem> {
    let older = || {
        let keys = KEYS.iter();
        let names = keys.flat_map(|key| key.variables.iter().chain(key.ports).copied());
        names.chain([FILE_VARIABLE])
    };
    if older().any(|known| known == name) {
        return None;
    }
    let meant = variables
        .iter()
        .find(|known| strsim::osa_distance(name, &known.replace("__", "_")) <= 1)
        .map(String::as_str);
    let near = |known: &&str| strsim::osa_distance(name, known) <= SLIPS_MAX;
    let meant = meant.or_else(|| older().find(near))?;
    let text = format!("nobody reads this variable; did you mean {meant}?");
    Some(Problem::warning(Origin::Variable(name.to_owned()), text))
}

/// That whoever may read the file may know the secret in it.
fn exposed_secret(file: &Path, origins: &[Origin]) -> Option<Problem> {
    let said = KEYS
        .iter()
        .zip(origins)
        .find(|(key, origin)| key.is_secret && matches!(origin, Origin::File { .. }));
    let (key, origin) = said?;
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let text = format!(
            "everybody may read {} here: chmod o-r {}",
            key.path(),
            file.display()
        );
        Problem::warning(origin.clone(), text)
    })
}

impl Loaded {
    /// Who has said the value of a key.
    pub fn origin(&self, path: &str) -> &Origin {
        let place = KEYS.iter().position(|key| key.path() == path);
        &self.origins[place.expect("the key is in the table")]
    }

    /// Whether nobody has said anything of a key.
    pub fn is_default(&self, path: &str) -> bool {
        matches!(self.origin(path), Origin::Default | Origin::Dev)
    }

    /// Whether it is known for certain where the broker keeps its state: somebody has said so, or this
    /// is the configuration that a broker has when nobody says anything.
    pub fn names_data(&self) -> bool {
        !self.is_default("general.data") || self.file.as_deref() == Some(Path::new(FILE))
    }

    /// Whom to blame for the value of a key: its flag, its variable, its line.
    pub fn blame(&self, path: &str) -> String {
        let key = super::keys::find(path).expect("the key is in the table");
        match (self.origin(path), key.flag) {
            (Origin::Default | Origin::Dev, Some((flag, _))) => format!("the default of --{flag}"),
            (Origin::Default | Origin::Dev, None) => format!("the default of {path}"),
            (origin @ Origin::File { .. }, _) => format!("{path} in {origin}"),
            (origin, _) => origin.to_string(),
        }
    }
}
