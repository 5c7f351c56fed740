//! What `meshring top` draws: a header, and one of four panes. Fits a terminal of 80 by 24.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Tabs};
use serde_json::Value;

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

    fn title(self) -> &'static str {
        match self {
            Pane::Overview => "1 overview",
            Pane::Shards => "2 shards",
            Pane::Talkers => "3 top talkers",
            Pane::Slow => "4 slow consumers",
        }
    }

    /// The one that is so many places further on.
    pub fn step(self, places: usize) -> Pane {
        let at = Pane::ALL.iter().position(|pane| *pane == self);
        Pane::ALL[(at.unwrap_or(0) + places) % Pane::ALL.len()]
    }
}

/// Draws everything: the figures if there are any, and what is wrong if something is.
pub fn draw(frame: &mut Frame<'_>, pane: Pane, figures: Option<&Value>, wrong: Option<&str>) {
    let [header, tabs, body, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(Line::styled(title(figures), bold)), header);
    let selected = Pane::ALL.iter().position(|each| *each == pane);
    let bar = Tabs::new(Pane::ALL.map(Pane::title))
        .select(selected)
        .highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(bar, tabs);
    match (figures, pane) {
        (None, _) => frame.render_widget(Paragraph::new("waiting for the second reading …"), body),
        (Some(figures), Pane::Overview) => overview(frame, body, figures),
        (Some(figures), Pane::Shards) => shards(frame, body, figures),
        (Some(figures), Pane::Talkers) => talkers(frame, body, figures),
        (Some(figures), Pane::Slow) => slow(frame, body, figures),
    }
    let help = "Tab, 1-4: pane   q: quit";
    let text = wrong.map_or_else(|| help.to_owned(), |wrong| format!("{wrong}   q: quit"));
    frame.render_widget(Paragraph::new(text), footer);
}

fn title(figures: Option<&Value>) -> String {
    let Some(figures) = figures else {
        return "meshring".to_owned();
    };
    let text = |name: &str| figures[name].as_str().unwrap_or("?").to_owned();
    let shards = figures["shards"].as_array().map_or(0, Vec::len);
    format!(
        "meshring {}   {}   shards {shards}   memory {}B   CPU {}",
        text("version"),
        text("driver"),
        short(&figures["resident_bytes"]),
        share(&figures["per_s"]["cpu_s"]),
    )
}

fn overview(frame: &mut Frame<'_>, area: Rect, figures: &Value) {
    let rate = |name: &str| short(&figures["per_s"][name]);
    let count = |name: &str| short(&figures[name]);
    let protocol = |name: &str| short(&figures["connections"][name]);
    let latency = |of: &str, part: &str| span(&figures[of][part]);
    let rows = [
        (
            "messages in /s",
            rate("received"),
            "clients 5",
            protocol("mqtt-5"),
        ),
        (
            "messages out /s",
            rate("sent"),
            "clients 3.1.1",
            protocol("mqtt-3.1.1"),
        ),
        (
            "bytes in /s",
            rate("received_bytes"),
            "clients 3.1",
            protocol("mqtt-3.1"),
        ),
        (
            "bytes out /s",
            rate("sent_bytes"),
            "sockets",
            protocol("websocket"),
        ),
        ("dropped /s", rate("dropped"), "HTTP", protocol("http")),
        (
            "refused /s",
            rate("refused"),
            "devices online",
            count("devices_online"),
        ),
        ("connects /s", rate("connects"), "devices", count("devices")),
        (
            "HTTP requests /s",
            rate("http_requests"),
            "sessions",
            count("sessions"),
        ),
        (
            "commits /s",
            rate("commits"),
            "subscriptions",
            count("subscriptions"),
        ),
        (
            "changes /s",
            rate("commit_changes"),
            "retained",
            count("retained_messages"),
        ),
        (
            "delivery p50",
            latency("delivery_s", "p50"),
            "in flight",
            count("in_flight_messages"),
        ),
        (
            "delivery p99",
            latency("delivery_s", "p99"),
            "queued",
            count("queued_messages"),
        ),
        (
            "delivery p99.9",
            latency("delivery_s", "p999"),
            "queued bytes",
            count("queued_bytes"),
        ),
        (
            "through queues p50",
            latency("queued_delivery_s", "p50"),
            "stores stalled",
            count("stores_stalled"),
        ),
        (
            "through queues p99",
            latency("queued_delivery_s", "p99"),
            "",
            String::new(),
        ),
        ("commit p50", latency("commit_s", "p50"), "", String::new()),
        ("commit p99", latency("commit_s", "p99"), "", String::new()),
    ];
    let rows = rows.map(|(a, b, c, d)| {
        Row::new([
            Cell::new(a),
            right(b, 10),
            Cell::new(""),
            Cell::new(c),
            right(d, 10),
        ])
    });
    let widths = [20, 10, 4, 20, 10].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths), area);
}

