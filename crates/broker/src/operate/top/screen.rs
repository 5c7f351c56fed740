//! What `meshring top` draws: a header, one of four panes, and the keys. Fits a terminal of 80 by 24.

use super::panes::{Order, Pane, TablePane, View};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Tabs};
use serde_json::Value;

/// Draws everything: the figures if there are any, and what is wrong if something is.
pub fn draw(frame: &mut Frame<'_>, view: &View, figures: Option<&Value>, wrong: Option<&str>) {
    let pane = view.pane;
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
        (Some(figures), pane) => {
            if let Some(table_pane) = pane.table() {
                table(frame, body, figures, table_pane, view.order());
            }
        }
    }
    let text = wrong.map_or_else(|| help(view), |wrong| format!("{wrong}   q: quit"));
    frame.render_widget(Paragraph::new(text), footer);
}

/// The keys, and what the table is sorted by.
fn help(view: &View) -> String {
    let keys = "Tab, 1-4: pane   q: quit";
    let Some(table) = view.pane.table() else {
        return keys.to_owned();
    };
    let Order {
        column,
        is_descending,
    } = view.order();
    let direction = if is_descending { "falling" } else { "rising" };
    format!(
        "{keys}   s, S: sort   r: reverse   [{}, {direction}]",
        table.columns[column].head
    )
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

/// Draws a pane that is a table.
fn table(frame: &mut Frame<'_>, area: Rect, figures: &Value, pane: &TablePane, order: Order) {
    const WIDTH: u16 = 8;
    let width_at = |at: usize| match (at, pane.name_width) {
        (0, 1..) => pane.name_width,
        (_, 1..) => 10,
        (_, 0) => WIDTH,
    };
    let cells = |texts: Vec<String>| {
        let cells = texts.into_iter().enumerate().map(|(at, text)| {
            let is_name = at == 0 && pane.name_width > 0;
            if is_name {
                Cell::new(text)
            } else {
                right(text, width_at(at))
            }
        });
        Row::new(cells.collect::<Vec<_>>())
    };
    let columns = pane.columns.iter();
    let heads = cells(columns.map(|column| column.head.to_owned()).collect());
    let heads = heads.style(Style::new().add_modifier(Modifier::UNDERLINED));
    let widths: Vec<_> = (0..pane.columns.len())
        .map(|at| Constraint::Length(width_at(at)))
        .collect();
    let rows = pane.rows(figures, order).into_iter().map(|row| {
        let columns = pane.columns.iter();
        cells(
            columns
                .map(|column| (column.show)(column.value(row)))
                .collect(),
        )
    });
    frame.render_widget(Table::new(rows, widths).header(heads), area);
}

fn right(text: String, width: u16) -> Cell<'static> {
    Cell::new(format!("{text:>width$}", width = usize::from(width)))
}

/// A client's name without what would move the cursor.
pub(super) fn printable(value: &Value) -> String {
    let text = value.as_str().unwrap_or("?");
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A number in at most six characters.
pub(super) fn short(value: &Value) -> String {
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
pub(super) fn span(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(s) if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        Some(s) if s < 1.0 => format!("{:.1} ms", s * 1e3),
        Some(s) => format!("{s:.1} s"),
    }
}

/// A part of one, as per cent.
pub(super) fn share(value: &Value) -> String {
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
        let view = View::of(pane);
        let drawn = terminal.draw(|frame| draw(frame, &view, figures, wrong));
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
            (
                Pane::Shards,
                &["42 %", "2.0 ms", "queued", "[shard, rising]"],
            ),
            (Pane::Talkers, &["loud\u{fffd}[2J", "1.0k"]),
            (Pane::Slow, &["lazy", "1.0M", "65.5k", "[waiting, falling]"]),
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
                    .draw(|frame| draw(frame, &View::of(pane), Some(&figures), None))
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
}
