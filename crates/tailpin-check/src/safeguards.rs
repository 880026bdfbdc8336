//! Safeguards, left out one at a time.
//!
//! Each says what goes wrong without it. [`LessOne`] implements the traits of safeguards of both
//! protocols, of the futexes and of pinning by address; it leaves out the one named on the current
//! OS thread, and with none named it is the code as it ships.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use tailpin::one_word::Safeguard as OneWordSafeguard;
use tailpin::{Kind, PageWord, Safeguards};
use tailpin_classic::Safeguard as ClassicSafeguard;

use crate::engine::current_thread;
use crate::protocol_kind::ProtocolKind;
use crate::trace::Name;

macro_rules! safeguards {
    ($($id:ident $name:literal $which:ident $without:literal;)*) => {
        /// A protective step that can be left out.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Safeguard {
            $(#[doc = $without] $id,)*
        }

        impl Safeguard {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$id),*];

            /// The name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$id => $name,)* }
            }

            /// The protocol that the step is of.
            pub fn protocol(self) -> ProtocolKind {
                match self { $(Self::$id => ProtocolKind::$which,)* }
            }

            /// What is done without the step.
            pub fn without(self) -> &'static str {
                match self { $(Self::$id => $without,)* }
            }
        }
    };
}

safeguards! {
    H1 "H1" Classic "the compound lock is taken without a reference on the head";
    H2 "H2" Classic "the count becomes 1 before the page is prepared as compound: the lock bit is lost";
    H2Stuck "H2-stuck" Classic "the lock bit is put back after the unlock and stays";
    H3 "H3" Classic "no write barrier between the prepared block and its count";
    H3Tail "H3-tail" Classic "PG_tail is set before first_page";
    H4 "H4" Classic "a page that is its own head is taken for a tail, and locked";
    H4Believed "H4-believed" Classic "the same, and under that lock it is not looked at again";
    H5 "H5" Classic "what is freed is what the head once was, not what it is at zero";
    H6 "H6" Classic "whether tails are counted is asked before there is a reference (also H17)";
    H8 "H8" OneWord "the second attempt at a futex key asks for more than the first has proved";
    H9 "H9" OneWord "a futex key is made from a page that is no longer pinned";
    H10 "H10" OneWord "a futex key has the index of the head, not of the exact base page";
    H11 "H11" OneWord "whose a page is, a head says that it may no longer belong to";
    H12 "H12" Classic "PG_tail is not looked at again after first_page, and what that would have told is not found out later";
    H13 "H13" Classic "page and head are not compared again under the reference";
    H13Entry "H13-entry" OneWord "the entry is not looked at again after the pin";
    H14 "H14" Classic "flags of a reachable page are read, modified and written";
    H14Barrier "H14-barrier" Classic "no barrier between a tail's count and the end of its PG_tail";
    H15 "H15" Classic "a thread that drops a reference frees, though others have some";
    H16 "H16" Classic "a count that others may raise is zeroed by a store";
    H18 "H18" Classic "references are not refused near overflow";
    H19 "H19" OneWord "only the last entry is looked at again after the pin, not the tables above it";
    H19Wait "H19-wait" OneWord "a page table is used again while a walk may be in it";
    H21Pin "H21-pin" OneWord "no barrier between a pin by address and the second look";
    H21Change "H21-change" OneWord "no barrier between the change of an entry and reading the count";
    H23 "H23" OneWord "a futex key names an object by its place, which another object may have later";
    H25 "H25" OneWord "that a page may only be read is remembered from one look to the next";
    H28 "H28" OneWord "a page is taken off its list without a pin on it";
    H29 "H29" OneWord "a block is given back whole, a frame with hwpoison in it too";
    H30 "H30" OneWord "a block with a pin is not split but put on a list, and off it where it is still pinned";
    H31 "H31" OneWord "a range of a block is converted only where no page of the whole block is pinned";
    H32 "H32" OneWord "the wake that a thread owed when it ended is not given to the next waiter";
    H33 "H33" OneWord "a thread that ends is still taken for an owner after its waiters were sent on";
    TBreak "T-break" OneWord "an entry is changed to another in one step, with no absent entry and shootdown before";
    TEmpty "T-empty" OneWord "an entry that is to be replaced is zero for that time, as if nothing were mapped";
    FWait "F-wait" OneWord "no barrier between announcing a waiter and reading its word";
    FWake "F-wake" OneWord "no barrier between changing a word and looking for waiters";
    FLook "F-look" OneWord "the word is read before the bucket is locked";
    FMove "F-move" OneWord "waiters that are requeued are not announced where they go";
    KAsk "K-ask" OneWord "a shootdown asks no other CPU";
    KFlush "K-flush" OneWord "a CPU answers a shootdown without having dropped its translations";
    KWait "K-wait" OneWord "the answers to a shootdown are not waited for";
    KAnswer "K-answer" OneWord "a CPU that waits for answers gives none";
    KMark "K-mark" OneWord "a CPU is marked for shootdowns after it has loaded the table";
    KShoot "K-shoot" OneWord "no barrier between the change of an entry and the look at who runs the space";
    KLoad "K-load" OneWord "no barrier between a CPU's mark and its first look at the tables";
    KSection "K-section" OneWord "interrupts are on in a section, so a shootdown is answered in the middle of it";
    W1 "W1" OneWord "the head is held only before and after a tail's first pin, not during it";
    W2 "W2" OneWord "a hold is taken on whatever is found, not on the head meant";
    W3 "W3" OneWord "a failed first pin is not looked at again";
    W4 "W4" OneWord "not in use is said without another look";
    W5 "W5" OneWord "references go on changing while the block is split";
    W6 "W6" OneWord "a tail's hold is not given back";
    W7 "W7" OneWord "pins come under a new head without a hold";
    W8 "W8" OneWord "a hold does not mark a heads-only split";
    W9 "W9" OneWord "the head is settled before its tails";
    W10 "W10" OneWord "what others have rewritten is rewritten again";
    W11 "W11" OneWord "the split ends with the value it began with";
    W11Value "W11-value" OneWord "freeze by value: the split ends with what it began with less the holds it moved";
    W12 "W12" OneWord "pieces get one reference each, however many the block has";
    W13 "W13" OneWord "a piece with a hold in passing is merged as it is";
    W14 "W14" OneWord "a hold leaves no mark on a settled head";
    W15 "W15" OneWord "pieces made while a split was heads-only go on saying that their tails are implicit";
    W16 "W16" OneWord "a fresh block says that its tails are implicit without a look";
    W18 "W18" OneWord "a block that splits itself is not held by who does it; a look at the end takes the place";
    W19 "W19" OneWord "a piece is merged though another thread has come to own it";
    W20 "W20" OneWord "unpinned tails of a block that splits itself are freed at once though a thread may be about to pin one";
    W21 "W21" OneWord "a part of a run is given back while a split of the block around it is under way";
    WAlone "W-alone" OneWord "a block is merged while another thread acts through the same reference";
    ARelease "A-release" OneWord "the allocator's words are given back without Release";
    AOrder "A-order" OneWord "who leads others to a free frame and who takes the lead away may both miss what the other one wrote";
    WRelease "W-release" OneWord "publication is a Relaxed store";
    WAcquire "W-acquire" OneWord "a conditional get is not an Acquire";
    WDrop "W-drop" OneWord "a put is Relaxed";
}

