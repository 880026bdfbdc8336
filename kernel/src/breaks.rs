//! The machine broken on purpose: each protective step left out is found by the scenario named for
//! it, or the step is superfluous, or the scenario is missing.

use core::sync::atomic::{AtomicU8, Ordering};

use tailpin_kernel::{Safeguard, Safeguards};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Break {
    /// Other CPUs are not asked to drop translations.
    Shootdown = 1,
    /// They are asked, and answer without having dropped any.
    Flush,
    /// Their answers are not waited for.
    Wait,
    /// This CPU's own translations stay.
    LocalFlush,
    /// Two of three flushes come after the counts were given back, with the next one.
    LateFlush,
    /// Interrupts stay on in sections.
    Section,
    /// A CPU that waits for answers gives none.
    AnswerWhileWaiting,
    /// A CPU that waits for a lock answers nothing.
    LockAnswers,
    /// Loading the space that was loaded last drops no translations.
    Switch,
    /// New spaces lack the kernel's half.
    KernelHalf,
    /// CR0.WP is off.
    WriteProtect,
    /// The futex is woken before its word is written.
    WakeFirst,
}

/// What shows that the break was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The scenario fails.
    Fails,
    /// A CPU waits for ever, which ends in a panic.
    Panics,
    /// The processor resets: a fault in the handler of a fault.
    Resets,
}

impl Sign {
    /// The word for it in the list.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::Panics => "panics",
            Self::Resets => "resets",
        }
    }
}

/// A break, and how it is found.
pub(crate) struct BrokenBy {
    pub(crate) what: Break,
    pub(crate) name: &'static str,
    /// The scenario that finds it.
    pub(crate) scenario: &'static str,
    pub(crate) sign: Sign,
}

const fn found_by(what: Break, name: &'static str, scenario: &'static str, sign: Sign) -> BrokenBy {
    BrokenBy { what, name, scenario, sign }
}

/// All breaks.
pub(crate) const ALL: &[BrokenBy] = &[
    found_by(Break::Shootdown, "shootdown", "unmap_under_reads", Sign::Fails),
    found_by(Break::Flush, "flush", "unmap_under_reads", Sign::Fails),
    found_by(Break::Wait, "wait", "unmap_under_reads", Sign::Fails),
    found_by(Break::LocalFlush, "local-flush", "rights", Sign::Fails),
    found_by(Break::LateFlush, "late-flush", "unmap_under_reads", Sign::Fails),
    found_by(Break::Section, "section", "unmap_under_copies", Sign::Fails),
    found_by(Break::AnswerWhileWaiting, "answer-while-waiting", "shootdown_storm", Sign::Panics),
    found_by(Break::LockAnswers, "lock-answers", "shootdown_storm", Sign::Panics),
    found_by(Break::Switch, "switch", "stale_after_switch", Sign::Fails),
    found_by(Break::KernelHalf, "kernel-half", "walks", Sign::Resets),
    found_by(Break::WriteProtect, "write-protect", "rights", Sign::Fails),
    found_by(Break::WakeFirst, "wake-first", "futex", Sign::Fails),
];

/// The number of the break in effect, 0 for none. Written once, before the other CPUs run.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Breaks from now on.
pub(crate) fn choose(what: Break) {
    CHOSEN.store(what as u8, Ordering::SeqCst);
}

/// Whether this is what is broken.
#[inline]
pub(crate) fn is(what: Break) -> bool {
    // Relaxed: written before the other CPUs run.
    CHOSEN.load(Ordering::Relaxed) == what as u8
}

/// The safeguards of the kit, but for the broken one.
pub(crate) struct Kept;

impl Safeguards<Safeguard> for Kept {
    fn keeps(safeguard: Safeguard) -> bool {
        match safeguard {
            Safeguard::KAsk => !is(Break::Shootdown),
            Safeguard::KFlush => !is(Break::Flush),
            Safeguard::KWait => !is(Break::Wait),
            Safeguard::KAnswer => !is(Break::AnswerWhileWaiting),
            Safeguard::KSection => !is(Break::Section),
            // On this processor, and in this emulation of it, no scenario could show their lack:
            // `tailpin check` does.
            Safeguard::KMark | Safeguard::KShoot | Safeguard::KLoad => true,
        }
    }
}
