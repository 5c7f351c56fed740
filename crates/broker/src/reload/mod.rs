//! Reading the configuration again while the broker runs: by SIGHUP, `meshring reload`, or
//! `POST /v1/reload`.
//!
//! Always: what was read is checked as a whole before anything changes, and with an error everything
//! is as it was; connections that are still allowed stay. One thread does it, one reload after the
//! other; at most [`WAITING_MAX`] wait.

mod listeners;
pub mod words;

use crate::admin::console::Consoles;
use crate::admin::{Admin, Change};
use crate::config::{Difference, Loaded, Problem, Sources};
use crate::helpers::signature::Signer;
use crate::helpers::{Pool, Rules};
use crate::telemetry::CONTROL;
use crate::{cpus, logs, supervise, telemetry};
use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
pub use listeners::Listeners;
use listeners::{Opened, Plan};
use net::Doors;
use serde_json::{Value, json};
use shard::console::{Question, Settings};
use std::sync::Arc;
use std::thread::Builder;
use tracing::{Span, error, field, info, info_span, warn};

/// Reloads that may wait for the one that is under way.
const WAITING_MAX: usize = 16;

/// What came of a reload.
pub type Answer = Result<Outcome, Refusal>;

/// Is given the answer; dropped unused if the broker ends before.
type Reply = Box<dyn FnOnce(Answer) + Send>;

/// Somebody wants a reload.
pub struct Request {
    /// By which way, for the log.
    by: &'static str,
    /// In which it is asked for.
    span: Span,
    reply: Reply,
}

/// What a reload has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is different now.
    pub changed: Vec<Difference>,
    /// What would be different after a restart.
    pub needs_restart: Vec<Difference>,
    /// How many keys are as they were.
    pub unchanged: usize,
    /// What may surprise.
    pub warnings: Vec<Problem>,
    /// Where clients and operators can connect now: the kind and the address.
    pub listeners: Vec<(&'static str, String)>,
}

/// Why nothing has changed.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The configuration has errors.
    Wrong(Vec<Problem>),
    /// It cannot be put into force; says why.
    Failed(String),
    /// Too many reloads wait already.
    Busy,
}

impl Outcome {
    /// For programs.
    pub fn to_json(&self) -> Value {
        let list = |differences: &[Difference]| -> Value {
            differences.iter().map(Difference::to_json).collect()
        };
        let listener = |(kind, address): &(&str, String)| json!({"kind": kind, "address": address});
        json!({
            "changed": list(&self.changed),
            "needs_restart": list(&self.needs_restart),
            "unchanged": self.unchanged,
            "warnings": self.warnings.iter().map(Problem::to_string).collect::<Vec<_>>(),
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
        })
    }
}

/// The way to ask for reloads, from any thread; those asked for before the broker is up are done
/// when it is.
#[derive(Clone)]
pub struct Reloads(Sender<Request>);

impl Reloads {
    /// The asking end and the other one.
    pub fn new() -> (Reloads, Receiver<Request>) {
        let (sender, receiver) = bounded(WAITING_MAX);
        (Reloads(sender), receiver)
    }

    /// Asks for one; `reply` is called on the thread that does it.
    pub fn ask(&self, by: &'static str, reply: impl FnOnce(Answer) + Send + 'static) {
        let reply = Box::new(reply);
        if let Err(refused) = self.0.try_send(Request {
            by,
            span: Span::current(),
            reply,
        }) {
            (refused.into_inner().reply)(Err(Refusal::Busy));
        }
    }
}

/// Does reloads.
pub struct Reloader {
    /// Who says what the configuration is.
    pub sources: Sources,
    /// What counts now.
    pub loaded: Loaded,
    /// Where clients connect.
    pub listeners: Listeners,
    /// The way to the driver.
    pub doors: Doors,
    /// Where operators come in.
    pub admin: Arc<Admin>,
    /// The way to the shards.
    pub consoles: Arc<Consoles>,
    /// Who calls webhooks.
    pub helpers: Arc<Pool>,
    /// What counts for them now.
    pub rules: Rules,
    /// Some shards may have the settings of a reload that failed.
    pub is_unsure: bool,
}

impl Reloader {
    /// Starts the thread, on these CPUs. It runs until the process ends.
    pub fn start(mut self, requests: Receiver<Request>, spare: &[usize]) -> anyhow::Result<()> {
        let spare = spare.to_vec();
        let work = move || {
            cpus::run_on(&spare);
            for Request { by, span, reply } in requests {
                info!(by, "reloading the configuration");
                let answer = traced(by, &span, || {
                    supervise::while_reloading(|| (self.reload(), None))
                });
                log(&answer);
                drop(span);
                reply(answer);
            }
        };
        let thread = Builder::new().name("reload".to_owned()).spawn(work);
        thread.map(drop).context("no thread for reloads")
    }