fn shards(frame: &mut Frame<'_>, area: Rect, figures: &Value) {
    let columns = [
        "shard", "busy", "turn p99", "conns", "in /s", "out /s", "wakes/s", "ring", "queued",
    ];
    let rows = rows_of(&figures["shards"]).map(|shard| {
        vec![
            short(&shard["shard"]),
            share(&shard["busy"]),
            span(&shard["turn_p99_s"]),
            short(&shard["connections"]),
            short(&shard["received_per_s"]),
            short(&shard["sent_per_s"]),
            short(&shard["wakes_per_s"]),
            short(&shard["ring_frames"]),
            short(&shard["queued_messages"]),
        ]
    });
    table(frame, area, &columns, 0, rows);
}

fn talkers(frame: &mut Frame<'_>, area: Rect, figures: &Value) {
    let rows = rows_of(&figures["talkers"]).map(|talker| {
        vec![
            printable(&talker["client"]),
            short(&talker["messages_per_s"]),
            short(&talker["bytes_per_s"]),
            short(&talker["shard"]),
        ]
    });
    table(
        frame,
        area,
        &["client", "msgs /s", "bytes /s", "shard"],
        36,
        rows,
    );
}

fn slow(frame: &mut Frame<'_>, area: Rect, figures: &Value) {
    let columns = ["client", "waiting", "queued", "in flight", "output"];
    let rows = rows_of(&figures["slow"]).map(|client| {
        vec![
            printable(&client["client"]),
            short(&client["waiting_bytes"]),
            short(&client["queue_messages"]),
            short(&client["in_flight"]),
            short(&client["connection"]["output_bytes"]),
        ]
    });
    table(frame, area, &columns, 36, rows);
}

fn rows_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Numbers are aligned to the right; the first column is for a name if it has a width.
fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[&str],
    name_width: u16,
    rows: impl Iterator<Item = Vec<String>>,
) {
    const WIDTH: u16 = 8;
    let width_at = |at: usize| match (at, name_width) {
        (0, 1..) => name_width,
        (_, 1..) => 10,
        (_, 0) => WIDTH,
    };
    let cells = |texts: Vec<String>| {
        let cells = texts.into_iter().enumerate().map(|(at, text)| {
            let is_name = at == 0 && name_width > 0;
            if is_name {
                Cell::new(text)
            } else {
                right(text, width_at(at))
            }
        });
        Row::new(cells.collect::<Vec<_>>())
    };
    let heads = cells(columns.iter().map(|head| (*head).to_owned()).collect());
    let heads = heads.style(Style::new().add_modifier(Modifier::UNDERLINED));
    let widths: Vec<_> = (0..columns.len())
        .map(|at| Constraint::Length(width_at(at)))
        .collect();
    let rows: Vec<_> = rows.map(cells).collect();
    frame.render_widget(Table::new(rows, widths).header(heads), area);
}

