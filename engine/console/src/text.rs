//! How ids and moments are written for people.

/// The first twelve digits.
pub(crate) fn short(id: &str) -> String {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    bare.get(..12).unwrap_or(bare).to_owned()
}

/// What the kernel says, as Go writes it.
pub(crate) fn errno(error: &std::io::Error) -> String {
    let text = error.to_string();
    let sentence = text.split(" (os error").next().unwrap_or(&text);
    sentence.to_lowercase()
}

/// Seconds since then as docker says them, with "ago".
pub(crate) fn since(then: i64) -> String {
    format!(
        "{} ago",
        strata_template::elapsed(jiff::Timestamp::now().as_second() - then)
    )
}

/// A moment as Go prints it: `2026-01-02 03:04:05 +0000 UTC`.
pub(crate) fn moment(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = time.to_string();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_cut() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
