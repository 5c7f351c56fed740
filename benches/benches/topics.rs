//! Topic matching: the filter tree with few and many filters, with and without wildcards.
//!
//! Each case walks through many topics in an order that no cache can foresee, so that with a
//! large tree the cost is that of memory, as it is for a broker between other work. "miss" means
//! topics nobody subscribed to. Before the timings, the table of bytes per entry: the growth of
//! the resident set while a table fills, divided by its entries.

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shard::Time;
use shard::filter_tree::{FilterId, FilterTree};
use shard::retained::RetainedStore;
use shard::timers::Timers;
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

const SEED: u64 = 0x5eed;
/// Topics that a case cycles through.
const TOPICS: usize = 65_536;

/// A device's own topic, 45 bytes or so.
fn exact_filter(n: usize) -> String {
    format!(
        "{:08x}-0000-4000-8000-{:012x}/state",
        n.wrapping_mul(0x9E37_79B1) as u32,
        n
    )
}

/// One filter for each of a fleet's vehicles and sites, in turn.
fn wild_filter(n: usize) -> String {
    match n % 2 {
        0 => format!("fleet/+/truck{n:06}/#"),
        _ => format!("site/{n}/+/temp"),
    }
}

/// A topic that `wild_filter(n)` alone matches.
fn wild_topic(n: usize) -> String {
    match n % 2 {
        0 => format!("fleet/north/truck{n:06}/engine/temperature"),
        _ => format!("site/{n}/boiler/temp"),
    }
}

/// Numbers below `end` in an order without a pattern, [`TOPICS`] of them.
fn scattered(end: usize) -> impl Iterator<Item = usize> {
    let mut state = SEED;
    (0..TOPICS).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    })
}

/// Topics in one buffer: those a broker matches were just received, so in reading them a cache
/// ought not to miss.
struct Topics {
    text: String,
    ranges: Vec<Range<usize>>,
}

impl FromIterator<String> for Topics {
    fn from_iter<I: IntoIterator<Item = String>>(topics: I) -> Topics {
        let (mut text, mut ranges) = (String::new(), Vec::new());
        for topic in topics {
            ranges.push(text.len()..text.len() + topic.len());
            text.push_str(&topic);
        }
        Topics { text, ranges }
    }
}

impl Topics {
    /// In order, again and again.
    fn iter(&self) -> impl Iterator<Item = &str> {
        self.ranges
            .iter()
            .cycle()
            .map(|range| &self.text[range.clone()])
    }
}

fn tree(count: usize, filter: impl Fn(usize) -> String) -> FilterTree<u64> {
    let mut tree = FilterTree::new(SEED);
    for n in 0..count {
        tree.insert_with(&filter(n), || n as u64);
    }
    tree
}

fn matches(tree: &FilterTree<u64>, topic: &str) -> u64 {
    let mut sum = 0;
    tree.for_each_match(topic, |_, value| sum += value + 1);
    sum
}

/// Measures a match of each topic in turn; every topic must match, or none.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    count: usize,
    tree: &FilterTree<u64>,
    topics: &Topics,
    is_hit: bool,
) {
    let mut all = topics.iter().take(topics.ranges.len());
    assert!(all.all(|topic| (matches(tree, topic) > 0) == is_hit));
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        let mut topics = topics.iter();
        cpu_time(bencher, || {
            matches(tree, black_box(topics.next().expect("a cycle has no end")))
        });
    });
    group.finish();
}

/// Measures the time this thread spends on a core, not what it waits for one: the machine may be
/// busy with other work.
fn cpu_time<T>(bencher: &mut Bencher<'_>, mut work: impl FnMut() -> T) {
    bencher.iter_custom(|count| {
        let before = thread_time();
        for _ in 0..count {
            black_box(work());
        }
        // The kernel counts in steps of a tick: never nothing.
        (thread_time() - before).max(Duration::from_nanos(1))
    });
}

fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse().ok());
    Duration::from_nanos(nanoseconds.expect("Linux tells a thread its time"))
}

fn matching(criterion: &mut Criterion) {
    for count in [10, 1_000, 100_000, 1_000_000] {
        let exact = tree(count, exact_filter);
        let hits: Topics = scattered(count).map(exact_filter).collect();
        let misses: Topics = scattered(count).map(|n| exact_filter(n + count)).collect();
        measure(criterion, "match exact", count, &exact, &hits, true);
        measure(
            criterion,
            "match exact, miss",
            count,
            &exact,
            &misses,
            false,
        );
        drop(exact);
        let wild = tree(count, wild_filter);
        let hits: Topics = scattered(count).map(wild_topic).collect();
        let misses: Topics = scattered(count).map(|n| wild_topic(n + count)).collect();
        measure(criterion, "match wildcard", count, &wild, &hits, true);
        measure(
            criterion,
            "match wildcard, miss",
            count,
            &wild,
            &misses,
            false,
        );
    }
    hostile(criterion);
}

