//! Translations that a processor may have cached: gone before the page is given back, and gone on
//! return if they allow what the table no longer does.
//!
//! The test has a TLB that caches everything it may and forgets only what a shootdown names.
//! Whenever a frame becomes free, none of its translations may be left; after each operation, those
//! that are left must agree with the table.

use crate::common;

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;

use common::{HUGE, MIB, PAGE};
use tailpin::{FrameRange, Hooks, Order, Pfn, ZoneConfig};
use tailpin_mm::arch::X86_64;
use tailpin_mm::{
    Access, Advice, CollapseLimits, Cow, DirectMap, Env, HugePages, Map, Mm, MmConfig, Object, ObjectConfig,
    Prot, Ram, ReadSide, Space, SpaceId, Stale, StdEnv, StdSection, Tlb, VirtAddr,
};

/// By space and page: which frame, and whether for writing.
type Cached = BTreeMap<(SpaceId, u64), (Pfn, bool)>;

#[derive(Default)]
struct Translations {
    cached: Mutex<Cached>,
    /// Frames that became free too early.
    early: Mutex<Vec<String>>,
}

impl Hooks for Translations {
    fn after_last_reference(&self, head: Pfn, order: Order) {
        let frames = FrameRange::block(head, order);
        for ((space, page), (frame, _)) in &*self.cached.lock().unwrap() {
            if frames.contains(*frame) {
                let early = format!("{frame} is free, {space:?} still has page {page:#x} translated to it");
                self.early.lock().unwrap().push(early);
            }
        }
    }
}

struct Machine<'a> {
    std: &'a StdEnv,
    tlb: &'a Translations,
}

// SAFETY: what `StdEnv` promises.
unsafe impl DirectMap for Machine<'_> {
    fn frame(&self, frame: Pfn) -> NonNull<u8> {
        self.std.frame(frame)
    }
}

impl ReadSide for Machine<'_> {
    type Section<'a>
        = StdSection<'a>
    where
        Self: 'a;

    fn enter<'a>(&'a self, _space: &'a SpaceId) -> StdSection<'a> {
        self.std.enter(&())
    }
}

impl Tlb for Machine<'_> {
    type Context = SpaceId;

    fn new_context(&self, space: SpaceId) -> SpaceId {
        space
    }

    fn invalidate(&self, space: &SpaceId, stale: Stale) {
        let gone =
            |(id, page): &(SpaceId, u64)| id == space && stale.range.contains(VirtAddr::new(page * PAGE));
        self.tlb.cached.lock().unwrap().retain(|key, _| !gone(key));
    }
}

impl Env for Machine<'_> {
    type Arch = X86_64;
    type Lock = parking_lot::RawRwLock;
}

type Sp<'z, 'a> = Space<'z, Machine<'a>>;

const BASE: VirtAddr = VirtAddr::new(0x4000_0000);
const FILE: VirtAddr = VirtAddr::new(0x5000_0000);
const COPY: VirtAddr = VirtAddr::new(0x6000_0000);
const LEN: u64 = 2 * HUGE;

/// What the processor may have cached of these spaces.
fn cache(tlb: &Translations, spaces: &[&Sp<'_, '_>]) {
    for space in spaces {
        for start in [BASE, FILE, COPY] {
            for page in 0..LEN / PAGE {
                let addr = start.offset(page * PAGE);
                if let Some(mapping) = space.mapping(addr) {
                    let entry = (mapping.frame, mapping.writable);
                    tlb.cached.lock().unwrap().insert((space.id(), addr.page()), entry);
                }
            }
        }
    }
}

/// What is left must be what the table says, and no frame may have been given back before its
/// translations.
fn check(tlb: &Translations, spaces: &[&Sp<'_, '_>], what: &str) {
    // Copies: a failure must not leave a lock poisoned behind, which the frames freed after it
    // would meet.
    let (early, left) = (tlb.early.lock().unwrap().first().cloned(), tlb.cached.lock().unwrap().clone());
    assert_eq!(early, None, "{what}");
    for ((id, page), (frame, writable)) in &left {
        let space = spaces.iter().find(|space| space.id() == *id).expect("a space that has not exited");
        let mapping = space.mapping(VirtAddr::new(page * PAGE));
        let agrees = mapping.is_some_and(|now| now.frame == *frame && (now.writable || !writable));
        assert!(
            agrees,
            "{what}: page {page:#x} is still translated to {frame}, writable {writable}; now {mapping:?}"
        );
    }
}

/// Each gets two spaces of which the second is a fork of the first, and the object that both map.
type Step = for<'z, 'a> fn(&Sp<'z, 'a>, &Sp<'z, 'a>, &Object<'z, Machine<'a>>);

