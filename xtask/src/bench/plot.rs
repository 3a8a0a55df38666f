//! Line charts as SVG, side by side where a subject has panels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::bench::markdown::peers;
use crate::bench::record::Row;
use crate::bench::subjects::{Plot, Subject, heading, label};

/// The height of a plot area; its width where there are many panels, and where there is one.
const HEIGHT: f64 = 240.0;
const WIDTHS: [f64; 2] = [300.0, 520.0];
/// Room left of a panel's plot area, for its axis; above and below all of them.
const LEFT: f64 = 74.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = 62.0;
const RIGHT: f64 = 24.0;
/// Ours, then the peers.
const COLOURS: [&str; 4] = ["#0b6e99", "#d9730d", "#6b8e23", "#8a8a8a"];

/// Draws the subject, if it is drawn at all.
pub(super) fn draw(subject: &Subject, rows: &[&Row]) -> Option<String> {
    let plot = subject.plot.as_ref()?;
    let names: Vec<_> = std::iter::once("quorate").chain(peers(rows)).collect();
    let panels = panels(subject, plot, rows, &names);
    let wide = WIDTHS[usize::from(panels.len() == 1)];
    let width = panels.len() as f64 * (LEFT + wide) + RIGHT;
    let mut svg = Svg::new(width, TOP + HEIGHT + BOTTOM);
    svg.text(LEFT, 26.0, "start", "font-size=\"16\" font-weight=\"600\"", subject.title);
    legend(&names, &mut svg);
    for (n, (panel, lines)) in panels.iter().enumerate() {
        let all: Vec<f64> = match plot.linear {
            true => lines.iter().flatten().map(|point| point.1).collect(),
            false => panels.iter().flat_map(|p| p.1.iter().flatten()).map(|p| p.1).collect(),
        };
        let area = Area {
            left: LEFT + n as f64 * (LEFT + wide),
            width: wide,
            x: Axis::steps(&lines.iter().flatten().map(|point| point.0).collect::<Vec<_>>()),
            y: if plot.linear { Axis::linear(&all) } else { Axis::log(&all) },
        };
        area.frame(label(plot.x), (n == 0).then_some(subject.unit), &mut svg);
        if let (Some(param), Some(value)) = (plot.panel, panel) {
            svg.text(area.left + wide / 2.0, TOP - 8.0, "middle", "", &heading(param, *value));
        }
        for (at, line) in lines.iter().enumerate().rev() {
            area.line(line, COLOURS[at % COLOURS.len()], at == 0, &mut svg);
        }
    }
    Some(svg.finish())
}

/// The points of one line, by x.
type Line = Vec<(f64, f64)>;

/// For each value of the panel's parameter, one line a name.
fn panels(
    subject: &Subject,
    plot: &Plot,
    rows: &[&Row],
    names: &[&str],
) -> Vec<(Option<u64>, Vec<Line>)> {
    let place = |param| subject.params.iter().position(|name| *name == param);
    let (x, panel) = (place(plot.x), plot.panel.and_then(place));
    let mut panels: BTreeMap<Option<u64>, Vec<BTreeMap<u64, f64>>> = BTreeMap::new();
    for row in rows {
        let Some(x) = x.map(|at| row.params[at]) else { continue };
        let lines = panels.entry(panel.map(|at| row.params[at])).or_default();
        lines.resize(names.len(), BTreeMap::new());
        lines[0].insert(x, row.ours);
        if let Some(beside) = &row.beside
            && let Some(at) = names.iter().position(|name| *name == beside.peer)
        {
            lines[at].insert(x, beside.theirs);
        }
    }
    let line = |line: BTreeMap<u64, f64>| line.into_iter().map(|(x, y)| (x as f64, y)).collect();
    panels
        .into_iter()
        .map(|(value, lines)| (value, lines.into_iter().map(line).collect()))
        .collect()
}

fn legend(names: &[&str], svg: &mut Svg) {
    let mut x = LEFT;
    for (at, name) in names.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        svg.segment((x, 50.0), (x + 22.0, 50.0), colour, if at == 0 { 2.6 } else { 1.8 });
        svg.point((x + 11.0, 50.0), colour);
        svg.text(x + 29.0, 54.5, "start", "", name);
        x += 29.0 + 7.2 * name.chars().count() as f64 + 22.0;
    }
}

/// A scale from values to a share of the plot area, and where its ticks stand.
struct Axis {
    log: bool,
    ends: (f64, f64),
    ticks: Vec<f64>,
}

impl Axis {
    /// The values themselves are the ticks; logarithmic where they span much.
    fn steps(values: &[f64]) -> Self {
        let mut ticks = values.to_vec();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
        Self { log: last > 10.0 * first, ends: (first, last), ticks }
    }

    /// From zero to a round number.
    fn linear(values: &[f64]) -> Self {
        let top = values.iter().copied().fold(0.0, f64::max);
        let rough = top / 4.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let count = (top / step).ceil() as usize;
        let ticks = (0..=count).map(|n| n as f64 * step).collect();
        Self { log: false, ends: (0.0, count as f64 * step), ticks }
    }

