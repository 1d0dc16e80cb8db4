//! "Did you mean …?"

/// Returns the candidate nearest to `given`, if one is near enough to have been meant, or the only one that `given` abbreviates.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    nearest(given, &candidates).or_else(|| abbreviated(given, &candidates))
}

fn nearest<'a>(given: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // With a third of the letters wrong it is a slip; with more it is another word.
    let limit = (given.chars().count() / 3).max(1);
    let distances =
        candidates.iter().map(|candidate| (strsim::damerau_levenshtein(given, candidate), *candidate));
    let near =
        distances.filter(|(distance, candidate)| *distance <= limit && *distance < candidate.chars().count());
    near.min().map(|(_, candidate)| candidate)
}

fn abbreviated<'a>(given: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let mut longer = candidates.iter().filter(|candidate| candidate.starts_with(given));
    match (longer.next(), longer.next()) {
        (Some(only), None) if given.chars().count() > 1 => Some(only),
        _ => None,
    }
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
            ("doc", Some("docker")),
            ("cl", Some("claude")),
            ("kubernetes", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(did_you_mean(given, profiles), meant, "{given}");
        }
        assert_eq!(did_you_mean("mem", ["memory", "memory-max"]), None, "it may be either");
    }
}
