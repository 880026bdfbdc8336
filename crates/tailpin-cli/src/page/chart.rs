//! Charts in plain SVG, each drawn twice: for a page that is wide, and for one as narrow as a
//! phone.

use std::fmt::Write;

use super::axis::{Axis, Scale, Unit};
use super::escaped;

/// Letters are 12 px high; no letter of a usual font is wider than this on average.
const LETTER: f64 = 7.0;
const HEIGHT: f64 = 200.0;
/// Room for the ticks below.
const BELOW: f64 = 22.0;
/// Half a letter's height, above the highest tick.
const ABOVE: f64 = 8.0;

/// The two sizes that a chart is drawn in: class and width.
const SIZES: [(&str, f64); 2] = [("wide", 860.0), ("narrow", 358.0)];

/// Colours of the page's style sheet, for curves in their order; the dashes tell those apart that
/// follow.
const COLOURS: [&str; 7] = ["blue", "orange", "green", "violet", "red", "grey", "pale"];

/// The colour of the `at`th of several curves.
#[cfg(feature = "bench")]
pub(crate) fn nth_colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

/// From a value to its place, from 0 to 1.
type Position = Box<dyn Fn(f64) -> f64>;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A value holds until the next one; the ground below is filled.
    Area,
    /// A value holds until the next one.
    Steps,
    /// Values with lines between them.
    Line,
    /// Values alone.
    Dots,
}

/// One curve. Points are in the order of x.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// A colour of the style sheet.
    pub(crate) colour: &'static str,
    pub(crate) shape: Shape,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What stands at the lower edge.
#[derive(Clone, Debug)]
pub(crate) enum Below {
    /// From zero up.
    Linear(Unit, f64),
    /// From the first value to the second.
    Logarithmic(Unit, f64, f64),
    /// Names; the x of a point is the number of its name.
    #[cfg(any(test, feature = "bench"))]
    Names(Vec<String>),
}

/// Curves over a common axis.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// What one sees in it.
    pub(crate) about: String,
    pub(crate) below: Below,
    pub(crate) unit: Unit,
    pub(crate) scale: Scale,
    pub(crate) curves: Vec<Curve>,
}

impl Chart {
    /// Title, chart, key and explanation.
    pub(crate) fn html(&self) -> String {
        let mut html = format!("<h3>{}</h3>\n<figure>\n", escaped(&self.title));
        for (class, width) in SIZES {
            html += &self.svg(class, width);
        }
        html += "<ul class=\"keys\">";
        for (at, curve) in self.curves.iter().enumerate() {
            let hollow = if is_dashed(at, curve) { " hollow" } else { "" };
            let _ = write!(
                html,
                "<li><span class=\"swatch{hollow}\" style=\"--is: var(--{})\"></span>{}</li>",
                curve.colour,
                escaped(&curve.name)
            );
        }
        let scale = match self.scale {
            Scale::Linear => "",
            Scale::Logarithmic => " The scale is logarithmic.",
        };
        let _ = writeln!(html, "</ul>\n<figcaption>{}{scale}</figcaption>\n</figure>", escaped(&self.about));
        html
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1))
    }

    fn svg(&self, class: &str, width: f64) -> String {
        let most = self.values().fold(0.0, f64::max);
        let side = match self.scale {
            Scale::Linear => Axis::linear(self.unit, most, 4),
            Scale::Logarithmic => {
                let least =
                    self.values().filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(most.max(1e-9));
                Axis::logarithmic(self.unit, least, most.max(least), 5)
            }
        };
        let labels = side.labels();
        let left =
            8.0 + LETTER * labels.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0) as f64;
        let (floor, ceiling) = (HEIGHT - BELOW, ABOVE);
        let room = (left, width - 14.0);
        let y = |value: f64| floor - (floor - ceiling) * side.place(value);
        let mut svg = format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(&self.title)
        );
        for (place, label) in labels {
            let at = floor - (floor - ceiling) * place;
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                room.1,
                left - 6.0,
                at + 4.0,
            );
        }
        let x = self.lower_edge(&mut svg, room);
        for (at, curve) in self.curves.iter().enumerate() {
            draw(&mut svg, curve, is_dashed(at, curve), &x, &y, (room.1, floor));
        }
        svg + "</svg>\n"
    }

    /// Draws the ticks below and gives the place of a value.
    fn lower_edge(&self, svg: &mut String, (left, right): (f64, f64)) -> impl Fn(f64) -> f64 + use<> {
        let wide = right - left;
        let (labels, place): (Vec<(f64, String)>, Position) = match &self.below {
            Below::Linear(unit, most) => {
                let axis = Axis::linear(*unit, *most, ((wide / 110.0) as usize).max(3));
                // The curves end with the last value, not with the last tick.
                let (end, most) = (axis.end(), most.max(f64::MIN_POSITIVE));
                let labels = axis.labels().into_iter().map(|(place, label)| (place * end / most, label));
                (labels.filter(|(place, _)| *place <= 1.0).collect(), Box::new(move |value| value / most))
            }
            Below::Logarithmic(unit, least, most) => {
                let axis = Axis::logarithmic(*unit, *least, *most, (wide / 70.0) as usize);
                (axis.labels(), Box::new(move |value| axis.place(value)))
            }
            #[cfg(any(test, feature = "bench"))]
            Below::Names(names) => {
                let count = names.len().max(1) as f64;
                // Where they would lie over each other, some are left out, never the last.
                let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
                let stride = ((LETTER * longest as f64 + 4.0) * count / wide).ceil().max(1.0) as usize;
                let shown = names.iter().enumerate().filter(|(at, _)| (names.len() - 1 - at) % stride == 0);
                let labels = shown.map(|(at, name)| ((at as f64 + 0.5) / count, name.clone()));
                (labels.collect(), Box::new(move |at| (at + 0.5) / count))
            }
        };
        for (place, label) in labels {
            let half = LETTER * label.chars().count() as f64 / 2.0;
            let at = (left + wide * place).clamp(half, (right + 14.0 - half).max(half));
            let _ = writeln!(
                svg,
                "<text class=\"soft\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - 5.0,
                escaped(&label)
            );
        }
        move |value| left + wide * place(value).clamp(0.0, 1.0)
    }
}