fn right(text: String, width: u16) -> Cell<'static> {
    Cell::new(format!("{text:>width$}", width = usize::from(width)))
}

/// A client's name without what would move the cursor.
fn printable(value: &Value) -> String {
    let text = value.as_str().unwrap_or("?");
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A number in at most six characters.
fn short(value: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return "-".to_owned();
    };
    let (mut scaled, mut unit) = (number, "");
    for next in ["k", "M", "G", "T"] {
        if scaled.abs() < 999.5 {
            break;
        }
        (scaled, unit) = (scaled / 1_000.0, next);
    }
    let is_whole = unit.is_empty() && scaled.fract() == 0.0;
    let digits = if is_whole || scaled.abs() >= 99.95 {
        0
    } else {
        1
    };
    format!("{scaled:.digits$}{unit}")
}

/// A length of time, with its unit.
fn span(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(s) if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        Some(s) if s < 1.0 => format!("{:.1} ms", s * 1e3),
        Some(s) => format!("{s:.1} s"),
    }
}

/// A part of one, as per cent.
fn share(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(part) => format!("{:.0} %", part * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn shown(pane: Pane, figures: Option<&Value>, wrong: Option<&str>) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let drawn = terminal.draw(|frame| draw(frame, pane, figures, wrong));
        drawn.unwrap();
        terminal.backend().to_string()
    }

    fn example() -> Value {
        json!({
            "version": "0.1.0", "driver": "io_uring", "resident_bytes": 52_428_800,
            "connections": {"mqtt-5": 12_345, "http": 3},
            "per_s": {"received": 123_456.0, "cpu_s": 0.5},
            "delivery_s": {"p99": 0.000_123},
            "shards": [{"shard": 0, "busy": 0.42, "turn_p99_s": 0.002, "connections": 7}],
            "talkers": [{"client": "loud\u{1b}[2J", "messages_per_s": 1_000.0, "shard": 0}],
            "slow": [{"client": "lazy", "waiting_bytes": 1_048_576,
                      "connection": {"output_bytes": 65_536}}],
        })
    }

    #[test]
    fn each_pane_shows_its_figures_in_80_by_24() {
        let figures = example();
        for (pane, words) in [
            (
                Pane::Overview,
                &["io_uring", "123k", "123 µs", "12.3k", "CPU 50 %"][..],
            ),
            (Pane::Shards, &["42 %", "2.0 ms", "queued"]),
            (Pane::Talkers, &["loud\u{fffd}[2J", "1.0k"]),
            (Pane::Slow, &["lazy", "1.0M", "65.5k"]),
        ] {
            let text = shown(pane, Some(&figures), None);
            for word in words {
                assert!(text.contains(word), "no {word:?} in\n{text}");
            }
            assert!(text.contains("q: quit"), "{text}");
        }
    }

    #[test]
    fn without_figures_it_says_what_is_wrong() {
        let text = shown(Pane::Overview, None, Some("no broker answers"));
        assert!(
            text.contains("waiting") && text.contains("no broker answers"),
            "{text}"
        );
    }

    #[test]
    fn a_tiny_terminal_is_no_reason_to_fail() {
        let figures = example();
        for (width, height) in [(1, 1), (10, 3), (80, 2)] {
            for pane in Pane::ALL {
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal
                    .draw(|frame| draw(frame, pane, Some(&figures), None))
                    .unwrap();
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (12.5, "12.5"),
            (999.0, "999"),
            (1_000.0, "1.0k"),
            (123_456.0, "123k"),
            (2.5e9, "2.5G"),
        ] {
            assert_eq!(short(&json!(number)), expected);
        }
        assert_eq!(short(&Value::Null), "-");
        assert_eq!(span(&json!(1.5)), "1.5 s");
    }

    #[test]
    fn panes_follow_each_other() {
        assert_eq!(Pane::Slow.step(1), Pane::Overview);
        assert_eq!(Pane::Overview.step(3), Pane::Slow);
    }
}
