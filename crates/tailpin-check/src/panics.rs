//! What a panic that ended a run says.

use std::any::Any;

use crate::engine::Missing;

/// What an execution lacked of the machine, if that is what ended it.
pub(crate) fn lacking(panic: &(dyn Any + Send)) -> Option<String> {
    if let Some(Missing(why)) = panic.downcast_ref() {
        return Some(why.clone());
    }
    // The words of the library that makes the stacks of model threads.
    let said = said(panic);
    said.starts_with("failed to alloc sys stack").then(|| said.to_owned())
}

fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a thread failed")
}

/// What the checker itself has to say, in our words.
pub(crate) fn explain(panic: &(dyn Any + Send)) -> String {
    let first = said(panic).lines().next().unwrap_or_default();
    if first.contains("Causality violation") {
        format!("contents of a page are used without order: {first}")
    } else if is_without_end(panic) {
        "no end: a thread waits for ever".to_owned()
    } else {
        first.to_owned()
    }
}

/// Whether a run was ended because it has no end.
pub(crate) fn is_without_end(panic: &(dyn Any + Send)) -> bool {
    let first = said(panic).lines().next().unwrap_or_default();
    ["deadlock;", "maximum number of branches", "Model exceeded"].iter().any(|words| first.contains(words))
}
