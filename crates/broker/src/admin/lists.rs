//! A list over all shards, read from one shard after the other.

use super::State;
use super::answers::{Cursor, Failure, limit};
use shard::console::{Question, Report};
use std::future::Future;

/// Questions asked for one request; a list that needs more goes on with its `next`.
const QUESTIONS_MAX: u32 = 64;

/// A page of one shard: its rows, and its words for where to go on.
pub type Page<T> = (Vec<T>, Option<String>);

/// Reads up to a limit of rows. `question` makes the question for a cursor of a shard and so many
/// rows, `page` takes its report apart.
pub async fn read<T>(
    state: &State,
    wanted: Option<u32>,
    after: Option<&str>,
    question: impl Fn(&Cursor, u32) -> Result<Question, Failure>,
    page: impl Fn(Report) -> Result<Page<T>, Failure>,
) -> Result<(Vec<T>, Option<String>), Failure> {
    let limit = limit(wanted)?;
    let mut cursor = Cursor::parse(after)?;
    let shards = state.consoles.shards().len();
    let mut found: Vec<T> = Vec::new();
    for _ in 0..QUESTIONS_MAX {
        if cursor.shard.index() >= shards || found.len() as u32 >= limit {
            break;
        }
        let left = limit - found.len() as u32;
        let question = question(&cursor, left)?;
        let (rows, next) = page(state.consoles.ask(cursor.shard, question).await?)?;
        found.extend(rows);
        match next {
            Some(next) => cursor.rest = next,
            None => cursor.advance(),
        }
    }
    let is_over = cursor.shard.index() >= shards;
    Ok((found, (!is_over).then(|| cursor.to_string())))
}

/// Asks one shard after the other until one has an answer.
pub async fn first<T, F>(
    state: &State,
    ask: impl Fn(shard::ShardId) -> F,
) -> Result<Option<T>, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>>,
{
    for shard in state.consoles.shards() {
        if let Some(found) = ask(shard).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
