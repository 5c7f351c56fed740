//! `meshring serve`: from the command line to a running server, and from a signal to its end.

use crate::admin::console::Consoles;
use crate::admin::{Admin, Doors, Facts};
use crate::config::{Loaded, Sources};
use crate::data::Data;
use crate::durability::Mode;
use crate::helpers::Pool;
use crate::helpers::signature::Signer;
use crate::progress::Progress;
use crate::reload::{Listeners, Reloader, Reloads};
use crate::supervise::activation::{Activation, Placed, Wanted};
use crate::supervise::watchdog::Watchdog;
use crate::telemetry::{CONTROL, FLUSH_MAX};
use crate::{cpus, descriptors, failure, supervise, telemetry};
use anyhow::Context;
use net::{Made, Passed, Server, ServerConfig, Stopper, Tuning};
use shard::{Anonymous, Listener, MeshConfig, Shard, ShardId};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{Span, field, info, info_span, warn};

/// Files take milliseconds to close, unless the disk is slow or full.
const FILES_CLOSE_MAX: Duration = Duration::from_secs(45);

/// A broker that has started.
struct Running {
    server: Server,
    admin: Arc<Admin>,
    data: Option<Arc<Data>>,
    helpers: Arc<Pool>,
    watchdog: Option<Watchdog>,
}