const STEPS: &[(&str, Step)] = &[
    ("unmap", |space, _, _| space.unmap(BASE, LEN).unwrap()),
    ("unmap of a part", |space, _, _| space.unmap(BASE.offset(PAGE), 3 * PAGE).unwrap()),
    ("unmap of the object", |space, _, _| space.unmap(FILE.offset(PAGE), HUGE).unwrap()),
    ("discard", |space, _, _| space.advise(BASE.offset(PAGE), HUGE, Advice::DontNeed).unwrap()),
    ("protection", |space, _, _| space.protect(BASE.offset(PAGE), HUGE, Prot::READ).unwrap()),
    ("a write of the parent", |space, _, _| space.write(BASE.offset(3 * PAGE), &[1]).unwrap()),
    ("a write of the child", |_, child, _| child.write(BASE.offset(3 * PAGE), &[1]).unwrap()),
    ("a write to a private page", |space, _, _| space.write(COPY.offset(9 * PAGE), &[1]).unwrap()),
    ("a move", |space, _, _| {
        space.remap(BASE, LEN, Some(VirtAddr::new(0x9000_0000))).unwrap();
    }),
    ("a move to another alignment", |space, _, _| {
        space.remap(BASE, LEN, Some(VirtAddr::new(0x9000_1000))).unwrap();
    }),
    ("a split of a mapping", |space, _, _| space.split_mapping(BASE).unwrap()),
    ("a split of a page", |_, child, _| _ = child.split_page(BASE, Order::PAGE).unwrap()),
    ("a collapse", |space, _, _| {
        space.split_page(BASE, Order::PAGE).unwrap();
        common::collapse(space, BASE, CollapseLimits::NONE).unwrap();
    }),
    ("a collapse of the object", |space, _, _| {
        space.split_page(FILE, Order::PAGE).unwrap();
        common::collapse(space, FILE, CollapseLimits::NONE).unwrap();
    }),
    ("truncation", |_, _, object| object.truncate(PAGE).unwrap()),
    ("a hole", |_, _, object| object.punch_hole(PAGE..LEN)),
];

#[test]
fn no_translation_outlives_what_it_stands_for() {
    for (name, step) in STEPS {
        for huge in [HugePages::Always, HugePages::Never] {
            for forked in [false, true] {
                for cow in [Cow::Page, Cow::Whole] {
                    let what = format!("{name}, {huge:?}, forked {forked}, {cow:?}");
                    let (tlb, ram) = (Translations::default(), Ram::new(32 * MIB));
                    let zone = ram.zone_with(ZoneConfig::default().hooks(&tlb)).unwrap();
                    let machine = Machine { std: ram.env(), tlb: &tlb };
                    let config = MmConfig { cow, ..MmConfig::default() };
                    let mm = Mm::new(&zone, &machine, ram.infos(), config).unwrap();
                    let space = mm.space().unwrap();
                    let object = mm.object(ObjectConfig::new(LEN).huge()).unwrap();
                    space.map(Map::anonymous(LEN, Prot::READ_WRITE).huge(huge).at(BASE)).unwrap();
                    space.map(Map::shared(&object, 0, LEN, Prot::READ_WRITE).huge(huge).at(FILE)).unwrap();
                    space.map(Map::private(&object, 0, LEN, Prot::READ_WRITE).huge(huge).at(COPY)).unwrap();
                    for page in 0..LEN / PAGE {
                        space.write(BASE.offset(page * PAGE), &[1]).unwrap();
                        space.write(FILE.offset(page * PAGE), &[1]).unwrap();
                        space
                            .fault(
                                COPY.offset(page * PAGE),
                                if page % 2 == 0 { Access::Read } else { Access::Write },
                            )
                            .unwrap();
                    }
                    // The fork itself is an operation, too: what the parent has cached for writing
                    // must go.
                    cache(&tlb, &[&space]);
                    let child = if forked { space.fork().unwrap() } else { mm.space().unwrap() };
                    if !forked {
                        child.map(Map::anonymous(LEN, Prot::READ_WRITE).huge(huge).at(BASE)).unwrap();
                        child.write(BASE, &[1]).unwrap();
                    }
                    check(&tlb, &[&space, &child], &format!("fork before {what}"));
                    cache(&tlb, &[&space, &child]);
                    // A processor has both tables.
                    let loaded = [space.load(), child.load()];
                    step(&space, &child, &object);
                    check(&tlb, &[&space, &child], &what);
                    cache(&tlb, &[&space, &child]);
                    drop(space);
                    check(&tlb, &[&child], &format!("exit after {what}"));
                    drop((child, loaded, object, mm));
                    assert_eq!((zone.audit().violations(), zone.used_frames()), (0, 0), "{what}");
                }
            }
        }
    }
}