/// Whether a line is dashed: those for which the colours begin anew.
fn is_dashed(at: usize, curve: &Curve) -> bool {
    curve.shape == Shape::Line && at >= COLOURS.len()
}

fn draw(
    svg: &mut String,
    curve: &Curve,
    dashed: bool,
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
    (right, floor): (f64, f64),
) {
    let colour = curve.colour;
    let mut path = String::new();
    let mut before = None;
    for &(at, value) in &curve.points {
        let (at, value) = (x(at), y(value));
        let _ = match (curve.shape, before) {
            (Shape::Area, None) => write!(path, "M{at:.1} {floor:.1}V{value:.1}"),
            (_, None) => write!(path, "M{at:.1} {value:.1}"),
            (Shape::Line | Shape::Dots, Some(_)) => write!(path, "L{at:.1} {value:.1}"),
            // Nothing is written where nothing changes.
            (_, Some(same)) if same == value => Ok(()),
            (_, Some(_)) => write!(path, "H{at:.1}V{value:.1}"),
        };
        before = Some(value);
    }
    let dash = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    match curve.shape {
        Shape::Area => {
            let _ = writeln!(
                svg,
                "<path d=\"{path}H{right:.1}V{floor:.1}Z\" fill=\"var(--{colour})\" fill-opacity=\"0.5\" stroke=\"var(--{colour})\"/>"
            );
        }
        Shape::Steps => {
            let _ = writeln!(
                svg,
                "<path d=\"{path}H{right:.1}\" fill=\"none\" stroke=\"var(--{colour})\" stroke-width=\"1.5\"/>"
            );
        }
        Shape::Line => {
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"var(--{colour})\" stroke-width=\"2\"{dash}/>"
            );
        }
        Shape::Dots => {}
    }
    // A line of many points is a course, of few it is measurements.
    if curve.shape == Shape::Dots || (curve.shape == Shape::Line && curve.points.len() <= 8) {
        for &(at, value) in &curve.points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"var(--{colour})\"/>",
                x(at),
                y(value)
            );
        }
    }
}

/// One bar from its least to its most with a mark between.
#[derive(Clone, Debug)]
#[cfg(feature = "bench")]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) least: f64,
    pub(crate) middle: f64,
    pub(crate) most: f64,
}

/// Bars on a common logarithmic axis, with a tick at each round number.
#[cfg(feature = "bench")]
pub(crate) fn bars(title: &str, unit: Unit, bars: &[Bar]) -> String {
    let mut html = format!("<h3>{}</h3>\n<figure>\n", escaped(title));
    for (class, width) in SIZES {
        html += &bars_svg(title, unit, bars, class, width);
    }
    html + "</figure>\n"
}