    /// Over whole powers of ten, or their halves where there are few.
    fn log(values: &[f64]) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let top = values.iter().copied().fold(0.0, f64::max);
        let decades = least.log10().floor() as i32..=top.log10().floor() as i32 + 1;
        let all: Vec<f64> =
            decades.flat_map(|power| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(power))).collect();
        let first = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
        let last = all.iter().position(|tick| *tick >= top).unwrap_or(all.len() - 1);
        let last = last.max(first + 1).min(all.len() - 1);
        let mut ticks = all[first..=last].to_vec();
        if ticks.len() > 8 {
            let whole = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
            ticks.retain(whole);
        }
        Self { log: true, ends: (all[first], all[last]), ticks }
    }

    fn share(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.log { v.log10() } else { v };
        let (first, last) = (scale(self.ends.0), scale(self.ends.1));
        if first == last { 0.5 } else { (scale(value) - first) / (last - first) }
    }
}

/// Where one panel is drawn.
struct Area {
    left: f64,
    width: f64,
    x: Axis,
    y: Axis,
}

impl Area {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        // Points stand off the sides, so that none is cut.
        let inner = self.width - 32.0;
        let along = self.left + 16.0 + inner * self.x.share(x);
        (along, TOP + HEIGHT * (1.0 - self.y.share(y)))
    }

    /// Grid, ticks, axis titles.
    fn frame(&self, x_title: &str, y_title: Option<&str>, svg: &mut Svg) {
        let (right, bottom) = (self.left + self.width, TOP + HEIGHT);
        for tick in &self.y.ticks {
            let (_, y) = self.place((self.x.ends.0, *tick));
            svg.segment((self.left, y), (right, y), "#e4e4e4", 1.0);
            svg.text(self.left - 8.0, y + 4.0, "end", "fill=\"#555\"", &short(*tick));
        }
        for tick in &self.x.ticks {
            let (x, _) = self.place((*tick, self.y.ends.1));
            svg.segment((x, bottom), (x, bottom + 5.0), "#555", 1.0);
            svg.text(x, bottom + 20.0, "middle", "fill=\"#555\"", &short(*tick));
        }
        svg.segment((self.left, bottom), (right, bottom), "#555", 1.0);
        svg.segment((self.left, TOP), (self.left, bottom), "#555", 1.0);
        svg.text((self.left + right) / 2.0, bottom + 44.0, "middle", "", x_title);
        if let Some(title) = y_title {
            let (x, y) = (self.left - 54.0, TOP + HEIGHT / 2.0);
            let turn = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
            svg.text(x, y, "middle", &turn, title);
        }
    }

    fn line(&self, line: &Line, colour: &str, ours: bool, svg: &mut Svg) {
        let points: Vec<_> = line.iter().map(|point| self.place(*point)).collect();
        for pair in points.windows(2) {
            svg.segment(pair[0], pair[1], colour, if ours { 2.6 } else { 1.8 });
        }
        points.iter().for_each(|point| svg.point(*point, colour));
    }
}

/// `1500` as `1.5k`.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let digits = format!("{scaled:.2}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// An SVG document on its way.
struct Svg(String);

impl Svg {
    fn new(width: f64, height: f64) -> Self {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12.5\">"
        );
        let _ = writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
        Self(out)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, more: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let space = if more.is_empty() { "" } else { " " };
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{space}{more}>{text}</text>"
        );
    }

    fn segment(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" stroke-linecap=\"round\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn point(&mut self, (x, y): (f64, f64), colour: &str) {
        let _ =
            writeln!(self.0, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\" fill=\"{colour}\"/>");
    }

    fn finish(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_starts_at_zero_and_ends_at_a_round_number_above_all() {
        let axis = Axis::linear(&[350.0, 720.0]);
        assert_eq!(axis.ticks, [0.0, 200.0, 400.0, 600.0, 800.0]);
        assert_eq!((axis.share(0.0), axis.share(800.0)), (0.0, 1.0));
    }

    #[test]
    fn a_log_axis_holds_all_values_and_labels_few_ticks() {
        for values in [&[8.0, 2900.0][..], &[870.0, 12_000.0], &[5.0], &[100.0], &[0.02, 4e6]] {
            let axis = Axis::log(values);
            for value in values {
                assert!((0.0..=1.0).contains(&axis.share(*value)), "{values:?} {:?}", axis.ends);
            }
            assert!((2..=9).contains(&axis.ticks.len()), "{:?}", axis.ticks);
        }
    }

    #[test]
    fn ticks_are_short() {
        let cases =
            [(0.0, "0"), (2.5, "2.5"), (1000.0, "1000"), (20_000.0, "20k"), (1.5e6, "1.5M")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(1.0, 1.0);
        svg.text(0.0, 0.0, "start", "", "a<b & c");
        assert!(svg.finish().contains(">a&lt;b &amp; c</text>"));
    }
}
