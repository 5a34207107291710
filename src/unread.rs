//! One rule for every table of a config: a key that nothing reads under the other settings is refused where it is set, that is, where it
//! differs from its default. A default is never refused.

/// Collects the refusals of one table.
pub struct Unread<'a> {
    at: &'a str,
    out: &'a mut Vec<String>,
}

/// What stands between the key and the reason.
const SET: &str = "` is set, but ";

/// The key of a refusal, if a line is one.
pub fn key_of(line: &str) -> Option<&str> {
    line.strip_prefix('`')?.split_once(SET).map(|(key, _)| key)
}

impl<'a> Unread<'a> {
    /// For the table at the path `at`; refusals go to `out`, one line each.
    pub fn of(at: &'a str, out: &'a mut Vec<String>) -> Self {
        Self { at, out }
    }

    /// Refuses `key` if it is `set` and not `read`: `because` says what keeps it from being read, `hint` what to do.
    pub fn key(&mut self, key: &str, set: bool, read: bool, because: &str, hint: &str) {
        if set && !read {
            self.out.push(format!("`{}.{key}{SET}{because}; {hint}", self.at));
        }
    }

    /// Refuses `key` if it is `set` and the variant `own`, which `tag` names, is none of its `readers`.
    pub fn variant(&mut self, key: &str, set: bool, tag: &str, own: &str, readers: &[&str]) {
        let because = format!("`{}.{tag}` = {own} does not read it", self.at);
        self.key(key, set, readers.contains(&own), &because, &format!("leave it out, or choose {}", readers.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_and_unread_is_refused_in_one_wording() {
        let mut out = Vec::new();
        let mut table = Unread::of("mixture", &mut out);
        table.variant("beta", true, "name", "im", &["unmix"]);
        table.variant("beta", false, "name", "im", &["unmix"]);
        table.variant("beta", true, "name", "unmix", &["unmix"]);
        table.key("anchor", true, false, "no method reads it", "leave it out");
        assert_eq!(
            out,
            [
                "`mixture.beta` is set, but `mixture.name` = im does not read it; leave it out, or choose unmix",
                "`mixture.anchor` is set, but no method reads it; leave it out",
            ]
        );
        assert_eq!(out.iter().filter_map(|line| key_of(line)).collect::<Vec<_>>(), ["mixture.beta", "mixture.anchor"]);
        assert_eq!(key_of("`data.batch` is 0, must be at least 1"), None);
    }
}
