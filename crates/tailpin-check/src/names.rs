//! Names of scenarios and hazards, and those that were perhaps meant by one that does not exist.

use crate::safeguards::Safeguard;
use crate::suite::{Check, Selection};

/// Hazards that docs/races.md names and no scenario shows, and why.
pub const NOT_SHOWN: [(&str, &str); 3] = [
    ("H17", "it is H6 seen from the other side: --hazard H6 shows it"),
    (
        "H22",
        "there is no list of pages whose split was put off, so none can be wrong; --hazard H30 shows what such a list loses",
    ),
    (
        "W17",
        "what goes wrong needs a thread that sleeps through 64 lives of a frame, too many to explore; the test \
         tests/it/rest.rs of the crate tailpin stages it, with the step and without",
    ),
];

/// What the same checker explores of a crate that stands beside this one, and the command that runs
/// it in a checkout.
pub const ELSEWHERE: [(&str, &str); 2] = [
    (
        "a request that waits for pages of an arena's budget; the last page or handle takes the arena down",
        "cargo test -p tailpin-arena --lib budget::model",
    ),
    (
        "bytes pinned by their address beside the drop of the whole",
        "cargo test -p tailpin-arena --lib repin::model",
    ),
];

/// Most names that are offered for one that does not exist.
const OFFERED: usize = 5;

/// Every scenario, each once, in the order in which they run.
pub fn scenarios() -> Vec<Check> {
    let mut seen = Vec::new();
    let mut checks = Selection::default().checks();
    checks.retain(|check| {
        let new = !seen.contains(&check.scenario);
        seen.push(check.scenario);
        new
    });
    checks
}

/// Why a selection has no checks, with the names that were perhaps meant.
pub fn why_nothing(selection: &Selection) -> String {
    if let Some(hazard) = &selection.hazard
        && !Safeguard::ALL.iter().any(|&safeguard| selection.wants(safeguard))
    {
        let asked = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(hazard);
        if let Some((name, why)) = NOT_SHOWN.iter().find(asked) {
            return format!("no scenario shows {name}: {why}");
        }
        return unknown("hazard", hazard, Safeguard::ALL.iter().map(|safeguard| safeguard.name()));
    }
    if let Some(scenario) = &selection.scenario {
        let known = scenarios();
        let names = known.iter().map(|check| check.scenario);
        if !names.clone().any(|name| name.eq_ignore_ascii_case(scenario)) {
            return unknown("scenario", scenario, names);
        }
    }
    if selection.changes.is_some() && selection.protocol == Some(crate::ProtocolKind::Classic) {
        return "changes are those of the one-word protocol".to_owned();
    }
    let shown = |checks: Vec<Check>| {
        let mut names: Vec<_> = checks.iter().map(|check| check.scenario).collect();
        names.dedup();
        names.join(", ")
    };
    let hazard = selection.hazard.as_deref().unwrap_or_default();
    let elsewhere =
        Selection { hazard: selection.hazard.clone(), scenario: None, ..Selection::default() }.checks();
    match (&selection.scenario, &selection.hazard) {
        (_, Some(_)) if selection.protocol.is_some() || selection.scenario.is_some() => {
            format!("no selected scenario shows {hazard}; these do: {}", shown_with_protocols(&elsewhere))
        }
        (Some(scenario), _) => {
            let there = Selection { scenario: Some(scenario.clone()), ..Selection::default() };
            format!("{} is for the other protocol alone", shown(there.checks()))
        }
        _ => "nothing is selected".to_owned(),
    }
}

fn shown_with_protocols(checks: &[Check]) -> String {
    let mut names: Vec<_> =
        checks.iter().map(|check| format!("{} ({})", check.scenario, check.protocol.name())).collect();
    names.dedup();
    names.join(", ")
}

fn unknown(what: &str, asked: &str, names: impl Iterator<Item = &'static str>) -> String {
    let near = near(asked, names);
    let offer = if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
    format!("no {what} is called {asked:?}{offer} (--list shows all)")
}

/// The names nearest to `asked`, nearest first: those that contain it, and those a few letters
/// away.
fn near(asked: &str, names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let asked: Vec<char> = asked.to_lowercase().chars().take(64).collect();
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let letters: Vec<char> = name.to_lowercase().chars().collect();
            let within = asked.len() > 1 && letters.windows(asked.len()).any(|part| part == asked);
            let begins = &letters[..letters.len().min(asked.len())];
            let away = distance(&asked, &letters).min(distance(&asked, begins));
            (within || away <= (asked.len() + 1) / 3).then_some((if within { 0 } else { away }, name))
        })
        .collect();
    near.sort();
    near.dedup();
    near.truncate(OFFERED);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Letters to put in, take out or exchange to make one word of the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{NOT_SHOWN, distance, near, scenarios, why_nothing};
    use crate::protocol_kind::ProtocolKind;
    use crate::suite::Selection;

    #[test]
    fn near_names_are_offered() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("crowd-4"), &letters("crowd-4")), 0);
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
        assert_eq!(distance(&[], &letters("abc")), 3);
        assert_eq!(near("crwod-4", ["crowd-4", "drain"].into_iter()), ["crowd-4"]);
        assert_eq!(near("crwod", ["crowd-4", "drain"].into_iter()), ["crowd-4"]);
        assert_eq!(near("H", ["H1", "drain"].into_iter()), ["H1"]);
        assert!(near("no such name", ["H1", "drain"].into_iter()).is_empty());
    }

    #[test]
    fn nothing_selected_is_explained() {
        let of = |scenario: &str, hazard: &str, protocol| {
            let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
            let selection = Selection {
                scenario: name(scenario),
                hazard: name(hazard),
                protocol,
                ..Selection::default()
            };
            assert!(selection.checks().is_empty());
            why_nothing(&selection)
        };
        assert!(of("crwod-4", "", None).contains("no scenario is called \"crwod-4\"; near it: crowd-4"));
        let told = of("", "H26", None);
        assert!(told.starts_with("no hazard is called \"H26\"; near it: ") && told.contains(" H2"), "{told}");
        for (name, why) in NOT_SHOWN {
            assert!(of("", &name.to_lowercase(), None).ends_with(why));
        }
        assert!(of("I4", "H2", None).contains("these do: I2 (classic)"));
        assert!(of("", "H2", Some(ProtocolKind::OneWord)).contains("these do: I2 (classic)"));
        let classic = scenarios().into_iter().find(|check| check.protocol == ProtocolKind::Classic);
        if let Some(check) = classic {
            let told = of(check.scenario, "", Some(ProtocolKind::OneWord));
            assert!(told.contains("other protocol"), "{told}");
        }
    }
}
