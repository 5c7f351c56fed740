//! An operator who asks shards while all goes on, and holds their answers to what the shards count and
//! to what clients know of themselves.
//!
//! Always: a question that only looks is answered at once, and changes nothing; a page has no more rows
//! than were asked for, and a list ends; what is in it is there once; sums of lists are what is
//! counted. The operator draws from a chance of its own, so that it does not move anybody else's.

use crate::chance::Chance;
use crate::client::{Client, State};
use crate::world::World;
use anyhow::{Result, bail, ensure};
use shard::ShardId;
use shard::console::{
    ClientFilter, ClientRow, Overview, Place, Question, Report, Rows, Subject, SubscriptionFilter,
    SubscriptionRow,
};
use std::collections::{BTreeMap, BTreeSet};

/// One step in so many has a look.
const STEPS: u64 = 400;
/// Pages of a list that the operator reads: no shard here has as much.
const PAGES_MAX: u32 = 100_000;
/// Clients of a shard that are looked at one by one.
const DETAILS_MAX: usize = 3;

/// An operator.
#[derive(Debug)]
pub struct Operator {
    chance: Chance,
    looks: u64,
}

impl Operator {
    /// Of a run with this seed.
    pub fn new(seed: u64) -> Operator {
        Operator {
            chance: Chance::new(!seed),
            looks: 0,
        }
    }

    /// Now and then has a look at a shard that runs, recovering or not.
    pub fn act(&mut self, world: &mut World) -> Result<()> {
        if !world.has_process() || !self.chance.one_in(STEPS) {
            return Ok(());
        }
        let shards: Vec<u16> = (0..world.plan.shards).collect();
        let shard = ShardId(self.chance.pick(&shards));
        self.look(world, shard).map(drop)
    }

    /// Everything is at rest: those who are connected are those who know that they are.
    pub fn check_rest(&mut self, world: &mut World, clients: &[Client]) -> Result<()> {
        if !world.is_up() {
            return Ok(());
        }
        let mut connected = BTreeSet::new();
        for shard in (0..world.plan.shards).map(ShardId) {
            for row in self.look(world, shard)? {
                if row.connection.is_some() {
                    let is_new = connected.insert(row.client_id.clone());
                    ensure!(is_new, "{:?} is connected twice", row.client_id);
                }
            }
        }
        for client in clients {
            let id = client.character.client_id.as_str();
            // To one without a name the broker gives one.
            if !id.is_empty() {
                let is_listed = connected.contains(id);
                let is_online = client.state == State::Online;
                ensure!(
                    is_listed == is_online,
                    "client {} {id:?}: online {is_online}, and listed as connected {is_listed}",
                    client.index
                );
            }
        }
        Ok(())
    }

    /// Asks a shard for everything that can be looked at; returns its clients.
    fn look(&mut self, world: &mut World, shard: ShardId) -> Result<Vec<ClientRow>> {
        self.looks += 1;
        let overview = match world.ask(shard, Question::Overview)? {
            Report::Overview(overview) => overview,
            other => bail!("no overview: {other:?}"),
        };
        let clients = self.clients(world, shard, &overview)?;
        self.subscriptions(world, shard, &clients)?;
        self.retained(world, shard)?;
        for row in clients.iter().take(DETAILS_MAX) {
            self.detail(world, shard, row)?;
        }
        self.explain(world, shard, &clients)?;
        self.trace(world, shard)?;
        match world.ask(shard, Question::Talkers)? {
            Report::Talkers(_) => Ok(clients),
            other => bail!("no talkers: {other:?}"),
        }
    }

    fn limit(&mut self) -> u32 {
        self.chance.pick(&[1, 2, 7, 1_000, u32::MAX])
    }

