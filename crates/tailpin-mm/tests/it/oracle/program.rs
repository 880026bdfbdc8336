//! Random programs: what may be done, and to what.

use proptest::prelude::*;
use tailpin_mm::{Access, Advice, HugePages, Prot, VirtAddr};

/// Spaces that a program may have at a time.
pub const SPACES: usize = 4;
/// Objects: plain, huge, hugetlb, and one that tracks writes; see `run.rs`.
pub const OBJECTS: usize = 4;
/// Where it works: two stretches of this many pages.
const STRETCHES: [u64; 2] = [0x4000_0000, 0x8000_0000];
const PAGES: u64 = 3 * 512;

/// Some addresses.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: VirtAddr,
    pub pages: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Anonymous,
    Shared { object: usize, first: u64 },
    Private { object: usize, first: u64 },
    Guard,
}

#[derive(Clone, Debug)]
pub enum Op {
    Map {
        what: What,
        span: Span,
        prot: Prot,
        huge: HugePages,
        round: bool,
    },
    Unmap {
        span: Span,
        round: bool,
    },
    /// Unmap a whole stretch and map it as anonymous memory.
    Anew {
        span: Span,
        huge: HugePages,
    },
    /// Write to each page of the 2 MiB, last page first.
    Touch {
        at: VirtAddr,
        seed: u8,
    },
    Protect {
        span: Span,
        prot: Prot,
        round: bool,
    },
    Advise {
        span: Span,
        advice: Advice,
        round: bool,
    },
    Remap {
        span: Span,
        to: VirtAddr,
    },
    Read {
        at: VirtAddr,
        len: u64,
    },
    Write {
        at: VirtAddr,
        len: u64,
        seed: u8,
    },
    Store {
        at: VirtAddr,
        value: u32,
    },
    Fault {
        at: VirtAddr,
        access: Access,
    },
    Identify {
        at: VirtAddr,
        access: Access,
    },
    Fork {
        into: usize,
    },
    Exit,
    Pin {
        at: VirtAddr,
        len: u64,
        access: Access,
        long: bool,
    },
    PinWrite {
        pin: usize,
        at: u64,
        len: u64,
        seed: u8,
    },
    Unpin {
        pin: usize,
    },
    SplitMapping {
        at: VirtAddr,
    },
    SplitPage {
        at: VirtAddr,
        order: u8,
    },
    Collapse {
        at: VirtAddr,
        max_none: u32,
        max_shared: u32,
    },
    Truncate {
        object: usize,
        len: u64,
        round: bool,
    },
    PunchHole {
        object: usize,
        from: u64,
        len: u64,
    },
    Check,
}

/// One step of a program.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who does it, if it is done by a space.
    pub space: usize,
    pub op: Op,
    /// How many allocations succeed during it, if not all.
    pub fail: Option<u64>,
}

/// Pages near the borders of huge pages more often than others.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => prop::sample::select(vec![0, 1, 2, 255, 510, 511, 512, 513, 1023, 1024, 1025, PAGES - 1]),
        1 => 0..PAGES,
    ]
}

fn addr() -> impl Strategy<Value = VirtAddr> {
    (prop_oneof![4 => Just(0usize), 1 => Just(1)], page())
        .prop_map(|(stretch, page)| VirtAddr::new(STRETCHES[stretch] + page * 4096))
}

fn byte_addr() -> impl Strategy<Value = VirtAddr> {
    let offset = prop_oneof![Just(0), Just(4090), 0u64..4096];
    (addr(), offset).prop_map(|(addr, offset)| addr.offset(offset))
}

fn span() -> impl Strategy<Value = Span> {
    let pages = prop_oneof![
        3 => 1u64..4,
        3 => prop::sample::select(vec![511u64, 512, 513, 1024, PAGES]),
        1 => 1..PAGES,
    ];
    let some = (addr(), pages).prop_map(|(start, pages)| Span { start, pages });
    prop_oneof![4 => some, 1 => stretch()]
}

fn stretch() -> impl Strategy<Value = Span> {
    let all = |start| Span { start: VirtAddr::new(start), pages: PAGES };
    prop::sample::select(STRETCHES.to_vec()).prop_map(all)
}

/// Whether ends are rounded to what a hugetlb mapping asks for; else that is an error to be
/// predicted.
fn round() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.9)
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn prot() -> impl Strategy<Value = Prot> {
    prop_oneof![4 => Just(Prot::READ_WRITE), 2 => Just(Prot::READ), 1 => Just(Prot::NONE), 1 => Just(Prot::READ_EXEC)]
}

