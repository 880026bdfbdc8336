//! Pictures: bars beside each other, and lines over time. Readable in light and dark pages.

use std::fmt::Write;

const STYLE: &str = "<style>
text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1b1f24; } .paper { fill: #ffffff; } .head { font-weight: 600; } .soft { fill: #5b6571; }
.stock { fill: #e29a3a; } .ours { fill: #1f5fae; } .edge { stroke: #c3cad2; } .limit { stroke: #b3261e; stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 2; } .line.stock { stroke: #e29a3a; fill: none; } .line.ours { stroke: #1f5fae; fill: none; } .dead { stroke: #b3261e; stroke-width: 3; }
@media (prefers-color-scheme: dark) { text { fill: #e6e9ed; } .paper { fill: #14171b; } .soft { fill: #9aa4b0; } .stock { fill: #c47f26; } .ours { fill: #7db6f5; }
.edge { stroke: #39414b; } .limit, .dead { stroke: #ff8a80; } .line.stock { stroke: #c47f26; } .line.ours { stroke: #7db6f5; } }
</style>
";

const WIDTH: f64 = 760.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn file(height: f64, described: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n\
         {STYLE}<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n{body}</svg>\n",
        escaped(described).replace('"', "&quot;")
    )
}

fn text(body: &mut String, class: &str, x: f64, y: f64, anchor: &str, what: &str) {
    let what = escaped(what);
    let _ = writeln!(
        body,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{what}</text>"
    );
}

/// One bar.
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// What stands at its end.
    pub told: String,
    /// Whether it is this library's.
    pub ours: bool,
}

/// Bars of one scale under a title.
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// Panels below each other.
pub fn bars(panels: &[Panel]) -> String {
    let (mut body, mut y) = (String::new(), 8.0);
    for Panel { title, bars } in panels {
        text(&mut body, "head", 12.0, y + 18.0, "start", title);
        y += 28.0;
        let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            let width = (bar.value / most * 330.0).max(1.0);
            text(&mut body, "", 212.0, y + 15.0, "end", &bar.name);
            let class = if bar.ours { "ours" } else { "stock" };
            let _ = writeln!(
                body,
                "<rect class=\"{class}\" x=\"220\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"19\" rx=\"2\"/>"
            );
            text(&mut body, "soft", 228.0 + width, y + 15.0, "start", &bar.told);
            y += 25.0;
        }
        y += 8.0;
    }
    let told = |panel: &Panel| {
        let bars: Vec<String> = panel.bars.iter().map(|bar| format!("{}: {}", bar.name, bar.told)).collect();
        format!("{}: {}", panel.title, bars.join("; "))
    };
    file(y, &panels.iter().map(told).collect::<Vec<_>>().join(". "), &body)
}

/// A value over time.
pub struct Line {
    pub name: String,
    /// Seconds and values, in order.
    pub points: Vec<(f64, f64)>,
    pub ours: bool,
    /// Whether it ends because the process was killed.
    pub killed: bool,
}

/// Lines over time, with a limit that is told by its name.
pub fn lines(title: &str, limits: &[(f64, String)], lines: &[Line], unit: &str) -> String {
    let (left, right, top, bottom) = (64.0, 740.0, 40.0, 300.0);
    let mut body = String::new();
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let seconds = points().map(|(at, _)| *at).fold(0.1, f64::max) * 1.05;
    let most = points().map(|(_, value)| *value).chain(limits.iter().map(|(at, _)| *at)).fold(1.0, f64::max);
    let x = |at: f64| left + at / seconds * (right - left);
    let y = |value: f64| bottom - value / (most * 1.1) * (bottom - top);
    text(&mut body, "head", 12.0, 26.0, "start", title);
    let _ = writeln!(body, "<path class=\"edge\" d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\"/>");
    for (at, name) in limits {
        let _ = writeln!(body, "<path class=\"limit\" d=\"M{left} {:.1}H{right}\"/>", y(*at));
        text(&mut body, "soft", right, y(*at) - 5.0, "end", name);
    }
    for line in lines {
        let class = if line.ours { "ours" } else { "stock" };
        let path: Vec<String> =
            line.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = writeln!(body, "<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "));
        let Some((at, value)) = line.points.last().map(|(at, value)| (x(*at), y(*value))) else { continue };
        if line.killed {
            let _ = writeln!(
                body,
                "<path class=\"dead\" d=\"M{:.1} {:.1}l12 12m0 -12l-12 12\"/>",
                at - 6.0,
                value - 6.0
            );
        }
    }
    for (i, line) in lines.iter().enumerate() {
        let (class, at) = (if line.ours { "ours" } else { "stock" }, bottom + 34.0 + 22.0 * i as f64);
        let _ = writeln!(
            body,
            "<rect class=\"{class}\" x=\"{left}\" y=\"{}\" width=\"14\" height=\"6\"/>",
            at - 8.0
        );
        text(&mut body, "", left + 22.0, at, "start", &line.name);
    }
    text(&mut body, "soft", right, bottom + 16.0, "end", &format!("{seconds:.1} s"));
    text(&mut body, "soft", left - 6.0, bottom, "end", &format!("0 {unit}"));
    let told: Vec<&str> = lines.iter().map(|line| &*line.name).collect();
    file(bottom + 22.0 + 22.0 * lines.len() as f64, &format!("{title}: {}", told.join("; ")), &body)
}
