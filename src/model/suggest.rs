//! "Did you mean …?"

/// Returns the candidate nearest to `given`, if one is near enough to have been meant.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // With a third of the letters wrong it is a slip; with more it is another word.
    let limit = (given.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_and_other_words_left_alone() {
        let profiles = ["base", "claude", "core", "dev", "docker"];
        for (given, meant) in [
            ("cor", Some("core")),
            ("dokcer", Some("docker")),
            ("Core", Some("core")),
            ("dve", Some("dev")),
            ("kubernetes", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(did_you_mean(given, profiles), meant, "{given}");
        }
    }
}
