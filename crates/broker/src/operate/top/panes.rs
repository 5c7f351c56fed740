//! The panes of `meshring top`, the columns of those that are tables, and the order of their rows.

use super::screen::{printable, share, short, span};
use serde_json::Value;
use std::cmp::Ordering;

/// What can be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    /// Rates and latencies.
    #[default]
    Overview,
    /// Each shard.
    Shards,
    /// Who publishes most.
    Talkers,
    /// For whom most is waiting.
    Slow,
}

impl Pane {
    /// In the order of their keys.
    pub const ALL: [Pane; 4] = [Pane::Overview, Pane::Shards, Pane::Talkers, Pane::Slow];

    /// What its tab says.
    pub fn title(self) -> &'static str {
        match self {
            Pane::Overview => "1 overview",
            Pane::Shards => "2 shards",
            Pane::Talkers => "3 top talkers",
            Pane::Slow => "4 slow consumers",
        }
    }

    fn place(self) -> usize {
        let at = Pane::ALL.iter().position(|pane| *pane == self);
        at.expect("all panes are in the list")
    }

    /// The one that is so many places further on.
    pub fn step(self, places: usize) -> Pane {
        Pane::ALL[(self.place() + places) % Pane::ALL.len()]
    }

    /// Its table, if it is one.
    pub fn table(self) -> Option<&'static TablePane> {
        match self {
            Pane::Overview => None,
            Pane::Shards => Some(&SHARDS),
            Pane::Talkers => Some(&TALKERS),
            Pane::Slow => Some(&SLOW),
        }
    }
}

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// What stands above it.
    pub head: &'static str,
    /// Where its value is in a row, as a JSON pointer.
    at: &'static str,
    /// How its value is written.
    pub show: fn(&Value) -> String,
}

impl Column {
    const fn new(head: &'static str, at: &'static str, show: fn(&Value) -> String) -> Column {
        Column { head, at, show }
    }

    /// Its value in a row; null if there is none.
    pub fn value<'a>(&self, row: &'a Value) -> &'a Value {
        row.pointer(self.at).unwrap_or(&Value::Null)
    }
}

/// What a table's rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The number of the column.
    pub column: usize,
    /// The largest first.
    pub is_descending: bool,
}

/// A pane that is a table.
#[derive(Debug)]
pub struct TablePane {
    /// The list in the figures.
    list: &'static str,
    /// Its columns.
    pub columns: &'static [Column],
    /// Characters of the first column if it is a name, else 0.
    pub name_width: u16,
    /// Its order to begin with.
    order: Order,
}

const SHARDS: TablePane = TablePane {
    list: "shards",
    columns: &[
        Column::new("shard", "/shard", short),
        Column::new("busy", "/busy", share),
        Column::new("turn p99", "/turn_p99_s", span),
        Column::new("conns", "/connections", short),
        Column::new("in /s", "/received_per_s", short),
        Column::new("out /s", "/sent_per_s", short),
        Column::new("wakes/s", "/wakes_per_s", short),
        Column::new("ring", "/ring_frames", short),
        Column::new("queued", "/queued_messages", short),
    ],
    name_width: 0,
    order: Order {
        column: 0,
        is_descending: false,
    },
};

const TALKERS: TablePane = TablePane {
    list: "talkers",
    columns: &[
        Column::new("client", "/client", printable),
        Column::new("msgs /s", "/messages_per_s", short),
        Column::new("bytes /s", "/bytes_per_s", short),
        Column::new("shard", "/shard", short),
    ],
    name_width: 36,
    order: Order {
        column: 1,
        is_descending: true,
    },
};

const SLOW: TablePane = TablePane {
    list: "slow",
    columns: &[
        Column::new("client", "/client", printable),
        Column::new("waiting", "/waiting_bytes", short),
        Column::new("queued", "/queue_messages", short),
        Column::new("in flight", "/in_flight", short),
        Column::new("output", "/connection/output_bytes", short),
    ],
    name_width: 36,
    order: Order {
        column: 1,
        is_descending: true,
    },
};

impl TablePane {
    /// Its rows in this order; what is not known comes last.
    pub fn rows<'a>(&self, figures: &'a Value, order: Order) -> Vec<&'a Value> {
        let column = &self.columns[order.column];
        let mut rows: Vec<&Value> = figures[self.list]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        rows.sort_by(|one, two| {
            let (one, two) = (column.value(one), column.value(two));
            match (one.is_null(), two.is_null()) {
                (false, false) if order.is_descending => compare(two, one),
                (false, false) => compare(one, two),
                (one, two) => one.cmp(&two),
            }
        });
        rows
    }
}

fn compare(one: &Value, two: &Value) -> Ordering {
    match (one.as_f64(), two.as_f64()) {
        (Some(one), Some(two)) => one.total_cmp(&two),
        _ => one.as_str().cmp(&two.as_str()),
    }
}

/// What is looked at, and how the tables are sorted.
#[derive(Clone, Debug)]
pub struct View {
    /// The pane.
    pub pane: Pane,
    /// Of each pane, in the order of [`Pane::ALL`].
    orders: [Order; Pane::ALL.len()],
}

impl View {
    /// A pane, and the tables as they are sorted to begin with.
    pub fn of(pane: Pane) -> View {
        View {
            pane,
            orders: Pane::ALL.map(|pane| pane.table().map_or(SHARDS.order, |table| table.order)),
        }
    }

    /// What the pane's table is sorted by.
    pub fn order(&self) -> Order {
        self.orders[self.pane.place()]
    }

    /// Sorts by the column that is so many places further on, round and round.
    pub fn sort_by_next(&mut self, places: usize) {
        if let Some(table) = self.pane.table() {
            let order = &mut self.orders[self.pane.place()];
            order.column = (order.column + places) % table.columns.len();
        }
    }

    /// Sorts by the column before.
    pub fn sort_by_last(&mut self) {
        let columns = self.pane.table().map_or(1, |table| table.columns.len());
        self.sort_by_next(columns - 1);
    }

    /// Sorts the other way round.
    pub fn reverse(&mut self) {
        let order = &mut self.orders[self.pane.place()];
        order.is_descending = !order.is_descending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn panes_follow_each_other() {
        assert_eq!(Pane::Slow.step(1), Pane::Overview);
        assert_eq!(Pane::Overview.step(3), Pane::Slow);
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_what_is_unknown_comes_last() {
        let figures = json!({"talkers": [
            {"client": "b", "messages_per_s": 1.5},
            {"client": "c"},
            {"client": "a", "messages_per_s": 10},
        ]});
        let mut view = View::of(Pane::Talkers);
        let names = |view: &View| -> String {
            let rows = TALKERS.rows(&figures, view.order());
            rows.iter()
                .filter_map(|row| row["client"].as_str())
                .collect()
        };
        assert_eq!(names(&view), "abc");
        view.reverse();
        assert_eq!(names(&view), "bac");
        view.sort_by_last();
        assert_eq!((view.order().column, &*names(&view)), (0, "abc"));
        view.reverse();
        assert_eq!(names(&view), "cba");
        view.sort_by_last();
        assert_eq!(view.order().column, 3);
        view.sort_by_next(1);
        assert_eq!(view.order().column, 0);
        // Another pane keeps its own order, and one that is no table has none to change.
        view.pane = Pane::Overview;
        view.sort_by_next(1);
        view.sort_by_last();
        view.pane = Pane::Slow;
        assert_eq!(view.order(), SLOW.order);
        assert_eq!(SLOW.rows(&json!({}), view.order()), Vec::<&Value>::new());
    }
}
