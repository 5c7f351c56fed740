//! `meshring reload`: what its help says, and its answer for people.

use serde_json::Value;

/// Below the flags in its `--help`.
pub const RELOAD_NOTES: &str = "\
The broker reads its file again; flags and variables are those it was started
with. With an error everything stays as it was, and all errors are said.
Connections that are still allowed stay; clients without credentials that are no
longer allowed are closed. SIGHUP does the same, and the log says what came of it.

What needs a restart is marked in `meshring config example`: shards, cpus,
driver, data, the durability mode, the pepper, and [io].

A listener that is to take the port of another, such as 0.0.0.0:1883 for
127.0.0.1:1883, opens when that one is closed; if it cannot be opened, the other
one is opened again. The token of [admin] is read again from its file.

The broker is asked through its admin.socket, or DIR/admin.sock, so run this as
the user that the broker runs as; or over the network with --admin and the token.

Exit codes:
  0  reloaded, though some of it may need a restart    2  wrong usage
  1  refused: the configuration is wrong, or an        3  no broker answers
     address cannot be had; nothing has changed        4  wrong token

Examples:
  meshring reload
  meshring reload --data ./data --json";

/// What changed and what did not, line by line.
pub fn words(answer: &Value) -> String {
    let mut text = String::new();
    let list = |key: &str| answer[key].as_array().into_iter().flatten();
    for (key, what) in [("changed", "changed"), ("needs_restart", "needs a restart")] {
        for one in list(key) {
            let key = one["key"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "{what}: {key}: {} -> {}\n",
                one["old"], one["new"]
            ));
        }
    }
    for warning in list("warnings").filter_map(Value::as_str) {
        text.push_str(&format!("{warning}\n"));
    }
    text.push_str(&format!("unchanged: {}\n", answer["unchanged"]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_put_into_words() {
        let answer = json!({
            "changed": [{"key": "a.b", "old": 1, "new": "x"}],
            "needs_restart": [{"key": "c.d", "old": [], "new": ["y"]}],
            "warnings": ["warning: perhaps"],
            "unchanged": 7,
        });
        let expected = "changed: a.b: 1 -> \"x\"\nneeds a restart: c.d: [] -> [\"y\"]\n\
                        warning: perhaps\nunchanged: 7\n";
        assert_eq!(words(&answer), expected);
        assert_eq!(words(&json!(null)), "unchanged: null\n");
    }
}