thread_local! {
    static LEFT_OUT: Cell<Option<Safeguard>> = const { Cell::new(None) };
}

/// Whether a safeguard is left out now.
pub(crate) fn is_left_out(safeguard: Safeguard) -> bool {
    LEFT_OUT.get() == Some(safeguard)
}

/// Whether a lock bit that is gone at the unlock is a violation already.
pub(crate) fn watches_lock() -> bool {
    !is_left_out(Safeguard::H2Stuck)
}

/// Whether a lock bit that a plain store puts back is taken off again.
pub(crate) fn mends_stuck_lock() -> bool {
    is_left_out(Safeguard::H2)
}

/// Runs with a safeguard left out, on this OS thread.
pub(crate) fn without<T>(safeguard: Option<Safeguard>, body: impl FnOnce() -> T) -> T {
    LEFT_OUT.set(safeguard);
    let result = body();
    LEFT_OUT.set(None);
    result
}

/// What the version of a step that is taken instead has to remember, for each thread.
#[derive(Clone, Copy, Default)]
struct Remembered {
    /// H4, H12: the next comparison of this page and head is left out too.
    believed: bool,
    /// W11-value: tails are being rewritten.
    converting: bool,
    /// W11-value: holds that went with tails that were rewritten.
    moved: u64,
}

