//! Micro-benchmarks; see `benches/*.rs`.
