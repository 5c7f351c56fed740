//! Two kinds of plot as SVG: bars with a dot per round, and lines over a logarithmic axis.
//! Labels must have been escaped by the caller.

use std::fmt::Write;

use crate::outcome::number;

/// Width of every plot, in pixels.
const WIDTH: f64 = 430.0;
/// Height of one bar with its gap.
const BAR_HEIGHT: f64 = 26.0;
/// Left of the bars: names.
const NAMES: f64 = 90.0;
/// Right of the longest bar: its value.
const VALUES: f64 = 90.0;
/// Height of a plot with lines.
const LINES_HEIGHT: f64 = 260.0;

/// Colours that stay apart for the colour-blind; the first is for our own broker.
const COLOURS: [&str; 6] = [
    "#0072b2", "#999999", "#d55e00", "#009e73", "#cc79a7", "#e69f00",
];

/// The colour of broker number `index`.
pub fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Whose it is.
    pub label: String,
    /// CSS colour.
    pub colour: &'static str,
    /// Its length; no bar without one.
    pub value: Option<f64>,
    /// The single rounds.
    pub dots: Vec<f64>,
    /// Written behind it.
    pub text: String,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Whose it is.
    pub label: String,
    /// CSS colour.
    pub colour: &'static str,
    /// x above 0, and y.
    pub points: Vec<(f64, f64)>,
}

/// Draws horizontal bars from zero.
pub fn bars(bars: &[Bar]) -> String {
    let values = bars
        .iter()
        .flat_map(|bar| bar.dots.iter().copied().chain(bar.value));
    let most = values.fold(0.0, f64::max);
    let scale = if most > 0.0 {
        (WIDTH - NAMES - VALUES) / most
    } else {
        0.0
    };
    let height = BAR_HEIGHT * bars.len() as f64 + 4.0;
    let mut svg = open(height);
    for (index, bar) in bars.iter().enumerate() {
        let top = BAR_HEIGHT * index as f64 + 4.0;
        let middle = top + BAR_HEIGHT / 2.0 - 2.0;
        let length = bar.value.unwrap_or(0.0).max(0.0) * scale;
        let reach = bar.dots.iter().copied().fold(0.0, f64::max) * scale;
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{:.1}\" rx=\"2\" \
             fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 6.0,
            middle + 4.0,
            bar.label,
            BAR_HEIGHT - 6.0,
            bar.colour,
            NAMES + length.max(reach) + 8.0,
            middle + 4.0,
            bar.text,
        );
        if bar.dots.len() > 1 {
            for dot in &bar.dots {
                let _ = write!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2.5\" fill=\"#fff\" \
                     stroke=\"#1b1f24\"/>",
                    NAMES + dot * scale
                );
            }
        }
    }
    svg.push_str("</svg>");
    svg
}

/// Draws lines over a logarithmic x axis; y starts at zero.
pub fn lines(lines: &[Line]) -> String {
    let (left, right, top) = (50.0, WIDTH - 10.0, 10.0);
    let bottom = LINES_HEIGHT - 25.0;
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let x_low = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let x_high = points().map(|point| point.0).fold(0.0, f64::max);
    let y_high = points().map(|point| point.1).fold(0.0, f64::max);
    let legend_height = 18.0 * lines.len() as f64;
    let mut svg = open(LINES_HEIGHT + legend_height);
    if !x_low.is_finite() || x_low <= 0.0 || y_high <= 0.0 {
        svg.push_str("</svg>");
        return svg;
    }
    let decades = (x_high / x_low).log10().max(1e-9);
    let x = |value: f64| left + (value / x_low).log10() / decades * (right - left - 20.0);
    let y = |value: f64| bottom - value / y_high * (bottom - top);
    axes(
        &mut svg,
        [left, right, top, bottom],
        [x_low, x_high, y_high],
        &x,
        &y,
    );
    for (index, line) in lines.iter().enumerate() {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
            .collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>",
            path.join(" "),
            line.colour
        );
        for point in &line.points {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\"/>",
                x(point.0),
                y(point.1),
                line.colour
            );
        }
        let legend = LINES_HEIGHT + 18.0 * index as f64 + 10.0;
        let _ = write!(
            svg,
            "<rect x=\"{left}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{legend:.1}\">{}</text>",
            legend - 6.0,
            line.colour,
            left + 20.0,
            line.label
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Marks at every decade of x and at four heights of y.
fn axes(
    svg: &mut String,
    [left, right, top, bottom]: [f64; 4],
    [x_low, x_high, y_high]: [f64; 3],
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) {
    for quarter in 0..=4 {
        let value = y_high * f64::from(quarter) / 4.0;
        let _ = write!(
            svg,
            "<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{right}\" y2=\"{0:.1}\" stroke=\"#d0d7de\"/>\
             <text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y(value),
            left - 5.0,
            y(value) + 4.0,
            number(value)
        );
    }
    let _ = write!(
        svg,
        "<line x1=\"{left}\" y1=\"{top}\" x2=\"{left}\" y2=\"{bottom}\" stroke=\"#57606a\"/>"
    );
    let mut mark = x_low;
    // At most as many marks as there are decades in a double.
    while mark <= x_high * 1.001 {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(mark),
            bottom + 16.0,
            number(mark)
        );
        mark *= 10.0;
    }
}

fn open(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: Option<f64>) -> Bar {
        let dots = value.into_iter().collect();
        Bar {
            label: "a".to_owned(),
            colour: colour(0),
            value,
            dots,
            text: "t".to_owned(),
        }
    }

    #[test]
    fn the_longest_bar_fills_the_room_and_others_are_in_proportion() {
        let svg = bars(&[bar(Some(10.0)), bar(Some(5.0)), bar(None)]);
        let room = WIDTH - NAMES - VALUES;
        assert!(svg.contains(&format!("width=\"{room:.1}\"")), "{svg}");
        assert!(
            svg.contains(&format!("width=\"{:.1}\"", room / 2.0)),
            "{svg}"
        );
        assert!(svg.contains("width=\"0.0\""), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_an_empty_plot() {
        assert!(lines(&[]).ends_with("</svg>"));
        assert!(!bars(&[bar(None)]).contains("NaN"));
    }

    #[test]
    fn lines_stay_inside_the_plot() {
        let points = vec![(10.0, 2.0), (1_000.0, 4.0)];
        let line = Line {
            label: "a".to_owned(),
            colour: colour(1),
            points,
        };
        let svg = lines(&[line]);
        assert!(svg.contains("points=\"50.0,122.5 400.0,10.0\""), "{svg}");
        assert!(!svg.contains("NaN"));
    }
}