fn what() -> impl Strategy<Value = What> {
    let first = || prop_oneof![3 => Just(0u64), 1 => Just(512), 1 => 0u64..700];
    prop_oneof![
        6 => Just(What::Anonymous),
        4 => (0..OBJECTS, first()).prop_map(|(object, first)| What::Shared { object, first }),
        3 => (0..OBJECTS, first()).prop_map(|(object, first)| What::Private { object, first }),
        1 => Just(What::Guard),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1u64..32, 2 => 4000u64..9000, 1 => Just(2 << 20), 1 => (2u64 << 20)..(2 << 20) + 9000]
}

fn object_bytes() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => prop::sample::select(vec![0u64, 2 << 20, 4 << 20]),
        1 => (page(), 0u64..4096).prop_map(|(page, offset)| page * 4096 + offset),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let kinds = [HugePages::Default, HugePages::Default, HugePages::Never, HugePages::Always];
    let huge = || prop::sample::select(kinds.to_vec());
    let advice = prop::sample::select(vec![
        Advice::Huge,
        Advice::NoHuge,
        Advice::DontNeed,
        Advice::DontNeed,
        Advice::Free,
        Advice::Collapse,
    ]);
    prop_oneof![
        4 => (what(), span(), prot(), huge(), round())
            .prop_map(|(what, span, prot, huge, round)| Map { what, span, prot, huge, round }),
        2 => (stretch(), huge()).prop_map(|(span, huge)| Anew { span, huge }),
        2 => (addr(), 1u8..).prop_map(|(at, seed)| Touch { at, seed }),
        3 => (span(), round()).prop_map(|(span, round)| Unmap { span, round }),
        3 => (span(), prot(), round()).prop_map(|(span, prot, round)| Protect { span, prot, round }),
        4 => (span(), advice, round()).prop_map(|(span, advice, round)| Advise { span, advice, round }),
        3 => (span(), addr()).prop_map(|(span, to)| Remap { span, to }),
        3 => (byte_addr(), length()).prop_map(|(at, len)| Read { at, len }),
        12 => (byte_addr(), length(), 1u8..).prop_map(|(at, len, seed)| Write { at, len, seed }),
        1 => (addr(), any::<u32>()).prop_map(|(at, value)| Store { at, value }),
        2 => (addr(), access()).prop_map(|(at, access)| Fault { at, access }),
        2 => (addr(), access()).prop_map(|(at, access)| Identify { at, access }),
        4 => (0..SPACES).prop_map(|into| Fork { into }),
        1 => Just(Exit),
        6 => (byte_addr(), length(), access(), prop::bool::weighted(0.2))
            .prop_map(|(at, len, access, long)| Pin { at, len, access, long }),
        4 => (0..8usize, any::<u64>(), 1u64..32, 1u8..)
            .prop_map(|(pin, at, len, seed)| PinWrite { pin, at, len, seed }),
        3 => (0..8usize).prop_map(|pin| Unpin { pin }),
        3 => addr().prop_map(|at| SplitMapping { at }),
        3 => (addr(), 0u8..10).prop_map(|(at, order)| SplitPage { at, order }),
        6 => (addr(), prop::sample::select(vec![511u32, 511, 100, 0]), prop::sample::select(vec![512u32, 256, 0]))
            .prop_map(|(at, max_none, max_shared)| Collapse { at, max_none, max_shared }),
        2 => (0..OBJECTS, object_bytes(), round())
            .prop_map(|(object, len, round)| Truncate { object, len, round }),
        2 => (0..OBJECTS, object_bytes(), length())
            .prop_map(|(object, from, len)| PunchHole { object, from, len }),
        2 => Just(Check),
    ]
}

/// Programs: something is mapped at both stretches, then anything goes. In a `failing` one a third
/// of the steps meet failed allocations.
pub fn program(failing: bool) -> impl Strategy<Value = Vec<Step>> {
    let begin = |stretch: usize| {
        (what(), 0..2u64).prop_map(move |(what, gap)| {
            let span = Span { start: VirtAddr::new(STRETCHES[stretch]), pages: PAGES - 512 * gap };
            let (prot, huge) = (Prot::READ_WRITE, HugePages::Default);
            Step { space: 0, op: Op::Map { what, span, prot, huge, round: true }, fail: None }
        })
    };
    let few = prop_oneof![2 => Just(None), 1 => (0u64..6).prop_map(Some)];
    let fail = if failing { few.boxed() } else { Just(None).boxed() };
    let space = prop_oneof![3 => Just(0usize), 2 => 0..SPACES];
    let step = (space, op(), fail).prop_map(|(space, op, fail)| Step { space, op, fail });
    (begin(0), begin(1), prop::collection::vec(step, 1..70)).prop_map(|(first, second, mut steps)| {
        steps.splice(0..0, [first, second]);
        steps
    })
}
