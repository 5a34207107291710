//! A finished figure, and the words of SVG.

use std::fmt::Write;

use super::theme;

/// Width of every figure in SVG units; a unit is a pixel on a phone.
pub const WIDTH: f64 = 360.0;

/// Size of the text in a figure, as in `figure.css`.
pub const TEXT: f64 = 11.0;

/// The rules for what is inside a figure.
pub const CSS: &str = include_str!("figure.css");

/// A drawn figure.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Name of its file and, behind `figure-`, its anchor: letters, digits and hyphens.
    pub name: String,
    /// What a screen reader says.
    pub label: String,
    /// The sentence below it.
    pub caption: String,
    /// Height in SVG units.
    pub height: f64,
    /// The marks, as SVG.
    pub body: String,
}

impl Figure {
    /// The figure for an HTML page that has the theme and [`CSS`].
    pub fn inline(&self) -> String {
        let svg = self.svg("");
        let caption = if self.caption.is_empty() { self.label.as_str() } else { self.caption.as_str() };
        format!("<figure id=\"figure-{}\">\n{svg}<figcaption>{}</figcaption>\n</figure>\n", self.name, escape(caption))
    }

    /// The figure as a file of its own. Variables are replaced by their values: few programs but browsers know them.
    pub fn standalone(&self) -> String {
        let style = theme::resolved(&format!("svg {{ background: var(--paper); }}\n{CSS}"));
        let svg = self.svg(" xmlns=\"http://www.w3.org/2000/svg\"");
        svg.replacen('>', &format!(">\n<style>\n{style}</style>"), 1)
    }

    fn svg(&self, attributes: &str) -> String {
        let (width, height, label) = (number(WIDTH), number(self.height), escape(&self.label));
        format!(
            "<svg{attributes} class=\"plot\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\">\n{}</svg>\n",
            self.body
        )
    }
}

/// Text for HTML and XML, in elements and in quoted attributes. What XML cannot hold becomes a replacement character.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            _ if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

/// A name made of letters, digits and hyphens, for anchors and files; never empty.
pub fn slug(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let words: Vec<String> = text.chars().map(kept).collect::<String>().split('-').map(str::to_owned).collect();
    let slug = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "unnamed".into() } else { slug.chars().take(80).collect() }
}

/// A coordinate with up to two decimals.
pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// Roughly how wide a text of [`TEXT`] size is; there is no font to ask.
pub fn text_width(text: &str) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | ' ' | '.' | ',' | ':' | '-' | '|' | '\'' => 0.34,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.9,
        _ if c.is_ascii_uppercase() => 0.68,
        _ if c.is_ascii() => 0.57,
        // Wide scripts.
        _ if c >= '\u{1100}' => 1.0,
        _ => 0.62,
    };
    text.chars().map(em).sum::<f64>() * TEXT
}

/// A text cut to a width, with an ellipsis.
pub fn shortened(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.into();
    }
    let mut short = String::new();
    for character in text.chars() {
        if text_width(&short) + 2.0 * TEXT > width {
            break;
        }
        short.push(character);
    }
    format!("{short}…")
}

/// One line of text; `class` chooses anchor and weight in `figure.css`.
pub fn text(out: &mut String, class: &str, [x, y]: [f64; 2], words: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", number(x), number(y), escape(words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_files_cannot_leave_its_place() {
        assert_eq!(escape("<script>\"&'"), "&lt;script&gt;&quot;&amp;&#39;");
        assert_eq!(escape("a\u{0}b\u{1b}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(slug("../../Etc/<b>"), "etc-b");
        assert_eq!(slug("..."), "unnamed");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([1.0, 0.5, 1.239, -0.001, 100.0].map(number), ["1", "0.5", "1.24", "0", "100"]);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shortened("short", 100.0), "short");
        let cut = shortened(&"long ".repeat(50), 100.0);
        assert!(cut.ends_with('…') && text_width(&cut) <= 100.0, "{cut}");
    }

    #[test]
    fn a_file_of_its_own_has_no_variables_left() {
        let figure = Figure { name: "a".into(), label: "l".into(), caption: String::new(), height: 10.0, body: String::new() };
        let alone = figure.standalone();
        assert!(alone.contains("<style>") && alone.contains("xmlns=") && !alone.contains("var("), "{alone}");
        assert!(!figure.inline().contains("http"));
    }
}
