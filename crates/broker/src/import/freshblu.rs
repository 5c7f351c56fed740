//! The SQLite file of a FreshBlu server, read only and as it is at one moment.
//!
//! Three tables: `devices` (uuid, and the document as JSON), `tokens` (bcrypt hashes), and
//! `subscriptions` of one device to another.

use crate::data::now;
use anyhow::{Context, bail};
use meshblu::{Device, Kind, Registration, StoredSecret, TAG_BYTES_MAX, Timestamp, Token, Uuid};
use rusqlite::{Connection, OpenFlags, Row, Statement};
use sha2::{Digest, Sha256};
use shard::{Change, DeviceId, DeviceSubscription};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Tables that must be there, and what is read of them.
const TABLES: [(&str, &str); 3] = [
    ("devices", "uuid, data"),
    (
        "tokens",
        "id, device_uuid, hash, created_at, expires_on, tag",
    ),
    (
        "subscriptions",
        "emitter_uuid, subscriber_uuid, subscription_type",
    ),
];

/// An open file.
pub struct Freshblu {
    connection: Connection,
    now: Timestamp,
}

/// What belongs to one device.
pub struct Brought {
    /// Which.
    pub device: DeviceId,
    /// What is to be kept.
    pub changes: Vec<Change>,
    /// How many tokens are among it.
    pub tokens: u64,
    /// How many are not, since they are expired.
    pub expired: u64,
    /// How many subscriptions to the device.
    pub subscriptions: u64,
    /// What could not be brought, and why.
    pub left: Vec<String>,
}

/// Hears of each device: how the file spells its UUID, and what belongs to it or why it cannot be
/// brought.
pub type OnDevice<'a> = dyn FnMut(&str, Result<Brought, String>) -> anyhow::Result<()> + 'a;

impl Freshblu {
    /// Opens the file; nobody changes what this reads from now on.
    pub fn open(file: &Path) -> anyhow::Result<Freshblu> {
        let path = path_of(file)?;
        let name = path.display().to_string();
        if !path.is_file() {
            bail!("{name} is no file");
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).with_context(|| cannot_read(&name))?;
        connection
            .execute_batch("BEGIN")
            .with_context(|| cannot_read(&name))?;
        for (table, columns) in TABLES {
            connection
                .prepare(&format!("SELECT {columns} FROM {table} LIMIT 1"))
                .and_then(|mut statement| statement.query([])?.next().map(drop))
                .with_context(|| {
                    format!("{name} is no file of FreshBlu: it needs a table {table} ({columns})")
                })?;
        }
        Ok(Freshblu {
            connection,
            now: Timestamp(now().0),
        })
    }

    /// How many devices there are.
    pub fn count(&self) -> anyhow::Result<u64> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM devices", [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Gives all devices, one after the other.
    pub fn for_each(&self, on_device: &mut OnDevice<'_>) -> anyhow::Result<()> {
        let mut devices = self.connection.prepare("SELECT uuid, data FROM devices")?;
        // The first token of a device is the one that it was registered with.
        let mut tokens = self.connection.prepare(
            "SELECT hash, created_at, expires_on, tag FROM tokens WHERE device_uuid = ?1 \
             ORDER BY id",
        )?;
        let mut subscriptions = self.connection.prepare(
            "SELECT subscriber_uuid, subscription_type FROM subscriptions WHERE emitter_uuid = ?1",
        )?;
        let mut rows = devices.query([])?;
        while let Some(row) = rows.next()? {
            let (text, data) = (text(row, 0), text(row, 1));
            let found = match self.device(&text, &data) {
                Err(why) => Err(why),
                Ok(mut brought) => {
                    self.add_tokens(&mut tokens, &text, &mut brought)?;
                    add_subscriptions(&mut subscriptions, &text, &mut brought)?;
                    Ok(brought)
                }
            };
            on_device(&text, found)?;
        }
        Ok(())
    }

    fn device(&self, text: &str, data: &str) -> Result<Brought, String> {
        let device = Uuid::parse(text).ok_or("its UUID is none")?;
        let document = Device::import(data.as_bytes(), device, self.now, &Registration::default())
            .map_err(|refusal| refusal.to_string())?;
        Ok(Brought {
            device,
            changes: vec![Change::PutDevice {
                device,
                record: document.to_record().into(),
            }],
            tokens: 0,
            expired: 0,
            subscriptions: 0,
            left: Vec::new(),
        })
    }