#[cfg(feature = "bench")]
fn bars_svg(title: &str, unit: Unit, bars: &[Bar], class: &str, width: f64) -> String {
    let least = bars.iter().map(|bar| bar.least).fold(f64::MAX, f64::min).max(1e-3);
    let most = bars.iter().map(|bar| bar.most).fold(least, f64::max);
    let value = |bar: &Bar| unit.value(bar.middle);
    let letters = |text: &dyn Fn(&Bar) -> String| {
        bars.iter().map(|bar| text(bar).chars().count()).max().unwrap_or(0) as f64
    };
    let is_narrow = width < 500.0;
    // Where there is no room beside the bars, names stand above them.
    let (line, left) =
        if is_narrow { (38.0, 4.0) } else { (22.0, 10.0 + LETTER * letters(&|bar| bar.name.clone())) };
    let right = width - 10.0 - LETTER * letters(&value);
    let axis = Axis::logarithmic(unit, least, most, ((right - left) / 75.0) as usize);
    let x = |value: f64| left + (right - left) * axis.place(value);
    let floor = line * bars.len() as f64;
    let mut svg = format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {width} {:.1}\" role=\"img\" aria-label=\"{}\">\n",
        floor + BELOW,
        escaped(title)
    );
    for (place, label) in axis.labels() {
        let at = left + (right - left) * place;
        let half = LETTER * label.chars().count() as f64 / 2.0;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{floor:.1}\"/>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            at.clamp(half, width - half),
            floor + 16.0
        );
    }
    for (at, bar) in bars.iter().enumerate() {
        let top = line * at as f64;
        let (name, middle) = if is_narrow { (top + 13.0, top + 26.0) } else { (top + 15.0, top + 11.0) };
        let (from, to, mark) = (x(bar.least), x(bar.most), x(bar.middle));
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{name:.1}\">{}</text>\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" fill=\"var(--{})\"/>\
             <line x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"var(--ink)\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            escaped(&bar.name),
            middle - 6.0,
            (to - from).max(2.0),
            bar.colour,
            middle - 8.0,
            middle + 8.0,
            width - 4.0,
            middle + 4.0,
            value(bar)
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::frames::assert_readable;
    use super::{Below, Chart, Curve, Scale, Shape, Unit};

    fn chart(below: Below, unit: Unit, scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        let curve = Curve { name: "curve".into(), colour: "blue", shape: Shape::Area, points };
        Chart { title: "A & B".into(), about: "what it says".into(), below, unit, scale, curves: vec![curve] }
    }

    #[test]
    fn nothing_overlaps_whatever_is_drawn() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for unit in [Unit::Count, Unit::Bytes, Unit::Nanoseconds, Unit::Share] {
                for most in [1e-3, 0.4, 1.0, 3.0, 999.0, 42_773.0, 1.75e8, 4e12] {
                    for below in [
                        Below::Linear(Unit::Nanoseconds, 40.8e9),
                        Below::Linear(Unit::Nanoseconds, 3.0),
                        Below::Linear(Unit::Nanoseconds, 0.0),
                        Below::Logarithmic(Unit::Bytes, 64.0, 65_536.0),
                        Below::Names(
                            ["1 GiB", "4 GiB", "16 GiB", "64 GiB", "256 GiB"].map(Into::into).into(),
                        ),
                    ] {
                        let points = vec![(0.0, most / 1000.0), (1.0, most), (2.0, 0.0), (1e12, most / 3.0)];
                        assert_readable(&chart(below, unit, scale, points).html());
                    }
                }
            }
        }
        assert_readable(&chart(Below::Names(vec![]), Unit::Count, Scale::Linear, vec![]).html());
        assert_readable(&chart(Below::Names(vec![]), Unit::Count, Scale::Logarithmic, vec![]).html());
    }

    #[test]
    fn a_logarithmic_scale_is_said_to_be_one() {
        let html = |scale| chart(Below::Names(vec![]), Unit::Count, scale, vec![(0.0, 1.0)]).html();
        assert!(html(Scale::Logarithmic).contains("The scale is logarithmic."));
        assert!(!html(Scale::Linear).contains("logarithmic"));
    }

    #[cfg(feature = "bench")]
    #[test]
    fn bars_leave_room_for_their_names_and_values() {
        let bar = |name: &str, middle: f64| super::Bar {
            name: name.into(),
            colour: "blue",
            least: middle / 2.0,
            middle,
            most: middle * 20.0,
        };
        for middle in [0.02, 1.0, 21.7, 180.0, 3e5, 8e9] {
            let all =
                [bar("tailpin", middle), bar("buddy_system_allocator", middle * 7.0), bar("arc", middle)];
            assert_readable(&super::bars("pair, 2 threads", Unit::Nanoseconds, &all));
        }
    }
}
