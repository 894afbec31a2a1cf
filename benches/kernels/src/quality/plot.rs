//! Line charts as small SVG files.

use std::fmt::Write as _;

const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;
const COLOURS: [&str; 7] = ["#c2410c", "#1d4ed8", "#0891b2", "#15803d", "#7c3aed", "#64748b", "#be185d"];
/// Lines that lie on each other are seen through the gaps of the upper one.
const DASHES: [&str; 7] = ["none", "8 3", "none", "2 3", "8 3", "none", "4 2"];

pub struct Chart<'a> {
    pub title: &'a str,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub lines: Vec<Line>,
}

pub struct Axis<'a> {
    pub label: &'a str,
    pub from: f64,
    pub to: f64,
    pub step: f64,
}

/// Ours comes first and is drawn thicker, on top.
pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

impl Chart<'_> {
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" fill=\"#1f2937\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            self.title
        );
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.x.ticks() {
            let x = self.x_at(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#e5e7eb\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                bottom + 17.0
            );
        }
        for tick in self.y.ticks() {
            let y = self.y_at(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e5e7eb\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                round(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 10.0,
            self.x.label,
            (TOP + bottom) / 2.0,
            self.y.label
        );
        for (at, line) in self.lines.iter().enumerate().rev() {
            let colour = COLOURS[at % COLOURS.len()];
            let dashes = DASHES[at % DASHES.len()];
            let width = if at == 0 { 2.5 } else { 1.4 };
            let mut points = String::new();
            let is_seen = |(x, y): &&(f64, f64)| self.x.has(*x) && y.is_finite();
            for &(x, y) in line.points.iter().filter(is_seen) {
                let _ = write!(points, "{:.1},{:.1} ", self.x_at(x), self.y_at(y));
            }
            let y = TOP + 10.0 + at as f64 * 19.0;
            let _ = writeln!(
                svg,
                "<g fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\">\
                 <polyline points=\"{}\"/><path d=\"M{:.1} {y:.1}h24\"/></g>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                points.trim_end(),
                right + 12.0,
                right + 40.0,
                y + 4.0,
                line.label
            );
        }
        svg + "</svg>\n"
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.part(value) * (WIDTH - RIGHT - LEFT)
    }

    fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(value) * (HEIGHT - BOTTOM - TOP)
    }
}

impl Axis<'_> {
    fn has(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }

    fn part(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (from, step) = (self.from, self.step);
        let count = ((self.to - from) / step + 1e-9) as usize;
        (0..=count).map(move |n| from + n as f64 * step)
    }
}

/// Without the dirt of binary fractions.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
