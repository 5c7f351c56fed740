//! A file system that loses power: what has not been synced is kept or lost, entry by entry.
//!
//! The storage crate makes and replaces whole directories on it. What a file holds is a
//! [`Disk`]'s, what a directory names is here; a name is there for sure only after the directory
//! was synced, whatever the file behind it was.

use crate::chance::Chance;
use crate::disk::{Disk, Power};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::{FileSystem, Source, StorageBackend};

/// A node's place in [`State`].
type Number = usize;
/// Of the directory that everything is in.
const ROOT: Number = 0;

/// Something done to a directory and not synced.
#[derive(Clone, Debug)]
enum Entry {
    Added(String, Number),
    Removed(String),
    Renamed(String, String),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    /// What no loss of power takes away.
    synced: BTreeMap<String, Number>,
    seen: BTreeMap<String, Number>,
    unsynced: Vec<Entry>,
}

#[derive(Clone, Debug)]
enum Node {
    Directory(Directory),
    File(Disk),
}

#[derive(Debug)]
struct State {
    /// Those that nothing names any more are emptied now and then, when nobody has them open.
    nodes: Vec<Node>,
}

/// The file system; clones are the same.
#[derive(Clone, Debug)]
pub struct Files {
    state: Arc<Mutex<State>>,
    power: Power,
}

impl Default for Files {
    fn default() -> Files {
        let nodes = vec![Node::Directory(Directory::default())];
        Files {
            state: Arc::new(Mutex::new(State { nodes })),
            power: Power::default(),
        }
    }
}