const THREADS: usize = 16;

thread_local! {
    static OWNERS_LOCK: Cell<bool> = const { Cell::new(false) };
    // W11-value: the head's pins when its split began.
    static BEGUN: Cell<u64> = const { Cell::new(0) };
    // Model threads are coroutines of one OS thread, so what one remembers is kept under its
    // number.
    static REMEMBERED: RefCell<[Remembered; THREADS]> = const { RefCell::new([Remembered {
        believed: false, converting: false, moved: 0,
    }; THREADS]) };
}

fn remember<T>(change: impl FnOnce(&mut Remembered) -> T) -> T {
    REMEMBERED.with_borrow_mut(|all| change(&mut all[current_thread().min(THREADS - 1)]))
}

/// From here on frames may be locked by their owner, which has yet to find out whether they are
/// heads: a raw free.
pub(crate) fn owners_lock() {
    OWNERS_LOCK.set(true);
}

/// Whether locking a frame that never was a head is a violation already.
pub(crate) fn only_heads_lock() -> bool {
    !OWNERS_LOCK.get() && !is_left_out(Safeguard::H4Believed)
}

/// A new execution begins.
pub(crate) fn begin() {
    OWNERS_LOCK.set(false);
    if LEFT_OUT.get().is_some() {
        REMEMBERED.with_borrow_mut(|all| *all = Default::default());
    }
}

/// What a compare-and-swap of a page word writes where the right value is the step that is missing:
/// W11-value, freeze by value.
pub(crate) fn replaces(name: &Name, current: u64, new: u64) -> u64 {
    if !is_left_out(Safeguard::W11Value) || !name.field.is_empty() {
        return new;
    }
    let (before, after) = (PageWord::from_bits(current).decode(), PageWord::from_bits(new).decode());
    if before.kind != Kind::Splitting && after.kind == Kind::Splitting {
        BEGUN.set(after.pins);
    }
    let settles = before.kind == Kind::Splitting && matches!(after.kind, Kind::Page | Kind::Head);
    if settles { remember(|memory| new - after.pins + BEGUN.get() - memory.moved) } else { new }
}

/// All safeguards but the one that is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LessOne;

impl Safeguards<ClassicSafeguard> for LessOne {
    fn keeps(safeguard: ClassicSafeguard) -> bool {
        let believes = is_left_out(Safeguard::H4Believed);
        let left_out = match safeguard {
            ClassicSafeguard::H1 => Safeguard::H1,
            ClassicSafeguard::H2 => return !(is_left_out(Safeguard::H2) || is_left_out(Safeguard::H2Stuck)),
            ClassicSafeguard::H3 => Safeguard::H3,
            ClassicSafeguard::H3Tail => Safeguard::H3Tail,
            // Asked of a page that is its own head.
            ClassicSafeguard::H4 => {
                remember(|memory| memory.believed |= believes);
                return !(believes || is_left_out(Safeguard::H4));
            }
            ClassicSafeguard::H5 => Safeguard::H5,
            ClassicSafeguard::H6 => Safeguard::H6,
            // Asked of a page that is no tail any more.
            ClassicSafeguard::H12 => {
                remember(|memory| memory.believed |= is_left_out(Safeguard::H12));
                Safeguard::H12
            }
            ClassicSafeguard::H13 => {
                let pair = believes || is_left_out(Safeguard::H12);
                if pair && remember(|memory| std::mem::take(&mut memory.believed)) {
                    return false;
                }
                Safeguard::H13
            }
            ClassicSafeguard::H14 => Safeguard::H14,
            ClassicSafeguard::H14Barrier => Safeguard::H14Barrier,
            ClassicSafeguard::H15 => Safeguard::H15,
            ClassicSafeguard::H16 => Safeguard::H16,
            ClassicSafeguard::H18 => Safeguard::H18,
        };
        !is_left_out(left_out)
    }
}

