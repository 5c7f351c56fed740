//! How a file is opened and made, and what redb's errors mean.

use crate::StoreError;
use crate::backend::{Failure, Source, Watch, Watched, is_full};
use crate::header::{FORMAT, FORMAT_MIN, FileHeader};
use crate::load::Stop;
use crate::records::BadRecord;
use crate::store::StoreOptions;
use crate::tables::{
    DEVICE_SUBSCRIPTIONS, DEVICES, GROUP_QUEUED, META, META_ALIVE, META_FORMAT, META_HEADER,
    QUEUED, RECEIVED, RETAINED, SEEN, SESSIONS, SUBSCRIPTIONS, TOKENS,
};
use redb::{Builder, Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};
use shard::Time;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Opens what exists, or makes what does not.
pub(crate) fn open_database(
    source: &Source,
    options: StoreOptions,
    is_new: bool,
) -> Result<(Database, Arc<Watch>), StoreError> {
    let name = source.name();
    let backend = source.make().map_err(|error| io_error(name, &error))?;
    let bytes = backend.len().map_err(|error| io_error(name, &error))?;
    // redb makes a new database of nothing, which would be a silent start with less.
    if is_new != (bytes == 0) {
        let found = if is_new {
            "it has contents already"
        } else {
            "it is empty"
        };
        return Err(damaged(name, found));
    }
    let watch = Arc::new(Watch::default());
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.verify && !is_new);
    let database = builder
        .create_with_backend(Watched::new(backend, Arc::clone(&watch)))
        .map_err(|error| error_of(name, watch.failure(), error.into()))?;
    Ok((database, watch))
}

/// Makes the tables, and says to whom the file belongs.
pub(crate) fn write_header(database: &Database, header: &FileHeader) -> Result<(), Stop> {
    write_transaction(database, Durability::Immediate, true, |transaction| {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(META_HEADER, header.encode().as_slice())?;
        transaction.open_table(SESSIONS)?;
        transaction.open_table(RECEIVED)?;
        transaction.open_table(SUBSCRIPTIONS)?;
        transaction.open_table(SEEN)?;
        transaction.open_table(QUEUED)?;
        transaction.open_table(RETAINED)?;
        transaction.open_table(GROUP_QUEUED)?;
        create_device_tables(transaction)
    })
}

fn create_device_tables(transaction: &WriteTransaction) -> Result<(), Stop> {
    transaction.open_table(DEVICES)?;
    transaction.open_table(TOKENS)?;
    transaction.open_table(DEVICE_SUBSCRIPTIONS)?;
    Ok(())
}

/// Brings a file of an older format up to this one: format 2 has three tables more.
pub(crate) fn upgrade(database: &Database) -> Result<(), Stop> {
    if read_format(&database.begin_read()?)? == FORMAT {
        return Ok(());
    }
    write_transaction(database, Durability::Immediate, true, |transaction| {
        create_device_tables(transaction)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT.to_be_bytes().as_slice())?;
        Ok(())
    })
}

/// All that `write` does, or nothing.
pub(crate) fn write_transaction(
    database: &Database,
    durability: Durability,
    quick_repair: bool,
    write: impl FnOnce(&WriteTransaction) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(durability)?;
    transaction.set_quick_repair(quick_repair);
    match write(&transaction) {
        Ok(()) => Ok(transaction.commit()?),
        Err(stop) => {
            // What made it stop says more than a failure to undo it; the watch has both.
            let _ = transaction.abort();
            Err(stop)
        }
    }
}

/// To whom the file belongs.
pub(crate) fn read_header(transaction: &ReadTransaction) -> Result<FileHeader, Stop> {
    read_format(transaction)?;
    let meta = transaction.open_table(META)?;
    let Some(header) = meta.get(META_HEADER)? else {
        return Err(bad_meta("it does not say whose it is"));
    };
    FileHeader::decode(header.value()).map_err(|error| Stop::BadRecord("meta".to_owned(), error))
}

