//! `meshring serve`: from the command line to a running server, and from a signal to its end.

use crate::admin::console::Consoles;
use crate::admin::{self, Admin, Doors};
use crate::arguments::{Driver, QueueFull, ServeArguments};
use crate::data::Data;
use crate::durability::Mode;
use crate::helpers::Pool;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::supervise::activation::{Activation, Placed, Wanted};
use crate::supervise::watchdog::Watchdog;
use crate::{cpus, descriptors, failure, supervise};
use anyhow::Context;
use net::{DriverChoice, Made, Server, ServerConfig, Stopper, Tuning};
use shard::limits::QueuePolicy;
use shard::{Anonymous, Durability, Limits, Listener, MeshConfig, Shard, ShardId};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::{info, warn};

/// Files take milliseconds to close, unless the disk is slow or full.
const FILES_CLOSE_MAX: Duration = Duration::from_secs(45);

/// Runs the broker until it is told to stop. Errs if it cannot start, or when a shard fails.
pub fn run(
    arguments: ServeArguments,
    durability: Durability,
    settings: Settings,
) -> anyhow::Result<()> {
    // Before there is a second thread.
    let activation = Activation::take()?;
    let arguments = arguments.with_ports(&settings);
    let version = env!("MESHRING_VERSION");
    info!(version, "starting");
    descriptors::raise_limit();
    let usable = cpus::usable();
    let mut placed = activation.place(wanted(&arguments))?;
    let doors = doors(&arguments, &mut placed);
    let config = configure(&arguments, durability, &settings, &usable, placed)?;
    let stop_max = stop_max(&config.tuning);
    say_what_may_surprise(&arguments, &settings);

    // Before anything runs, so that a signal during start is neither lost nor fatal.
    let signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let stopper = Arc::new(OnceLock::new());
    let to_stop = Arc::clone(&stopper);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || watch(signals, &to_stop, stop_max))
        .context("cannot start the thread that waits for signals")?;

    let cpus = cpus::ranges(&config.cpus);
    let shards = config.shards;
    let spare = cpus::spare(&usable, &config.cpus);
    let helpers = Pool::start(&spare, settings.may_call_private)?;
    let consoles = Consoles::new(shards);
    let admin = Admin::start(doors, Arc::clone(&consoles), &spare)?;
    let (server, data) = match arguments.durability {
        Mode::Memory => {
            info!("--durability memory: a stop forgets everything");
            (
                start_in_memory(config, &arguments, &helpers, consoles)?,
                None,
            )
        }
        Mode::Commit | Mode::Interval => {
            let (server, data) = start_with_data(
                config,
                &arguments,
                &settings,
                spare,
                (Arc::clone(&helpers), consoles),
                &admin,
            )?;
            (server, Some(data))
        }
    };
    // Set here alone.
    let _ = stopper.set(server.stopper());
    if let Some(data) = &data {
        data.start_control();
    }
    info!(driver = server.driver(), shards, cpus, "running");
    admin.ready();
    if let Err(error) = announce(&server, admin.addresses()) {
        warn!(%error, "cannot write to stdout which addresses were bound");
    }
    supervise::ready(&status(&server, shards));
    let watchdog = Watchdog::start(server.pulse()).context("no thread for the watchdog")?;
    let result = server.join();
    admin.stopping();
    drop(watchdog);
    if let Some(data) = &data {
        data.stop_control();
        admin::remove_socket(data.path());
    }
    helpers.log();
    result.context("stopped by a failure")?;
    info!("stopped");
    Ok(())
}

/// Starts shards that keep nothing.
fn start_in_memory(
    config: ServerConfig,
    arguments: &ServeArguments,
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
    .map_err(|error| failure::explain(error, arguments))
}

/// Starts shards that recover from their files.
fn start_with_data(
    mut config: ServerConfig,
    arguments: &ServeArguments,
    settings: &Settings,
    spare: Vec<usize>,
    (helpers, consoles): (Arc<Pool>, Arc<Consoles>),
    admin: &Admin,
) -> anyhow::Result<(Server, Arc<Data>)> {
    let path = arguments.data_directory();
    let mut data = Data::open(&path, &config, spare, (helpers, consoles))?;
    admin.listen_in(&path);
    config.shard.mesh.pepper = data.pepper(settings.pepper)?.0;
    let data = Arc::new(data);
    config.shard.placement_seed = data.placement_seed();
    let progress = Progress::watch("recovering", data.recovered());
    let shards_data = Arc::clone(&data);
    let template = config.clone();
    let server = net::start_stored(config, move |place| shards_data.recover(&template, &place))
        .map_err(|error| failure::explain(error, arguments))?;
    drop(progress);
    info!(data = %path.display(), records = data.recovered().now(), "all shards are ready");
    Ok((server, data))
}

/// Where to listen, if nothing was passed.
fn wanted(arguments: &ServeArguments) -> Wanted {
    Wanted {
        mqtt: arguments.mqtt_addresses(),
        is_mqtt_default: arguments.mqtt.is_empty(),
        http: arguments.http_addresses(),
        is_http_default: arguments.http.is_empty(),
        admin: arguments.admin.addresses.clone(),
    }
}

