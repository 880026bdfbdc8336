//! The page word as it ships, compiled so that its transitions can be read as LLVM IR.
//!
//! These are the shipped files, not copies. `exports.rs` gives each function of `PageWord` a plain
//! symbol.

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../crates/tailpin/src/atomic.rs"]
mod atomic;
#[path = "../crates/tailpin/src/error.rs"]
mod error;
#[path = "../crates/tailpin/src/finally.rs"]
mod finally;
#[path = "../crates/tailpin/src/frame.rs"]
mod frame;
#[path = "../crates/tailpin/src/page_state.rs"]
mod page_state;
#[path = "../crates/tailpin/src/frame_mask.rs"]
mod frame_mask;
#[path = "../crates/tailpin/src/protocol.rs"]
mod protocol;
#[path = "../crates/tailpin/src/report.rs"]
mod report;

/// One symbol for each line; two where the function can refuse: `NAME` is the result,
/// `NAME_allowed` says whether there is one. `word` and `begun` are page words, `order` an order,
/// `flag` a truth value, `n` a number.
macro_rules! symbols {
    () => {};
    (fn $name:ident($($arg:ident),*) = $value:expr; $($rest:tt)*) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: u64),*) -> u64 {
            crate::Number::number($value)
        }
        symbols! { $($rest)* }
    };
    (fn $name:ident / $allowed:ident($($arg:ident),*) = $value:expr; $($rest:tt)*) => {
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: u64),*) -> u64 {
            match $value {
                Some(result) => crate::Number::number(result),
                None => 0,
            }
        }
        #[unsafe(no_mangle)]
        pub extern "C" fn $allowed($($arg: u64),*) -> u64 {
            crate::Number::number($value.is_some())
        }
        symbols! { $($rest)* }
    };
}
pub(crate) use symbols;

#[path = "../crates/tailpin/src/page_word/mod.rs"]
mod page_word;
#[path = "exports.rs"]
mod exports;

/// How a result is passed on: as a number.
pub trait Number {
    fn number(self) -> u64;
}

impl Number for u64 {
    fn number(self) -> u64 {
        self
    }
}

impl Number for u8 {
    fn number(self) -> u64 {
        self.into()
    }
}

impl Number for bool {
    fn number(self) -> u64 {
        self.into()
    }
}

impl Number for frame::Order {
    fn number(self) -> u64 {
        self.get().into()
    }
}

impl Number for page_state::Kind {
    fn number(self) -> u64 {
        self as u64
    }
}