/// One that this program knows.
fn read_format(transaction: &ReadTransaction) -> Result<u32, Stop> {
    let meta = transaction.open_table(META)?;
    let Some(format) = meta.get(META_FORMAT)? else {
        return Err(bad_meta("it does not say its format"));
    };
    match <[u8; 4]>::try_from(format.value()).map(u32::from_be_bytes) {
        Ok(format) if (FORMAT_MIN..=FORMAT).contains(&format) => Ok(format),
        Ok(format) if format > FORMAT => Err(Stop::NewerFormat(format)),
        _ => Err(bad_meta("its format is unknown")),
    }
}

/// When the last commit was made.
pub(crate) fn read_alive(transaction: &ReadTransaction) -> Result<Option<Time>, Stop> {
    let meta = transaction.open_table(META)?;
    let Some(alive) = meta.get(META_ALIVE)? else {
        return Ok(None);
    };
    match <[u8; 8]>::try_from(alive.value()) {
        Ok(bytes) => Ok(Some(Time(u64::from_be_bytes(bytes)))),
        Err(_) => Err(bad_meta("the time of the last commit is no time")),
    }
}

fn bad_meta(what: &'static str) -> Stop {
    Stop::BadRecord("meta".to_owned(), BadRecord(what))
}

/// Says what an error of a file means.
pub(crate) fn error_of(name: &str, failure: Option<Failure>, stop: Stop) -> StoreError {
    let file = name.to_owned();
    match (failure, stop) {
        (_, Stop::Refused(reason)) => StoreError::Refused { file, reason },
        (_, Stop::NewerFormat(format)) => StoreError::NewerFormat { file, format },
        (Some(failure), _) if failure.may_pass() => StoreError::Full {
            file,
            reason: failure.to_string(),
        },
        (Some(failure), _) if failure.is_truncated() => StoreError::Damaged {
            file,
            found: "it is shorter than it says".to_owned(),
        },
        (Some(failure), _) => StoreError::Io {
            file,
            reason: failure.to_string(),
        },
        (None, Stop::BadRecord(table, error)) => StoreError::Damaged {
            file,
            found: format!("a row of the table `{table}` is no record: {error}"),
        },
        (None, Stop::Redb(error)) => error_of_redb(file, *error),
    }
}

fn error_of_redb(file: String, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            StoreError::Busy { file }
        }
        redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => StoreError::Damaged {
            file,
            found: error.to_string(),
        },
        redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => StoreError::Damaged {
            file,
            found: error.to_string(),
        },
        error => StoreError::Io {
            file,
            reason: error.to_string(),
        },
    }
}

/// Says what an error of the file system means.
pub(crate) fn io_error(name: &str, error: &io::Error) -> StoreError {
    let file = name.to_owned();
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::NotFound => StoreError::Missing { file },
        _ if is_full(error) => StoreError::Full { file, reason },
        _ => StoreError::Io { file, reason },
    }
}

fn damaged(name: &str, found: &str) -> StoreError {
    StoreError::Damaged {
        file: name.to_owned(),
        found: found.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use redb::TableHandle;
    use std::path::Path;

    /// A file as the first version has made it.
    fn old_file(path: &Path) {
        let header = FileHeader {
            directory: 7,
            generation: 1,
            shard: 0,
            shards: 1,
            placement_seed: 9,
            created: Time(11),
        };
        Store::create(path, &header).unwrap().close().unwrap();
        let database = Database::open(path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_table(DEVICES).unwrap();
        transaction.delete_table(TOKENS).unwrap();
        transaction.delete_table(DEVICE_SUBSCRIPTIONS).unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert(META_FORMAT, 1_u32.to_be_bytes().as_slice())
            .unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn a_file_of_the_first_format_gets_the_tables_that_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.redb");
        old_file(&path);
        // Reading without changing, as `check` does, goes as well.
        let before = std::fs::read(&path).unwrap();
        let untouched = crate::check::open_untouched(&crate::SystemFiles, &path).unwrap();
        assert_eq!(untouched.read(crate::load::count).unwrap(), 0);
        drop(untouched);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.read(crate::load::count).unwrap(), 0);
        store.close().unwrap();
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_read().unwrap();
        assert_eq!(read_format(&transaction).unwrap(), FORMAT);
        let tables = transaction.list_tables().unwrap();
        let names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        for table in ["devices", "tokens", "device_subscriptions"] {
            assert!(names.iter().any(|name| name == table), "{names:?}");
        }
    }
}