    fn add_tokens(
        &self,
        tokens: &mut Statement<'_>,
        device: &str,
        brought: &mut Brought,
    ) -> anyhow::Result<()> {
        let mut has_root = false;
        let mut rows = tokens.query([device])?;
        while let Some(row) = rows.next()? {
            let mut token = match self.token(row) {
                Ok(token) => token,
                Err(why) => {
                    brought.left.push(why);
                    continue;
                }
            };
            if token.is_expired(self.now) {
                brought.expired += 1;
                continue;
            }
            token.is_root = !has_root && token.expires_s.is_none() && token.tag.is_none();
            has_root |= token.is_root;
            brought.tokens += 1;
            brought.changes.push(Change::PutToken {
                device: brought.device,
                token: token.id,
                record: token.to_record().into(),
            });
        }
        Ok(())
    }

    fn token(&self, row: &Row<'_>) -> Result<Token, String> {
        let hash = text(row, 0);
        if bcrypt::HashParts::from_str(&hash).is_err() {
            return Err("a token whose hash is not bcrypt's".to_owned());
        }
        let expires_s: Option<i64> = row
            .get(2)
            .map_err(|_| "a token whose expires_on is no number")?;
        let tag = (row
            .get_ref(3)
            .is_ok_and(|tag| tag != rusqlite::types::ValueRef::Null))
        .then(|| text(row, 3));
        if tag.as_ref().is_some_and(|tag| tag.len() > TAG_BYTES_MAX) {
            return Err(format!("a token with a tag above {TAG_BYTES_MAX} bytes"));
        }
        Ok(Token {
            id: number_of(&hash),
            secret: StoredSecret::Bcrypt(hash.into()),
            created: Timestamp::parse(&text(row, 1)).unwrap_or(self.now),
            expires_s,
            tag: tag.map(Into::into),
            is_root: false,
        })
    }
}

/// The same for the same hash, so that an import can be repeated; no two hashes are the same, since
/// each has its salt.
fn number_of(hash: &str) -> u64 {
    let digest = Sha256::digest(hash.as_bytes());
    let (first, _) = digest.split_first_chunk::<8>().expect("it has 32 bytes");
    u64::from_be_bytes(*first)
}

fn add_subscriptions(
    subscriptions: &mut Statement<'_>,
    device: &str,
    brought: &mut Brought,
) -> anyhow::Result<()> {
    let mut rows = subscriptions.query([device])?;
    while let Some(row) = rows.next()? {
        let (subscriber, kind) = (text(row, 0), text(row, 1));
        let (Some(subscriber), Some(kind)) = (Uuid::parse(&subscriber), Kind::parse(&kind)) else {
            let what = format!("the subscription {kind:?} of {subscriber:?}");
            brought.left.push(what);
            continue;
        };
        brought.subscriptions += 1;
        let subscription = DeviceSubscription {
            emitter: brought.device,
            subscriber,
            kind: kind.as_u8(),
        };
        brought
            .changes
            .push(Change::PutDeviceSubscription(subscription));
    }
    Ok(())
}

/// A column as text, whatever SQLite has put there; what is no UTF-8 is replaced.
fn text(row: &Row<'_>, column: usize) -> String {
    match row.get_ref(column).map(|value| value.as_bytes_or_null()) {
        Ok(Ok(Some(bytes))) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    }
}

/// The path, also if it is written as in DATABASE_URL.
fn path_of(file: &Path) -> anyhow::Result<PathBuf> {
    let Some(url) = file.to_str() else {
        return Ok(file.to_owned());
    };
    if url.starts_with("postgres") && url.contains("://") {
        bail!("only SQLite files can be read, and this is the address of a PostgreSQL server");
    }
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path
        .strip_prefix("//")
        .filter(|_| path != url)
        .unwrap_or(path);
    let path = path
        .split('?')
        .next()
        .filter(|_| path != url)
        .unwrap_or(path);
    Ok(PathBuf::from(path))
}

fn cannot_read(name: &str) -> String {
    format!(
        "cannot read {name}: if a FreshBlu server was killed while it wrote, start and stop it \
         once, so that SQLite can put the file in order"
    )
}
