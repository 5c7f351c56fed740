//! A comparison as one HTML page with plots: no script, no font, nothing from elsewhere.

use std::fmt::Write;

use crate::comparison::{Cell, Comparison, Row, times_better};
use crate::markdown;
use crate::outcome::{Better, number};
use crate::svg::{self, Bar, Line};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}\
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}\
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\
th,td{border:1px solid #d0d7de;padding:.25rem .6rem;text-align:right}\
th:first-child,td:first-child{text-align:left}th{background:#f6f8fa}\
small{color:#57606a}.plots{display:flex;flex-wrap:wrap;gap:1rem}\
figure{margin:0;border:1px solid #d0d7de;border-radius:6px;padding:.6rem}\
figcaption{font-weight:600;font-size:.9rem}.fault{color:#a40e26;font-weight:600}\
svg text{font:12px system-ui,sans-serif;fill:#1b1f24}";

/// Renders the whole comparison.
pub fn render(comparison: &Comparison) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\">\
         <title>Comparison of brokers</title><style>{STYLE}</style>\
         <h1>Comparison of brokers</h1><p>{}</p>\
         <p>Bars are medians of {} interleaved rounds, dots the single rounds. In tables, × says \
         how many times better {} is (below 1: worse).{}</p>",
        escape(&comparison.host.line()),
        comparison.rounds,
        escape(
            comparison
                .brokers
                .first()
                .map_or("the first", String::as_str)
        ),
        escape(&markdown::noise(comparison)),
    );
    let rows = comparison.rows();
    for scenario in &comparison.scenarios {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| row.scenario == *scenario)
            .collect();
        if !of.is_empty() {
            section(&mut page, comparison, scenario, &of);
        }
    }
    remarks(&mut page, comparison);
    page.push_str("</html>\n");
    page
}

fn section(page: &mut String, comparison: &Comparison, scenario: &str, rows: &[&Row]) {
    let _ = write!(page, "<h2>{}</h2>", escape(scenario));
    if let Some(run) = comparison.runs.iter().find(|run| run.scenario == scenario) {
        let said: Vec<String> = run
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let _ = write!(page, "<p><small>{}</small></p>", escape(&said.join(", ")));
    }
    page.push_str("<div class=plots>");
    let (swept, single): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .copied()
        .partition(|row| swept_at(&row.figure).is_some());
    if !swept.is_empty() {
        let _ = write!(page, "<figure>{}</figure>", lines(comparison, &swept));
    }
    for row in &single {
        let better = if row.better == Better::Lower {
            "lower"
        } else {
            "higher"
        };
        let _ = write!(
            page,
            "<figure><figcaption>{}, {} <small>({better} is better)</small></figcaption>{}</figure>",
            escape(&row.figure),
            escape(&row.unit),
            bars(comparison, row)
        );
    }
    page.push_str("</div>");
    table(page, comparison, rows);
}

/// The number at the end of `CPU per message at 1000`: a figure that is one point of a line.
fn swept_at(figure: &str) -> Option<f64> {
    let (before, number) = figure.rsplit_once(' ')?;
    let swept = before.ends_with(" at") || before.ends_with(" from");
    if swept { number.parse().ok() } else { None }
}

fn bars(comparison: &Comparison, row: &Row) -> String {
    let bars: Vec<Bar> = comparison
        .brokers
        .iter()
        .zip(&row.cells)
        .enumerate()
        .map(|(index, (broker, cell))| Bar {
            label: escape(broker),
            colour: svg::colour(index),
            value: cell.median(),
            dots: cell.values.clone(),
            text: cell.median().map_or("–".to_owned(), |median| {
                format!("{}{}", number(median), if cell.faulty { " †" } else { "" })
            }),
        })
        .collect();
    svg::bars(&bars)
}

fn lines(comparison: &Comparison, rows: &[&Row]) -> String {
    let lines: Vec<Line> = comparison
        .brokers
        .iter()
        .enumerate()
        .map(|(index, broker)| Line {
            label: escape(broker),
            colour: svg::colour(index),
            points: rows
                .iter()
                .filter_map(|row| Some((swept_at(&row.figure)?, row.cells.get(index)?.median()?)))
                .collect(),
        })
        .collect();
    let caption = rows.first().map_or("", |row| row.unit.as_str());
    format!(
        "<figcaption>CPU per message, {} <small>(lower is better)</small></figcaption>{}",
        escape(caption),
        svg::lines(&lines)
    )
}

fn table(page: &mut String, comparison: &Comparison, rows: &[&Row]) {
    page.push_str("<table><tr><th>figure");
    for broker in &comparison.brokers {
        let _ = write!(page, "<th>{}", escape(broker));
    }
    for row in rows {
        let _ = write!(
            page,
            "<tr><td>{}, {}",
            escape(&row.figure),
            escape(&row.unit)
        );
        let ours = row
            .cells
            .first()
            .filter(|cell| !cell.faulty)
            .and_then(Cell::median);
        for (index, cell) in row.cells.iter().enumerate() {
            let _ = write!(page, "<td>{}", show(cell, row, ours.filter(|_| index > 0)));
        }
    }
    page.push_str("</table>");
}

fn show(cell: &Cell, row: &Row, ours: Option<f64>) -> String {
    let Some(median) = cell.median() else {
        return "–".to_owned();
    };
    if cell.faulty {
        return format!("<span class=fault>{}&nbsp;†</span>", number(median));
    }
    match ours.and_then(|ours| times_better(row.better, ours, median)) {
        Some(times) => format!("{} <small>{}×</small>", number(median), number(times)),
        None => number(median),
    }
}

fn remarks(page: &mut String, comparison: &Comparison) {
    let remarks = comparison.remarks();
    if remarks.is_empty() {
        return;
    }
    page.push_str("<h2>Remarks</h2><ul>");
    for remark in remarks {
        let class = if remark.starts_with("**") {
            " class=fault"
        } else {
            ""
        };
        let _ = write!(page, "<li{class}>{}", escape(&remark.replace("**", "")));
    }
    page.push_str("</ul>");
}

/// Text as HTML and SVG take it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::example;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render(&example());
        assert!(page.contains("&lt;a&gt; &amp; b"), "names are escaped");
        assert!(page.contains("<svg") && page.contains("2.00"));
        for outside in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn points_of_a_sweep_are_recognised() {
        assert_eq!(swept_at("CPU per message at 1000"), Some(1_000.0));
        assert_eq!(swept_at("CPU per message from 100"), Some(100.0));
        assert_eq!(swept_at("CPU per message"), None);
        assert_eq!(swept_at("latency p99.9"), None);
        assert_eq!(swept_at("cost at most / at fewest"), None);
    }
}