fn apply(names: &mut BTreeMap<String, Number>, entry: &Entry) {
    match entry {
        Entry::Added(name, number) => drop(names.insert(name.clone(), *number)),
        Entry::Removed(name) => drop(names.remove(name)),
        Entry::Renamed(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
    }
}

impl Directory {
    fn change(&mut self, entry: Entry) {
        apply(&mut self.seen, &entry);
        self.unsynced.push(entry);
    }

    fn sync(&mut self) {
        self.synced = self.seen.clone();
        self.unsynced.clear();
    }

    fn lose_power(&mut self, chance: &mut Chance) {
        let percent = chance.pick(&[0, 50, 90, 100]);
        for entry in std::mem::take(&mut self.unsynced) {
            if chance.percent(percent) {
                apply(&mut self.synced, &entry);
            }
        }
        self.seen = self.synced.clone();
    }
}

/// The directory that a path is in, and its name there.
fn split(path: &Path) -> Result<(&Path, String)> {
    let parent = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    Ok((parent, name.to_string_lossy().into_owned()))
}

impl State {
    fn find(&self, path: &Path) -> Result<Number> {
        let mut at = ROOT;
        for name in path.iter().filter(|name| *name != "/") {
            let Node::Directory(directory) = &self.nodes[at] else {
                return Err(ErrorKind::NotADirectory.into());
            };
            let name = name.to_string_lossy();
            at = *directory.seen.get(&*name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn directory(&mut self, path: &Path) -> Result<&mut Directory> {
        let number = self.find(path)?;
        match &mut self.nodes[number] {
            Node::Directory(directory) => Ok(directory),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn disk(&self, path: &Path) -> Result<Disk> {
        match &self.nodes[self.find(path)?] {
            Node::File(disk) => Ok(disk.clone()),
            Node::Directory(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> Result<()> {
        let number = self.nodes.len();
        let (parent, name) = split(path)?;
        let directory = self.directory(parent)?;
        if directory.seen.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        directory.change(Entry::Added(name, number));
        self.nodes.push(node);
        Ok(())
    }
}

impl State {
    /// Empties what nothing names any more.
    fn collect(&mut self) {
        let mut is_named = vec![false; self.nodes.len()];
        let mut waiting = vec![ROOT];
        while let Some(number) = waiting.pop() {
            is_named[number] = true;
            if let Node::Directory(directory) = &self.nodes[number] {
                waiting.extend(directory.seen.values().chain(directory.synced.values()));
            }
        }
        for (node, is_named) in self.nodes.iter_mut().zip(is_named) {
            if !is_named {
                *node = Node::File(Disk::default());
            }
        }
    }
}

impl Files {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What everything here runs on.
    pub fn power(&self) -> &Power {
        &self.power
    }

    /// The disk behind a file.
    ///
    /// # Errors
    /// There is none.
    pub fn disk(&self, path: &Path) -> Result<Disk> {
        self.state().disk(path)
    }

    /// The power was lost, and is back.
    pub fn lose_power(&self, chance: &mut Chance) {
        let mut state = self.state();
        for node in &mut state.nodes {
            match node {
                Node::Directory(directory) => directory.lose_power(chance),
                Node::File(disk) => disk.lose_power(chance),
            }
        }
        state.collect();
        self.power.fail_after(None);
    }

    /// What is here goes for good, without a trace.
    pub fn erase(&self, path: &Path) {
        let mut state = self.state();
        if let Ok((parent, name)) = split(path)
            && let Ok(directory) = state.directory(parent)
        {
            directory.seen.remove(&name);
            directory.sync();
        }
        state.collect();
    }

    fn make_file(&self, path: &Path) -> Result<Disk> {
        self.power.spend()?;
        let disk = Disk::on(&self.power);
        self.state().add(path, Node::File(disk.clone()))?;
        Ok(disk)
    }
}

impl FileSystem for Files {
    fn is_directory(&self, path: &Path) -> bool {
        self.state().directory(path).is_ok()
    }

    fn make_directory(&self, path: &Path) -> Result<()> {
        self.power.spend()?;
        let node = Node::Directory(Directory::default());
        self.state().add(path, node)
    }

    fn names(&self, directory: &Path) -> Result<Vec<String>> {
        let mut state = self.state();
        Ok(state.directory(directory)?.seen.keys().cloned().collect())
    }

    fn remove_directory(&self, path: &Path) -> Result<()> {
        // Its files one by one, as it is done everywhere.
        for name in self.names(path)? {
            self.power.spend()?;
            let mut state = self.state();
            if state.directory(&path.join(&name)).is_ok() {
                return Err(Error::other("a directory in a directory of files"));
            }
            state.directory(path)?.change(Entry::Removed(name));
        }
        self.power.spend()?;
        let (parent, name) = split(path)?;
        let mut state = self.state();
        state.directory(parent)?.change(Entry::Removed(name));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        self.power.spend()?;
        let mut state = self.state();
        state.directory(path)?.sync();
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let disk = self.disk(path)?;
        let mut contents = vec![0; disk.len()? as usize];
        StorageBackend::read(&disk, 0, &mut contents)?;
        Ok(contents)
    }

    fn write(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let found = self.disk(path);
        let disk = match found {
            Ok(disk) => {
                disk.set_len(0)?;
                disk
            }
            Err(_) => self.make_file(path)?,
        };
        StorageBackend::write(&disk, 0, contents)?;
        disk.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.power.spend()?;
        let ((parent, from), (other, to)) = (split(from)?, split(to)?);
        if parent != other {
            return Err(ErrorKind::CrossesDevices.into());
        }
        let mut state = self.state();
        let directory = state.directory(parent)?;
        if !directory.seen.contains_key(&from) {
            return Err(ErrorKind::NotFound.into());
        }
        directory.change(Entry::Renamed(from, to));
        Ok(())
    }

    fn source(&self, path: &Path, is_new: bool) -> Source {
        let (files, owned) = (self.clone(), path.to_owned());
        Source::backend(path.display().to_string(), None, move || {
            let disk = match is_new {
                true => files.make_file(&owned)?,
                false => files.disk(&owned)?,
            };
            Ok(Box::new(disk))
        })
    }

    fn untouched(&self, path: &Path) -> Source {
        let (files, owned) = (self.clone(), path.to_owned());
        Source::backend(path.display().to_string(), None, move || {
            Ok(Box::new(files.disk(&owned)?.copied()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_sure_once_its_directory_is_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let (files, mut chance) = (Files::default(), Chance::new(seed));
            let [folder, new, old] = ["/a", "/a/new", "/a/old"].map(Path::new);
            files.make_directory(folder).unwrap();
            files.sync_directory(Path::new("/")).unwrap();
            files.write(old, b"old").unwrap();
            files.sync_directory(folder).unwrap();
            files.write(new, b"new").unwrap();
            files.rename(new, old).unwrap();
            files.lose_power(&mut chance);
            let found = FileSystem::read(&files, old).unwrap();
            lost += u32::from(found == b"old");
            assert!(found == b"old" || found == b"new");
            files.write(new, b"newer").unwrap();
            files.rename(new, old).unwrap();
            files.sync_directory(folder).unwrap();
            files.lose_power(&mut chance);
            assert_eq!(FileSystem::read(&files, old).unwrap(), b"newer");
            assert!(FileSystem::read(&files, new).is_err());
        }
        assert!((1..50).contains(&lost), "{lost} renamings were lost");
    }

    #[test]
    fn nothing_changes_without_power() {
        let files = Files::default();
        files.power().fail_after(Some(1));
        files.make_directory(Path::new("/a")).unwrap();
        assert!(files.write(Path::new("/a/b"), b"c").is_err());
        assert!(files.remove_directory(Path::new("/a")).is_err());
        files.lose_power(&mut Chance::new(1));
        files.erase(Path::new("/a"));
        files.make_directory(Path::new("/a")).unwrap();
    }
}
