//! Line charts as SVG: panels below each other, each with its own axes. Pure.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const TICKS: f64 = 5.0;
const COLOURS: [&str; 4] = ["#1f5fa8", "#c2571a", "#2d7d46", "#7a3b9a"];

/// One line of a panel.
#[derive(Debug, Clone)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// Places `(x, y)`, in the order of `x`; a line of one point is a dot.
    pub points: Vec<(f64, f64)>,
}

/// One panel. Its y axis begins at 0.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The text above it.
    pub title: String,
    /// The text below the x axis.
    pub x_label: String,
    /// Its lines.
    pub series: Vec<Series>,
}

/// The whole drawing.
#[must_use]
pub fn svg(panels: &[Panel]) -> String {
    let height = PANEL_HEIGHT * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        put(&mut svg, format_args!("<g transform=\"translate(0 {})\">", PANEL_HEIGHT * number as f64));
        panel.draw(&mut svg);
        put(&mut svg, format_args!("</g>"));
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let top_of = |axis: fn(&(f64, f64)) -> f64| {
            self.series.iter().flat_map(|s| &s.points).map(axis).fold(0.0, f64::max)
        };
        let (x_step, y_step) = (step(top_of(|point| point.0)), step(top_of(|point| point.1)));
        let (x_max, y_max) = (above(top_of(|point| point.0), x_step), above(top_of(|point| point.1), y_step));
        let (right, bottom) = (WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM);
        let x = |value: f64| LEFT + value / x_max * (right - LEFT);
        let y = |value: f64| bottom - value / y_max * (bottom - TOP);
        put(
            svg,
            format_args!(
                "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{}</text>",
                TOP - 15.0,
                escape(&self.title)
            ),
        );
        for value in ticks(y_max, y_step) {
            let at = y(value);
            put(svg, format_args!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>"));
            put(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    at + 4.0,
                    number(value)
                ),
            );
        }
        for value in ticks(x_max, x_step) {
            put(
                svg,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    x(value),
                    bottom + 18.0,
                    number(value)
                ),
            );
        }
        put(svg, format_args!("<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" stroke=\"#333\" fill=\"none\"/>"));
        let middle = f64::midpoint(LEFT, right);
        put(
            svg,
            format_args!(
                "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 38.0,
                escape(&self.x_label)
            ),
        );
        for (place, series) in self.series.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            series.draw(svg, colour, x, y);
            let at = TOP + 18.0 * place as f64;
            put(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{}</text>",
                    right + 12.0,
                    escape(&series.name)
                ),
            );
        }
    }
}

impl Series {
    fn draw(&self, svg: &mut String, colour: &str, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
        let places: Vec<String> =
            self.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        put(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                places.join(" ")
            ),
        );
        for point in &self.points {
            put(
                svg,
                format_args!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"/>",
                    x(point.0),
                    y(point.1)
                ),
            );
        }
    }
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "{line}");
}

/// Between two ticks: 1, 2 or 5 times a power of ten.
fn step(max: f64) -> f64 {
    let rough = if max > 0.0 { max / TICKS } else { 1.0 };
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

fn above(max: f64, step: f64) -> f64 {
    (max / step * (1.0 - 1e-9)).ceil().max(1.0) * step
}

fn ticks(max: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |number| f64::from(number) * step).take_while(move |value| *value <= max * (1.0 + 1e-9))
}

/// Short: 1.5k, 2M.
fn number(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{scaled:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text as it may stand in an element or an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML 1.0 has no other control characters.
            character if character.is_control() && !matches!(character, '\n' | '\t') => {
                escaped.push('\u{fffd}')
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{Panel, Series, above, escape, number, step, svg, ticks};

    #[test]
    fn text_cannot_end_its_element() {
        assert_eq!(escape("a<b> & \"c\" 'd'\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\u{fffd}");
        let series = vec![Series { name: "p99 < 5".to_owned(), points: vec![(0.0, 1.0), (10.0, 4.0)] }];
        let text = svg(&[Panel { title: "<script>".to_owned(), x_label: "a&b".to_owned(), series }]);
        assert!(text.contains("&lt;script&gt;") && text.contains("a&amp;b") && text.contains("p99 &lt; 5"));
        assert!(!text.contains("<script>"));
    }

    #[test]
    fn ticks_are_round_and_reach_above_the_highest() {
        for (max, expected_step, top) in
            [(9.0, 2.0, 10.0), (1_000_000.0, 200_000.0, 1_000_000.0), (0.31, 0.1, 0.4)]
        {
            assert!((step(max) - expected_step).abs() < 1e-9, "{max}: {}", step(max));
            assert!((above(max, step(max)) - top).abs() < 1e-9, "{max}");
        }
        assert_eq!(ticks(10.0, 2.0).count(), 6);
        assert_eq!(ticks(above(0.0, step(0.0)), step(0.0)).count(), 2);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.5, 7.0, 1500.0, 2e6].map(number), ["0", "0.5", "7", "1.5k", "2M"]);
    }
}
