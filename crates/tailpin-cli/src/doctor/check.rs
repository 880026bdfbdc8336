//! One thing that was looked at.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Nothing stands in the way.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// The library works; something is slower, smaller or refused, and can be had.
    Hint,
    /// The library cannot run here.
    Fail,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Hint => "hint",
            Self::Fail => "fail",
        }
    }
}

/// Advice that needs privileges and is forgotten at the next boot.
pub(crate) fn as_root(command: impl std::fmt::Display) -> String {
    format!("as root, until the next boot: {command}")
}

/// What was looked at, what was found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Level,
    pub(crate) value: String,
    /// One line; `None` where there is nothing to do.
    pub(crate) advice: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, status: Level::Ok, value: value.into(), advice: None }
    }

    pub(crate) fn hint(name: &'static str, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Level::Hint, value: value.into(), advice: Some(advice.into()) }
    }

    pub(crate) fn fail(name: &'static str, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Level::Fail, value: value.into(), advice: Some(advice.into()) }
    }

    /// `path` could not be read.
    pub(crate) fn unreadable(name: &'static str, path: &str) -> Self {
        Self {
            name,
            status: Level::Unknown,
            value: format!("{path} can't be read"),
            advice: Some("look as root, or on the host outside the container".into()),
        }
    }
}