    /// Reads a list to its end, by pages of some size.
    fn walk<T, C: Clone>(
        &mut self,
        world: &mut World,
        shard: ShardId,
        ask: impl Fn(Option<C>, u32) -> Question,
        page: impl Fn(Report) -> Option<Rows<T, C>>,
    ) -> Result<Vec<T>> {
        let limit = self.limit();
        let (mut all, mut from) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let report = world.ask(shard, ask(from.clone(), limit))?;
            let Some(rows) = page(report) else {
                bail!("another report than was asked for");
            };
            ensure!(
                rows.rows.len() as u64 <= u64::from(limit),
                "a page too long"
            );
            all.extend(rows.rows);
            match rows.next {
                Some(next) => from = Some(next),
                None => return Ok(all),
            }
        }
        bail!("a list without an end")
    }

    fn clients(
        &mut self,
        world: &mut World,
        shard: ShardId,
        overview: &Overview,
    ) -> Result<Vec<ClientRow>> {
        let ask = |from: Option<u32>, limit| Question::Clients {
            from: from.unwrap_or(0),
            limit,
            filter: ClientFilter::default(),
        };
        let clients = self.walk(world, shard, ask, |report| match report {
            Report::Clients(rows) => Some(rows),
            _ => None,
        })?;
        let ids: BTreeSet<&str> = clients.iter().map(|row| &*row.client_id).collect();
        ensure!(ids.len() == clients.len(), "a client is listed twice");
        let connected = clients.iter().filter(|row| row.connection.is_some());
        let (listed, counted) = (
            connected.count() as u64,
            overview.counters.clients_connected,
        );
        ensure!(
            listed == counted,
            "{listed} clients listed, {counted} counted"
        );
        Ok(clients)
    }

    fn subscriptions(
        &mut self,
        world: &mut World,
        shard: ShardId,
        clients: &[ClientRow],
    ) -> Result<()> {
        let ask = |from: Option<Place>, limit| Question::Subscriptions {
            from: from.unwrap_or_default(),
            limit,
            filter: SubscriptionFilter::default(),
        };
        let rows: Vec<SubscriptionRow> = self.walk(world, shard, ask, |report| match report {
            Report::Subscriptions(rows) => Some(rows),
            _ => None,
        })?;
        let mut of: BTreeMap<&str, BTreeSet<(Option<&str>, &str)>> = BTreeMap::new();
        for row in &rows {
            let filters = of.entry(&row.client_id).or_default();
            let is_new = filters.insert((row.share.as_deref(), &row.filter));
            ensure!(is_new, "{row:?} is listed twice while nothing changes");
        }
        for client in clients {
            let listed = of.get(&*client.client_id).map_or(0, BTreeSet::len);
            let counted = client.subscriptions as usize;
            ensure!(
                listed == counted,
                "{:?} has {counted} subscriptions, {listed} listed",
                client.client_id
            );
        }
        Ok(())
    }

    fn retained(&mut self, world: &mut World, shard: ShardId) -> Result<()> {
        let ask = |after: Option<Box<str>>, limit| Question::Retained {
            filter: "#".into(),
            after,
            limit,
        };
        let rows = self.walk(world, shard, ask, |report| match report {
            Report::Retained(rows) => Some(rows),
            _ => None,
        })?;
        // Level by level: a blank sorts before the separator, but behind an empty level.
        let is_sorted = rows.is_sorted_by(|one, two| one.topic.split('/').lt(two.topic.split('/')));
        ensure!(is_sorted, "retained messages are not in order");
        if let Some(row) = rows.first() {
            let topic = row.topic.clone();
            match world.ask(shard, Question::RetainedMessage { topic })? {
                Report::RetainedMessage(Some(_)) => {}
                other => bail!("{:?} is listed and not there: {other:?}", row.topic),
            }
        }
        Ok(())
    }

    fn detail(&mut self, world: &mut World, shard: ShardId, row: &ClientRow) -> Result<()> {
        let client_id = row.client_id.clone();
        match world.ask(shard, Question::Client { client_id })? {
            Report::Client(Some(detail)) => {
                ensure!(
                    detail.row == *row,
                    "{row:?} in a list, and {:?}",
                    detail.row
                );
                Ok(())
            }
            other => bail!("{row:?} is listed and not there: {other:?}"),
        }
    }

    fn explain(&mut self, world: &mut World, shard: ShardId, clients: &[ClientRow]) -> Result<()> {
        let topic: Box<str> = self.chance.pick(&["a", "a/b", "$SYS/x", "x/y/z"]).into();
        let Some(client) = clients.last() else {
            return Ok(());
        };
        let (client_id, topic_again) = (client.client_id.clone(), topic.clone());
        let publisher = Question::ExplainPublisher {
            client_id: client_id.clone(),
            topic,
        };
        match world.ask(shard, publisher)? {
            Report::Publisher(Some(view)) => ensure!(
                view.leave.is_some() == client.connection.is_some(),
                "{view:?} of {client:?}"
            ),
            other => bail!("{client:?} cannot be explained: {other:?}"),
        }
        let subscriber = Question::ExplainSubscriber {
            client_id,
            topic: topic_again,
        };
        match world.ask(shard, subscriber)? {
            Report::Subscriber(Some(view)) => {
                let [have, told] = [client.subscriptions as usize, view.matches.len()];
                ensure!(told <= have, "{told} of {have} subscriptions match");
                Ok(())
            }
            other => bail!("{client:?} cannot be explained: {other:?}"),
        }
    }

    /// Looks at what happens to some packets until the next look.
    fn trace(&mut self, world: &mut World, shard: ShardId) -> Result<()> {
        let number = self.looks;
        let begin = Question::BeginTrace {
            number,
            subject: Subject::Topic("#".into()),
        };
        match world.ask(shard, begin)? {
            Report::Done => {}
            other => bail!("no trace: {other:?}"),
        }
        match world.ask(shard, Question::ReadTrace { number })? {
            Report::Trail(Some(_)) => {}
            other => bail!("no trail: {other:?}"),
        }
        match world.ask(shard, Question::EndTrace { number })? {
            Report::Done => Ok(()),
            other => bail!("a trace does not end: {other:?}"),
        }
    }
}
