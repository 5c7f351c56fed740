//! What the configuration opens to others.

use super::Case;
use super::finding::Verdict;
use shard::Anonymous;

pub(super) fn pepper(case: &Case) -> Verdict {
    match case.plan.is_pepper_public {
        false => Verdict::fine("the pepper is not one that everybody can read"),
        true => Verdict::error(
            "the pepper is the one of FreshBlu's documents: whoever sees the hashes of tokens can \
             try tokens against them",
            "MESHRING_PEPPER with a text of your own; tokens that exist have to be made anew",
        ),
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
