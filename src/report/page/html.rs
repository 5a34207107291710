//! HTML that cannot be confused with text: what comes from files enters as text and is escaped on the way.

use crate::report::plot::figure::escape;

/// A piece of HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Html(String);

impl Html {
    /// Text; markup in it is shown, not followed.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self(escape(text.as_ref()))
    }

    /// Markup as it is: written in this program, or put together from pieces that are escaped.
    pub fn markup(markup: impl Into<String>) -> Self {
        Self(markup.into())
    }

    /// An element around it; `opening` is the tag's name with its attributes.
    #[must_use]
    pub fn within(self, opening: &str) -> Self {
        let name = opening.split(' ').next().unwrap_or(opening);
        Self(format!("<{opening}>{}</{name}>", self.0))
    }

    /// Another piece behind it.
    #[must_use]
    pub fn and(mut self, next: Self) -> Self {
        self.0.push_str(&next.0);
        self
    }

    /// Appends a piece.
    pub fn push(&mut self, next: Self) {
        self.0.push_str(&next.0);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markup.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Html>>(pieces: I) -> Self {
        pieces.into_iter().fold(Self::default(), Self::and)
    }
}

/// A paragraph of text.
pub fn paragraph(text: impl AsRef<str>) -> Html {
    Html::text(text).within("p")
}

/// Something to type.
pub fn code(text: impl AsRef<str>) -> Html {
    Html::text(text).within("code")
}

/// A value with a smaller line below it.
pub fn noted(value: impl AsRef<str>, note: impl AsRef<str>) -> Html {
    let note = note.as_ref();
    let below = if note.is_empty() { Html::default() } else { Html::text(note).within("small") };
    Html::text(value).and(below)
}

/// A table in a box of its own, which scrolls where the page is too narrow. The first cell of a row is its heading.
pub fn table(label: &str, head: &[&str], rows: impl IntoIterator<Item = Vec<Html>>) -> Html {
    let head: Html = head.iter().map(|cell| Html::text(cell).within("th scope=\"col\"")).collect();
    let row = |cells: Vec<Html>| {
        let cells = cells.into_iter().enumerate();
        let row: Html = cells.map(|(at, cell)| cell.within(if at == 0 { "th scope=\"row\"" } else { "td" })).collect();
        row.within("tr")
    };
    let body: Html = rows.into_iter().map(row).collect();
    let table = head.within("tr").within("thead").and(body.within("tbody")).within("table");
    table.within(&format!("div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"", escape(label)))
}

/// A list of words and what they mean.
pub fn definitions(pairs: impl IntoIterator<Item = (String, Html)>) -> Html {
    let pair = |(word, meaning): (String, Html)| Html::text(word).within("dt").and(meaning.within("dd")).within("div");
    pairs.into_iter().map(pair).collect::<Html>().within("dl")
}

/// A path or an argument as a shell takes it.
pub fn shell(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let table = table("a\"b", &["<i>"], [vec![Html::text("<script>")]]);
        assert!(
            table.as_str().contains("&lt;script&gt;") && table.as_str().contains("a&quot;b") && !table.as_str().contains("<i>")
        );
        assert_eq!(shell("a b'c"), "'a b'\\''c'");
        assert_eq!(shell("runs/x-1"), "runs/x-1");
    }
}
