//! For tests: whether everything in a picture lies within its frame and no words lie over others.

/// Where a piece of text is.
#[derive(Debug)]
struct Words {
    text: String,
    left: f64,
    right: f64,
    /// Of the letters without ascenders, the line that they stand on.
    base: f64,
    size: f64,
}

/// An average letter of a wide sans-serif font, of its height.
const LETTER: f64 = 0.56;

/// Panics if in some picture of this page a piece of text overlaps another one or leaves the frame,
/// or a shape does.
pub(crate) fn assert_readable(html: &str) {
    let pictures = html.split("<svg ").skip(1).map(|rest| rest.split("</svg>").next().unwrap());
    let mut seen = 0;
    for picture in pictures {
        seen += 1;
        let frame = attribute(picture, "viewBox").unwrap();
        let frame: Vec<f64> = frame.split(' ').map(|number| number.parse().unwrap()).collect();
        let (left, top, right, bottom) = (frame[0], frame[1], frame[0] + frame[2], frame[1] + frame[3]);
        let words = words(picture);
        for word in &words {
            let inside = left <= word.left + 0.5
                && word.right <= right + 0.5
                && top <= word.base - word.size * 0.8
                && word.base + word.size * 0.2 <= bottom + 0.5;
            assert!(inside, "{}: {word:?} leaves its frame {frame:?}", word.text);
        }
        for (at, one) in words.iter().enumerate() {
            for other in &words[at + 1..] {
                let apart = one.right <= other.left
                    || other.right <= one.left
                    || (one.base - other.base).abs() >= one.size.max(other.size) * 0.9;
                assert!(apart, "{} lies over {}: {one:?}, {other:?}", one.text, other.text);
            }
        }
        for tag in ["<rect ", "<line ", "<circle "] {
            for shape in picture.split(tag).skip(1).map(|rest| rest.split('>').next().unwrap()) {
                let number = |name: &str| attribute(shape, name).and_then(|value| value.parse::<f64>().ok());
                for x in ["x", "x1", "x2", "cx"].iter().filter_map(|name| number(name)) {
                    let end = x + number("width").unwrap_or(0.0);
                    // Groups that are moved are looked at where they are drawn.
                    assert!(
                        picture.contains("translate") || (left <= x && end <= right + 0.5),
                        "{shape} leaves {frame:?}"
                    );
                }
                for y in ["y", "y1", "y2", "cy"].iter().filter_map(|name| number(name)) {
                    let end = y + number("height").unwrap_or(0.0);
                    assert!(
                        picture.contains("translate") || (top <= y && end <= bottom + 0.5),
                        "{shape} leaves {frame:?}"
                    );
                }
            }
        }
    }
    assert!(seen > 0, "there is no picture");
}

fn attribute<'s>(tag: &'s str, name: &str) -> Option<&'s str> {
    let tag = tag.split('>').next()?;
    let at = tag.find(&format!(" {name}=\"")).map(|at| at + name.len() + 3);
    let at = at.or_else(|| tag.starts_with(&format!("{name}=\"")).then_some(name.len() + 2))?;
    tag[at..].split('"').next()
}

fn words(picture: &str) -> Vec<Words> {
    let mut found = Vec::new();
    let mut moved = (0.0, 0.0);
    for line in picture.split('<').skip(1) {
        if let Some(transform) = attribute(line, "transform").filter(|_| line.starts_with("g ")) {
            let numbers = transform.trim_start_matches("translate(").trim_end_matches(')');
            let mut numbers = numbers.split([' ', ',']).map(|number| number.parse().unwrap());
            moved = (numbers.next().unwrap(), numbers.next().unwrap_or(0.0));
        }
        if line.starts_with("/g>") {
            moved = (0.0, 0.0);
        }
        if !line.starts_with("text ") {
            continue;
        }
        let number = |name: &str| attribute(line, name).and_then(|value| value.parse::<f64>().ok());
        let (Some(x), Some(base)) = (number("x"), number("y")) else { continue };
        let text = line.split('>').nth(1).unwrap_or("").replace("&amp;", "&").replace("&lt;", "<");
        let size = number("font-size").unwrap_or(12.0);
        assert!(size >= 11.0, "{text} is too small to read");
        let wide = text.chars().count() as f64 * size * LETTER;
        let left = match attribute(line, "text-anchor") {
            Some("middle") => x - wide / 2.0,
            Some("end") => x - wide,
            _ => x,
        };
        found.push(Words {
            text,
            left: left + moved.0,
            right: left + wide + moved.0,
            base: base + moved.1,
            size,
        });
    }
    found
}

#[test]
fn what_is_wrong_is_seen() {
    let fails = |inside: &str| {
        let page = format!("<svg viewBox=\"0 0 100 50\">{inside}</svg>");
        std::panic::catch_unwind(|| assert_readable(&page)).is_err()
    };
    assert!(!fails("<text x=\"5\" y=\"20\">word</text><text x=\"60\" y=\"20\">word</text>"));
    assert!(fails("<text x=\"5\" y=\"20\">word</text><text x=\"20\" y=\"22\">word</text>"));
    assert!(fails("<text x=\"90\" y=\"20\">word</text>"));
    assert!(fails("<text x=\"5\" y=\"4\">word</text>"));
    assert!(fails("<text x=\"5\" y=\"20\" font-size=\"8\">word</text>"));
    assert!(fails("<rect x=\"5\" y=\"20\" width=\"100\" height=\"4\"/>"));
    assert!(fails("<g transform=\"translate(80 0)\"><text x=\"5\" y=\"20\">word</text></g>"));
}