/// Where operators come in.
fn doors(arguments: &ServeArguments, placed: &mut Placed) -> Doors {
    Doors {
        addresses: std::mem::take(&mut placed.admin),
        tcp: std::mem::take(&mut placed.admin_tcp),
        unix: std::mem::take(&mut placed.admin_unix),
        token_file: arguments.admin.token_file.clone(),
    }
}

/// What a service manager shows of a broker that runs.
fn status(server: &Server, shards: u16) -> String {
    let plural = if shards == 1 { "" } else { "s" };
    format!("running: {shards} shard{plural}, {}", server.driver())
}

/// How long a graceful stop takes at most: what the driver allows connections, and time for the
/// files to be written and closed.
fn stop_max(tuning: &Tuning) -> Duration {
    Duration::from_millis(u64::from(tuning.stop_ms)) + FILES_CLOSE_MAX
}

/// The server's configuration: checked, with nothing left to default.
fn configure(
    arguments: &ServeArguments,
    durability: Durability,
    settings: &Settings,
    usable: &[usize],
    placed: Placed,
) -> anyhow::Result<ServerConfig> {
    let cpus = cpus::place(arguments.shards, arguments.cpus.as_ref(), usable)?;
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
        durability,
        mesh: MeshConfig {
            // A directory that exists has one of its own.
            pepper: match settings.pepper {
                Some(pepper) => pepper.0,
                None => secret()?,
            },
            secret_seed: secret()?,
            ..settings.mesh.clone()
        },
        anonymous: settings.anonymous,
        limits: limits(arguments),
    };
    Ok(ServerConfig {
        shards,
        cpus,
        driver: match arguments.driver {
            Driver::Auto => DriverChoice::Auto,
            Driver::IoUring => DriverChoice::IoUring,
            Driver::Epoll => DriverChoice::Epoll,
        },
        mqtt: placed.mqtt,
        http: placed.http,
        passed: placed.passed,
        shard,
        tuning: Tuning {
            gather_us: arguments.gather,
            ..Tuning::default()
        },
    })
}

/// What a shard may hold.
fn limits(arguments: &ServeArguments) -> Limits {
    let defaults = Limits::default();
    let queue_messages_max = arguments.queue_messages as usize;
    let queue_bytes_max = usize::try_from(arguments.queue_bytes).unwrap_or(usize::MAX);
    Limits {
        queue_messages_max,
        queue_bytes_max,
        // Whoever is connected holds up its publishers before its queue is full.
        queue_soft_messages: defaults.queue_soft_messages.min(queue_messages_max / 2),
        queue_soft_bytes: defaults.queue_soft_bytes.min(queue_bytes_max / 2),
        queue_policy: match arguments.queue_full {
            QueueFull::DropOldest => QueuePolicy::DropOldest,
            QueueFull::DropNewest => QueuePolicy::DropNewest,
            QueueFull::Reject => QueuePolicy::Reject,
        },
        ..defaults
    }
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

/// Warns of what a user might not expect.
fn say_what_may_surprise(arguments: &ServeArguments, settings: &Settings) {
    match settings.anonymous {
        Anonymous::Loopback => {
            info!("MQTT clients on loopback need no credentials");
            let addresses = arguments.mqtt_addresses();
            if arguments.dev && addresses.iter().any(|address| !address.ip().is_loopback()) {
                warn!("--dev lets in clients on loopback alone; others need credentials");
            }
        }
        Anonymous::Allow => warn!("--anonymous allow: anybody may be an MQTT client"),
        Anonymous::Deny => {
            info!("only devices may log in; --anonymous or --dev lets other MQTT clients in");
        }
    }
    if settings.is_pepper_public {
        warn!("the pepper is the one of FreshBlu's documents, which everybody can read");
    }
    if settings.may_call_private {
        warn!("--webhooks-to-private allow: devices may have this machine's network called");
    }
    if arguments.durability == Mode::Memory && arguments.data.is_some() {
        warn!("--data is not used with --durability memory");
    }
}

/// Says on stdout what was bound, one line per listener: scripts read this.
fn announce(server: &Server, admin: &[SocketAddr]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (listener, address) in server.listeners() {
        let kind = match listener {
            Listener::Mqtt => "mqtt",
            Listener::Http => "http",
        };
        writeln!(stdout, "{kind} {address}")?;
    }
    for address in admin {
        writeln!(stdout, "admin {address}")?;
    }
    stdout.flush()
}

/// Turns the first signal into a graceful stop, and the second into the end. While the broker still
/// starts, the first is the end: nothing is open, and files are whole at any moment.
fn watch(mut signals: Signals, stopper: &OnceLock<Stopper>, stop_max: Duration) {
    let mut is_stopping = false;
    for signal in signals.forever() {
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
        info!(signal = name, "stopping; a second signal exits at once");
        supervise::stopping("stopping: connections are closed, files written", stop_max);
        stopper.stop();
    }
}