/// Runs the broker until it is told to stop. Errs if it cannot start, or when a shard fails.
pub fn run(loaded: Loaded, sources: Sources, activation: Activation) -> anyhow::Result<()> {
    let span = info_span!(
        target: CONTROL,
        "start",
        shards = field::Empty,
        driver = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    let running = telemetry::within(&span, || start(loaded, sources, activation))?;
    // It has ended.
    drop(span);
    let result = running.server.join();
    running.admin.stopping();
    drop(running.watchdog);
    running.admin.remove_sockets();
    tidy_up(running.data.as_deref(), &running.helpers);
    telemetry::stop_ends();
    result.context("stopped by a failure")?;
    info!("stopped");
    Ok(())
}

/// Starts all that there is.
fn start(loaded: Loaded, sources: Sources, activation: Activation) -> anyhow::Result<Running> {
    let version = env!("MESHRING_VERSION");
    info!(version, "starting");
    descriptors::raise_limit();
    let usable = cpus::usable();
    let mut placed = activation.place(wanted(&loaded))?;
    let doors = doors(&loaded, &mut placed);
    let rules = loaded.config.webhook_rules();
    let rules = rules.map_err(|(_, why)| anyhow::anyhow!(why))?;
    let config = configure(&loaded, &usable, placed, rules.signer.as_deref())?;
    let stop_max = stop_max(&config.tuning);
    say_what_may_surprise(&loaded);

    // Before anything runs, so that a signal during start is neither lost nor fatal.
    let stopper = Arc::new(OnceLock::new());
    let (reloads, to_reload) = Reloads::new();
    start_watching(&stopper, stop_max, &reloads)?;

    let cpus = cpus::ranges(&config.cpus);
    let shards = config.shards;
    let spare = cpus::spare(&usable, &config.cpus);
    telemetry::run_on(&spare);
    let helpers = Pool::start(&spare, rules.clone())?;
    let consoles = Consoles::new(shards);
    let admin = Admin::start(doors, Arc::clone(&consoles), reloads, &spare)?;
    let admin = Arc::new(admin);
    let (passed, asked) = (config.passed.len(), config.further.clone());
    let (consoles_to_tell, spare_to_reload) = (Arc::clone(&consoles), spare.clone());
    let (server, data) = match loaded.config.durability.mode {
        Mode::Memory => {
            info!("--durability memory: a stop forgets everything");
            let server = start_in_memory(config, &loaded, &helpers, consoles)?;
            (server, None)
        }
        Mode::Commit | Mode::Interval => {
            let parts = (Arc::clone(&helpers), consoles);
            let (server, data) = start_with_data(config, &loaded, spare, parts, &admin)?;
            (server, Some(data))
        }
    };
    // Set here alone.
    let _ = stopper.set(server.stopper());
    if let Some(data) = &data {
        data.start_control();
    }
    info!(driver = server.driver(), shards, cpus, "running");
    admin.ready(Facts {
        driver: server.driver(),
        helpers: Arc::clone(&helpers),
        stores: data.as_ref().map_or_else(Vec::new, |data| data.workers()),
    });
    if let Err(error) = announce(&server, &admin.addresses()) {
        warn!(%error, "cannot write to stdout which addresses were bound");
    }
    supervise::ready(&status(&server, shards));
    let reloader = Reloader {
        sources,
        loaded,
        listeners: Listeners::new(server.doors(), passed, &asked),
        doors: server.doors(),
        admin: Arc::clone(&admin),
        consoles: consoles_to_tell,
        helpers: Arc::clone(&helpers),
        rules,
        is_unsure: false,
    };
    reloader.start(to_reload, &spare_to_reload)?;
    let watchdog = Watchdog::start(server.pulse()).context("no thread for the watchdog")?;
    Span::current().record("shards", i64::from(shards));
    Span::current().record("driver", server.driver());
    Ok(Running {
        server,
        admin,
        data,
        helpers,
        watchdog,
    })
}

/// Nobody is answered any more; says what helpers have done.
fn tidy_up(data: Option<&Data>, helpers: &Pool) {
    if let Some(data) = data {
        data.stop_control();
    }
    helpers.log();
}

/// Starts shards that keep nothing.
fn start_in_memory(
    config: ServerConfig,
    loaded: &Loaded,
    helpers: &Arc<Pool>,
    consoles: Arc<Consoles>,
) -> anyhow::Result<Server> {
    let (template, helpers) = (config.clone(), Arc::clone(helpers));
    net::start_stored(config, move |place| {
        let mut shard = Shard::new(template.of_shard(place.shard), place.now);
        shard.begin(place.now);
        let waker = place.waker.clone();
        Ok(Made {
            handler: shard,
            store: None,
            console: Some(consoles.of_shard(&place.waker)),
            helpers: Some(helpers.helpers_of(move || waker.wake())),
        })
    })
    .map_err(|error| failure::explain(error, loaded))
}

/// Starts shards that recover from their files.
fn start_with_data(
    mut config: ServerConfig,
    loaded: &Loaded,
    spare: Vec<usize>,
    (helpers, consoles): (Arc<Pool>, Arc<Consoles>),
    admin: &Admin,
) -> anyhow::Result<(Server, Arc<Data>)> {
    let path = &loaded.config.general.data;
    let mut data = Data::open(path, &config, spare, (helpers, consoles))?;
    admin.listen_in(path);
    config.shard.mesh.pepper = data.pepper(loaded.config.pepper())?.0;
    let data = Arc::new(data);
    config.shard.placement_seed = data.placement_seed();
    let progress = Progress::watch("recovering", data.recovered());
    let shards_data = Arc::clone(&data);
    let template = config.clone();
    let server = net::start_stored(config, move |place| shards_data.recover(&template, &place))
        .map_err(|error| failure::explain(error, loaded))?;
    drop(progress);
    info!(data = %path.display(), records = data.recovered().now(), "all shards are ready");
    Ok((server, data))
}

/// Where to listen, if nothing was passed.
fn wanted(loaded: &Loaded) -> Wanted {
    let (mqtt, http) = (&loaded.config.mqtt.listen, &loaded.config.http.listen);
    Wanted {
        mqtt: mqtt.clone(),
        is_mqtt_default: loaded.is_default("mqtt.listen"),
        http: http.iter().map(|listener| listener.address).collect(),
        is_http_default: loaded.is_default("http.listen"),
        admin: loaded.config.admin.listen.clone(),
    }
}

/// Where operators come in.
fn doors(loaded: &Loaded, placed: &mut Placed) -> Doors {
    Doors {
        addresses: std::mem::take(&mut placed.admin),
        tcp: std::mem::take(&mut placed.admin_tcp),
        unix: std::mem::take(&mut placed.admin_unix),
        ..loaded.config.admin_doors()
    }
}

/// The listeners that were not passed.
fn left_to_open(
    mut listeners: Vec<(Listener, SocketAddr)>,
    placed: &Placed,
) -> Vec<(Listener, SocketAddr)> {
    listeners.retain(|(kind, address)| match kind {
        Listener::Mqtt => placed.mqtt.contains(address),
        Listener::Http | Listener::HttpAs(_) => placed.http.contains(address),
    });
    listeners
}

/// Sockets that were passed, with the dialects that the configuration has for their addresses.
fn in_dialect(mut passed: Vec<Passed>, loaded: &Loaded) -> Vec<Passed> {
    let listeners = loaded.config.listeners();
    for socket in &mut passed {
        let address = socket.socket.local_addr().ok();
        let configured = listeners
            .iter()
            .find(|(_, listened)| Some(*listened) == address);
        if let (Listener::Http, Some((kind @ Listener::HttpAs(_), _))) = (socket.kind, configured) {
            socket.kind = *kind;
        }
    }
    passed
}

/// What a service manager shows of a broker that runs.
fn status(server: &Server, shards: u16) -> String {
    let plural = if shards == 1 { "" } else { "s" };
    format!("running: {shards} shard{plural}, {}", server.driver())
}

/// How long a graceful stop takes at most: what the driver allows connections, and time for the
/// files to be written and closed, and for the last traces.
fn stop_max(tuning: &Tuning) -> Duration {
    Duration::from_millis(u64::from(tuning.stop_ms)) + FILES_CLOSE_MAX + FLUSH_MAX
}

/// The server's configuration: checked, with nothing left to default.
fn configure(
    loaded: &Loaded,
    usable: &[usize],
    placed: Placed,
    signer: Option<&Signer>,
) -> anyhow::Result<ServerConfig> {
    let config = &loaded.config;
    let cpus = cpus::place(config.shards(), config.cpus(), usable)?;
    if let Some(shared) = (1..cpus.len()).find(|&shard| cpus[..shard].contains(&cpus[shard])) {
        warn!(
            shards = cpus.len(),
            cpu = cpus[shared],
            "more shards than CPUs: some share one"
        );
    }
    let shards = u16::try_from(cpus.len()).expect("at most SHARDS_MAX shards are placed");
    let shard = shard::Config {
        // The driver numbers the shards.
        shard: ShardId(0),
        shards,
        seed: seed()?,
        // A directory that exists has one of its own.
        placement_seed: seed()?,
        durability: config.durability(),
        mesh: MeshConfig {
            // A directory that exists has one of its own.
            pepper: match config.pepper() {
                Some(pepper) => pepper.0,
                None => secret()?,
            },
            secret_seed: secret()?,
            ..config.mesh(signer)
        },
        anonymous: config.anonymous(),
        limits: config.limits(),
    };
    Ok(ServerConfig {
        shards,
        cpus,
        driver: config.driver(),
        mqtt: Vec::new(),
        http: Vec::new(),
        further: left_to_open(config.listeners(), &placed),
        passed: in_dialect(placed.passed, loaded),
        shard,
        tuning: config.tuning(),
    })
}

/// Bytes that nobody can guess.
pub fn secret() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

/// A number that nobody can guess: all that is random in the broker comes from two of these.
pub fn seed() -> anyhow::Result<u64> {
    getrandom::u64().context("the system gives no random numbers")
}

/// Says what a user might not expect.
fn say_what_may_surprise(loaded: &Loaded) {
    if let Some(file) = &loaded.file {
        info!(file = %file.display(), "configured");
    }
    for warning in &loaded.warnings {
        warn!("{}", warning.to_string().trim_start_matches("warning: "));
    }
    match loaded.config.anonymous() {
        Anonymous::Loopback => info!("MQTT clients on loopback need no credentials"),
        Anonymous::Allow => warn!("--anonymous allow: anybody may be an MQTT client"),
        Anonymous::Deny => {
            info!("only devices may log in; --anonymous or --dev lets other MQTT clients in");
        }
    }
    if loaded.config.may_call_private() {
        warn!("--webhooks-to-private allow: devices may have this machine's network called");
    }
}

/// Says on stdout what was bound, one line per listener: scripts read this.
fn announce(server: &Server, admin: &[SocketAddr]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (listener, address) in server.listeners() {
        let kind = match listener {
            Listener::Mqtt => "mqtt",
            Listener::Http | Listener::HttpAs(_) => "http",
        };
        writeln!(stdout, "{kind} {address}")?;
    }
    for address in admin {
        writeln!(stdout, "admin {address}")?;
    }
    stdout.flush()
}

/// Starts the thread that waits for signals.
fn start_watching(
    stopper: &Arc<OnceLock<Stopper>>,
    stop_max: Duration,
    reloads: &Reloads,
) -> anyhow::Result<()> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot watch for signals")?;
    let (stopper, reloads) = (Arc::clone(stopper), reloads.clone());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || watch(signals, &stopper, stop_max, &reloads))
        .map(drop)
        .context("cannot start the thread that waits for signals")
}

/// Has SIGHUP reload. Turns the first of the others into a graceful stop, and the second into the end. While the broker still
/// starts, the first is the end: nothing is open, and files are whole at any moment.
fn watch(mut signals: Signals, stopper: &OnceLock<Stopper>, stop_max: Duration, reloads: &Reloads) {
    let mut is_stopping = false;
    for signal in signals.forever() {
        if signal == SIGHUP {
            // The log says what came of it.
            reloads.ask("SIGHUP", drop);
            continue;
        }
        let name = if signal == SIGINT {
            "SIGINT"
        } else {
            "SIGTERM"
        };
        let Some(stopper) = stopper.get() else {
            info!(signal = name, "stopped before it was up");
            supervise::stopping("stopped before it was up", Duration::ZERO);
            process::exit(0);
        };
        if is_stopping {
            warn!(signal = name, "exiting at once");
            // What a shell reports for a process that this signal ended.
            process::exit(128 + signal);
        }
        is_stopping = true;
        telemetry::stop_begins(name);
        info!(signal = name, "stopping; a second signal exits at once");
        supervise::stopping("stopping: connections are closed, files written", stop_max);
        stopper.stop();
    }
}
