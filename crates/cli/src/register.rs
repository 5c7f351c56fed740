//! `meshring register`: a request, and a file that must not be lost or read by others.

use crate::api::Api;
use crate::arguments::RegisterArguments;
use crate::calls::{Call, object};
use crate::failure::Failure;
use crate::output;
use crate::settings::Settings;
use crate::sources::FILES;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Registers a device, keeps its credentials and shows it.
pub fn register(arguments: &RegisterArguments, settings: &Settings) -> Result<(), Failure> {
    let mut properties = object(&arguments.data)?;
    if let Some(kind) = &arguments.kind {
        properties["type"] = Value::from(kind.as_str());
    }
    let path = arguments.path();
    // Asked before there is a device whose token nobody would ever learn.
    if let Some(path) = path.filter(|_| !arguments.force) {
        refuse_to_overwrite(path)?;
    }
    let call = Call::open("POST", &["devices"], Some(properties));
    let answer = Api::new(settings)?.send(&call)?;
    let device: Value = serde_json::from_str(&answer).unwrap_or_default();
    let (Some(uuid), Some(token)) = (device["uuid"].as_str(), device["token"].as_str()) else {
        return Err(Failure::Nonsense(
            "the answer has no uuid and token; is there another server?".to_owned(),
        ));
    };
    if let Some(path) = path {
        let kept = json!({ "uuid": uuid, "token": token, "server": settings.server.to_string() });
        let kept = serde_json::to_string_pretty(&kept).expect("text only");
        // The answer is shown even then, since it is the only place where the token is.
        if let Err(error) = write(path, &kept) {
            output::show(&answer, settings.format())?;
            return Err(Failure::Output(error));
        }
        eprintln!("credentials kept in {}", path.display());
    }
    output::show(&answer, settings.format())
}

impl RegisterArguments {
    /// The file for the credentials, if there is to be one.
    fn path(&self) -> Option<&Path> {
        if self.no_save {
            return None;
        }
        // `--save` without a name is what happens anyway.
        let named = self.save.as_ref().and_then(Option::as_deref);
        let chosen = named.or(self.config());
        Some(chosen.unwrap_or(Path::new(FILES[0])))
    }
}

fn refuse_to_overwrite(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() => Err(Failure::Usage(format!(
            "{} has credentials already: --save FILE keeps these elsewhere, --no-save nowhere, \
             --force overwrites those",
            path.display()
        ))),
        // Written to, or failing with its own words.
        _ => Ok(()),
    }
}

/// Writes a new file beside the old one and puts it in its place: whatever happens, one of the
/// two is there, whole. Only its owner may read it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written
        .and_then(|()| std::fs::rename(&beside, path))
        .inspect_err(|_| {
            // What is left of it is of no use, and there may be nothing.
            let _ = std::fs::remove_file(&beside);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meshring.json");
        for text in ["{\"uuid\":1}", "{}"] {
            write(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{text}\n"));
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn credentials_are_not_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meshring.json");
        assert!(refuse_to_overwrite(&path).is_ok());
        write(&path, "{}").unwrap();
        assert_eq!(refuse_to_overwrite(&path).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder.path().join("no/meshring.json"), "{}").is_err());
    }
}
