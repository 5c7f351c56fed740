//! What the configuration opens to others.

use super::Case;
use super::finding::Verdict;
use shard::Anonymous;

/// Bytes of a pepper that nobody guesses, if they are drawn: the broker draws 32.
const PEPPER_BYTES_MIN: usize = 16;

pub(super) fn pepper(case: &Case) -> Verdict {
    const REMEDY: &str =
        "MESHRING_PEPPER with a text of your own; tokens that exist have to be made anew";
    match (case.plan.is_pepper_public, case.plan.pepper_bytes) {
        (true, _) => Verdict::error(
            "the pepper is the one of FreshBlu's documents: whoever sees the hashes of tokens can \
             try tokens against them",
            REMEDY,
        ),
        (false, Some(bytes)) if bytes < PEPPER_BYTES_MIN => Verdict::warning(
            format!(
                "the pepper has {bytes} bytes, which can be guessed by whoever sees the hashes of \
                 tokens"
            ),
            REMEDY,
        ),
        _ => Verdict::fine("the pepper is not one that everybody can read"),
    }
}

pub(super) fn anonymous(case: &Case) -> Verdict {
    let mqtt = &case.plan.mqtt;
    let public = mqtt.iter().find(|address| !address.ip().is_loopback());
    match (case.plan.anonymous, public) {
        (Anonymous::Allow, Some(address)) => Verdict::error(
            format!("anybody who reaches {address} may publish and subscribe (--anonymous allow)"),
            "--anonymous deny or loopback, or an address that only friends reach",
        ),
        _ => Verdict::fine("strangers need credentials"),
    }
}

pub(super) fn plain_text(case: &Case) -> Verdict {
    let open = case
        .plan
        .addresses()
        .find(|address| !address.ip().is_loopback());
    match open {
        None => Verdict::fine("listens on loopback alone"),
        Some(address) => Verdict::notice(
            format!("{address} is not encrypted: tokens can be read on the way"),
            "a proxy that ends TLS in front of it, and --mqtt and --http on loopback; or a network \
             of your own",
        ),
    }
}
