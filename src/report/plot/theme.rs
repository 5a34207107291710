//! The colours of page and figures, by name, for light and for dark.

/// Number of colours for series and classes.
pub const COLOURS: usize = 10;

/// Name, light, dark. `k0` to `k9` tell series and classes apart: Okabe and Ito's colours with the yellow darkened for white paper, and a
/// brown and a grey; in the dark, lighter ones of the same hues.
const VARIABLES: [(&str, &str, &str); 17] = [
    ("paper", "#ffffff", "#14171a"),
    ("panel", "#f6f7f8", "#1d2125"),
    ("ink", "#1a1d21", "#e6e8ea"),
    ("soft", "#5a626b", "#a3abb3"),
    ("grid", "#e4e7ea", "#2c3238"),
    ("link", "#0b5c94", "#7cc0ee"),
    ("alarm", "#a33a00", "#ff9d66"),
    ("k0", "#0072b2", "#4aa8e0"),
    ("k1", "#d55e00", "#f5853b"),
    ("k2", "#009e73", "#2cc79b"),
    ("k3", "#b8578f", "#dd92bd"),
    ("k4", "#a98600", "#e3c84a"),
    ("k5", "#3fa3dc", "#9ad4f5"),
    ("k6", "#7a4a21", "#c29a72"),
    ("k7", "#6b7078", "#9aa1a9"),
    ("k8", "#5b3d9e", "#a993e6"),
    ("k9", "#e39a00", "#ffc04d"),
];

/// The style sheet that defines the variables: light, and dark on screens that ask for it. Paper is always light.
pub fn css() -> String {
    let list = |pick: fn(&(&str, &str, &str)) -> String| VARIABLES.iter().map(pick).collect::<String>();
    let light = list(|(name, light, _)| format!("--{name}: {light}; "));
    let dark = list(|(name, _, dark)| format!("--{name}: {dark}; "));
    format!(":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n")
}

/// A style sheet with the light values in place of the variables.
pub fn resolved(css: &str) -> String {
    VARIABLES.iter().fold(css.to_owned(), |css, (name, light, _)| css.replace(&format!("var(--{name})"), light))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_marks_stand_out_from_their_ground() {
        let [paper, panel, ..] = VARIABLES;
        for (name, light, dark) in VARIABLES {
            let least = match name {
                "paper" | "panel" | "grid" => continue,
                "k5" | "k9" => 2.3,
                _ if name.starts_with('k') => 3.0,
                _ => 4.5,
            };
            for ground in [paper, panel] {
                assert!(contrast(light, ground.1) >= least * 0.95, "{name} light {}", contrast(light, ground.1));
                assert!(contrast(dark, ground.2) >= least * 0.95, "{name} dark {}", contrast(dark, ground.2));
            }
        }
    }
}