impl Safeguards<OneWordSafeguard> for LessOne {
    fn keeps(safeguard: OneWordSafeguard) -> bool {
        let left_out = match safeguard {
            OneWordSafeguard::W1 => Safeguard::W1,
            OneWordSafeguard::W2 => Safeguard::W2,
            OneWordSafeguard::W3 => Safeguard::W3,
            OneWordSafeguard::W4 => Safeguard::W4,
            OneWordSafeguard::W5 => Safeguard::W5,
            // The value that a split ends with accounts for the holds that went with its tails.
            OneWordSafeguard::W6 if is_left_out(Safeguard::W11Value) => {
                return remember(|memory| {
                    memory.moved += u64::from(memory.converting);
                    !memory.converting
                });
            }
            OneWordSafeguard::W6 => Safeguard::W6,
            OneWordSafeguard::W7 => Safeguard::W7,
            OneWordSafeguard::W8 => Safeguard::W8,
            OneWordSafeguard::W9 => Safeguard::W9,
            OneWordSafeguard::W10 => Safeguard::W10,
            OneWordSafeguard::W11 => Safeguard::W11,
            OneWordSafeguard::W12 => Safeguard::W12,
            OneWordSafeguard::W13 => Safeguard::W13,
            OneWordSafeguard::W14 => Safeguard::W14,
            OneWordSafeguard::W15 => Safeguard::W15,
            OneWordSafeguard::W16 => Safeguard::W16,
            // No scenario is long enough to miss it: see `names::NOT_SHOWN`.
            OneWordSafeguard::W17 => return true,
            OneWordSafeguard::W18 => Safeguard::W18,
            OneWordSafeguard::W19 => Safeguard::W19,
            OneWordSafeguard::W20 => Safeguard::W20,
            OneWordSafeguard::W21 => Safeguard::W21,
        };
        !is_left_out(left_out)
    }

    fn in_order(safeguard: OneWordSafeguard, first: impl FnOnce(), second: impl FnOnce()) {
        if !Self::keeps(safeguard) {
            second();
            first();
            return;
        }
        remember(|memory| (memory.converting, memory.moved) = (true, 0));
        first();
        remember(|memory| memory.converting = false);
        second();
    }
}

/// Orderings, taken away in the word: the protocols don't know.
pub(crate) struct Weaken;

impl Weaken {
    pub(crate) fn load(name: &Name, order: Ordering) -> Ordering {
        match order {
            Ordering::Acquire if is_left_out(Safeguard::WAcquire) && !name.is_of_allocator() => {
                Ordering::Relaxed
            }
            Ordering::SeqCst if is_left_out(Safeguard::AOrder) => Ordering::Acquire,
            Ordering::SeqCst if is_left_out(Safeguard::ARelease) && name.is_of_allocator() => {
                Ordering::Acquire
            }
            _ => order,
        }
    }

    pub(crate) fn store(name: &Name, order: Ordering) -> Ordering {
        match order {
            Ordering::Release | Ordering::SeqCst
                if is_left_out(Safeguard::WRelease) && !name.is_of_allocator() =>
            {
                Ordering::Relaxed
            }
            _ => order,
        }
    }

    /// Compare-and-swap.
    pub(crate) fn change(name: &Name, order: Ordering) -> Ordering {
        match order {
            Ordering::AcqRel if is_left_out(Safeguard::WAcquire) && !name.is_of_allocator() => {
                Ordering::Release
            }
            _ => Self::bits(name, order),
        }
    }

    /// Bitwise and, or.
    pub(crate) fn bits(name: &Name, order: Ordering) -> Ordering {
        match order {
            Ordering::SeqCst | Ordering::AcqRel
                if is_left_out(Safeguard::ARelease) && name.is_of_allocator() =>
            {
                Ordering::Acquire
            }
            Ordering::SeqCst if is_left_out(Safeguard::AOrder) => Ordering::AcqRel,
            _ => order,
        }
    }

    /// Subtraction: a put.
    pub(crate) fn drop(name: &Name, order: Ordering) -> Ordering {
        let weak = is_left_out(Safeguard::WDrop) && !name.is_of_allocator();
        if weak { Ordering::Relaxed } else { order }
    }
}