    fn reload(&mut self) -> Answer {
        let read = self.sources.load().map_err(Refusal::Wrong)?;
        let warnings = read.warnings.clone();
        let merged = self.loaded.merge(read);
        let plan = self.listeners.plan(&merged.loaded);
        // What can fail comes first.
        let rules = merged.loaded.config.webhook_rules();
        let rules = rules.map_err(|(_, why)| Refusal::Failed(why))?;
        let (admin, opened) = self.open(&merged.loaded, &plan).map_err(Refusal::Failed)?;
        // The same file may hold another key.
        let is_key_new = rules.signer != self.rules.signer;
        let must_tell = !merged.changed.is_empty() || is_key_new || self.is_unsure;
        if must_tell
            && let Err(unanswered) = self.tell_shards(&merged.loaded, rules.signer.as_deref())
        {
            self.is_unsure = true;
            self.admin.give_up(admin);
            let lost = self.listeners.give_up(opened);
            let text =
                format!("{unanswered}: shards may differ in their settings; try again{lost}");
            return Err(Refusal::Failed(text));
        }
        self.is_unsure = false;
        self.admin.settle(admin);
        self.listeners.settle(plan, opened);
        let (old, new) = (&self.loaded.config, &merged.loaded.config);
        if is_key_new {
            info!("webhooks are signed with another key now, or with none");
        }
        if old.limits.connections_max != new.limits.connections_max {
            self.doors.limit_connections(new.limits.connections_max);
        }
        if rules != self.rules {
            self.helpers.set_rules(rules.clone());
            self.rules = rules;
        }
        if old.general.log != new.general.log
            && let Err(error) = logs::change(&new.general.log.0)
        {
            // The filter was read before, so this is for another reason.
            warn!(
                error = format!("{error:#}"),
                "what is logged stays as it was"
            );
        }
        self.loaded = merged.loaded;
        let admins = self.admin.addresses().into_iter();
        let admins = admins.map(|address| ("admin", address.to_string()));
        Ok(Outcome {
            changed: merged.changed,
            needs_restart: merged.needs_restart,
            unchanged: merged.unchanged,
            warnings,
            listeners: self.listeners.all().into_iter().chain(admins).collect(),
        })
    }

    /// Opens what is to be opened, all or nothing.
    fn open(&mut self, loaded: &Loaded, plan: &Plan) -> Result<(Change, Opened), String> {
        let admin = self.admin.begin_change(&loaded.config.admin_doors())?;
        match self.listeners.open(plan) {
            Ok(opened) => Ok((admin, opened)),
            Err(why) => {
                self.admin.give_up(admin);
                Err(why)
            }
        }
    }

    fn tell_shards(
        &self,
        loaded: &Loaded,
        signer: Option<&Signer>,
    ) -> Result<(), crate::admin::console::Unanswered> {
        let config = &loaded.config;
        let settings = Settings {
            anonymous: config.anonymous(),
            durability: config.durability(),
            mesh: config.mesh(signer),
            limits: config.limits(),
        };
        let question = || Question::Configure(Box::new(settings.clone()));
        self.consoles.ask_all_and_wait(question).map(drop)
    }
}

/// Reloads within a span: values of the configuration stay out of it.
fn traced(by: &'static str, parent: &Span, reload: impl FnOnce() -> Answer) -> Answer {
    let span = info_span!(
        target: CONTROL,
        parent: parent.id(),
        "reload",
        by,
        changed = field::Empty,
        needs_restart = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    let answer = span.in_scope(reload);
    match &answer {
        Ok(outcome) => {
            span.record("changed", outcome.changed.len() as i64);
            span.record("needs_restart", outcome.needs_restart.len() as i64);
        }
        Err(Refusal::Wrong(_)) => telemetry::failed(&span, &"the configuration has errors"),
        Err(Refusal::Failed(why)) => telemetry::failed(&span, why),
        Err(Refusal::Busy) => {}
    }
    answer
}

fn log(answer: &Answer) {
    match answer {
        Ok(outcome) => {
            for Difference { key, old, new } in &outcome.changed {
                info!(%key, %old, %new, "changed");
            }
            for Difference { key, old, new } in &outcome.needs_restart {
                warn!(%key, %old, %new, "needs a restart to change");
            }
            for warning in &outcome.warnings {
                warn!("{}", warning.to_string().trim_start_matches("warning: "));
            }
            info!(
                changed = outcome.changed.len(),
                needs_restart = outcome.needs_restart.len(),
                unchanged = outcome.unchanged,
                "reloaded"
            );
        }
        Err(Refusal::Wrong(problems)) => {
            for problem in problems {
                error!("{problem}");
            }
            error!("not reloaded: everything is as it was");
        }
        Err(Refusal::Failed(why)) => error!(why, "not reloaded"),
        Err(Refusal::Busy) => {}
    }
}