/// Many filters that share every prefix of a topic and match none of its ends.
fn hostile(criterion: &mut Criterion) {
    let filter = |n: usize| {
        let levels = (0..13).map(|bit| if n >> bit & 1 == 1 { "a" } else { "+" });
        levels.chain(["end"]).collect::<Vec<_>>().join("/")
    };
    let tree = tree(1 << 13, filter);
    let topics = Topics::from_iter([["a"; 14].join("/")]);
    measure(criterion, "match hostile", 1 << 13, &tree, &topics, false);
}

fn changing(criterion: &mut Criterion) {
    let filters: Vec<_> = (0..100_000).map(wild_filter).collect();
    let mut group = criterion.benchmark_group("insert and remove 100000 wildcard filters");
    group.sample_size(10);
    group.bench_function("all", |bencher| {
        cpu_time(bencher, || {
            let mut tree = FilterTree::new(SEED);
            let insert = |filter: &String| tree.insert_with(filter, || 0u64);
            let ids: Vec<FilterId> = filters.iter().map(insert).collect();
            ids.into_iter().map(|id| tree.remove(id)).sum::<u64>()
        });
    });
    group.finish();
}

fn retained(criterion: &mut Criterion) {
    let topics: Vec<_> = scattered(1 << 32).map(exact_filter).collect();
    let mut group = criterion.benchmark_group("retained store of 65536 topics");
    group.sample_size(20);
    group.throughput(Throughput::Elements(TOPICS as u64));
    let fill = || {
        let mut store = RetainedStore::new(SEED);
        topics.iter().for_each(|topic| {
            store.insert(topic, 0u64, None);
        });
        store
    };
    group.bench_function("insert", |bencher| cpu_time(bencher, fill));
    let mut store = fill();
    group.bench_function("replace", |bencher| {
        cpu_time(bencher, || {
            topics
                .iter()
                .filter_map(|topic| store.insert(topic, 1, None))
                .count()
        });
    });
    group.bench_function("read with +/state", |bencher| {
        cpu_time(bencher, || {
            let mut sum = 0;
            store.page("+/state", None, usize::MAX, usize::MAX, |_, value| {
                sum += value
            });
            sum
        });
    });
    group.finish();
}

fn timers(criterion: &mut Criterion) {
    let mut timers = Timers::new(Time(0));
    for n in scattered(60_000_000) {
        timers.schedule(Time(n as u64), n as u64);
    }
    let mut now = 0;
    let mut delays = scattered(60_000_000)
        .collect::<Vec<_>>()
        .into_iter()
        .cycle();
    criterion.bench_function("schedule, cancel and poll a timer among 65536", |bencher| {
        cpu_time(bencher, || {
            let at = Time(now + delays.next().expect("a cycle has no end") as u64);
            let id = timers.schedule(at, 0);
            now += 1;
            while let Some(key) = timers.pop_expired(Time(now)) {
                timers.schedule(Time(now + 60_000_000), key);
            }
            (timers.cancel(id), timers.next_deadline())
        });
    });
}

/// Bytes of this process that are resident.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.expect("Linux tells a process its size") * 4_096
}

fn print_size<T>(what: &str, count: usize, fill: impl FnOnce() -> T) {
    let before = resident_bytes();
    let table = fill();
    let bytes = resident_bytes().saturating_sub(before);
    println!("{what}: {} bytes each at {count}", bytes / count);
    // Kept, so that the next table cannot move into its memory.
    std::mem::forget(table);
}

fn sizes(_: &mut Criterion) {
    let count = 100_000;
    print_size("wildcard filter", count, || tree(count, wild_filter));
    print_size("exact filter of 41 bytes", count, || {
        tree(count, exact_filter)
    });
    let count = 1_000_000;
    print_size("exact filter of 41 bytes", count, || {
        tree(count, exact_filter)
    });
    print_size("retained topic of 41 bytes, value of 8", count, || {
        let mut store = RetainedStore::new(SEED);
        for n in 0..count {
            store.insert(&exact_filter(n), 0u64, None);
        }
        store
    });
    print_size("timer with a key of 8 bytes", count, || {
        let mut timers = Timers::new(Time(0));
        for n in 0..count as u64 {
            timers.schedule(Time(n * 1_000), n);
        }
        timers
    });
}

fn brief() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = topics;
    config = brief();
    targets = sizes, matching, changing, retained, timers
}
criterion_main!(topics);
