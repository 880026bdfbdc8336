//! Runs a program on spaces and on the model, and compares.

use std::ops::Range;

use tailpin::{Order, Pfn, Zone};
use tailpin_mm::{
    Access, Advice, AdviseError, CollapseError, CollapseLimits, FaultError, HugePages, Map, MapError,
    MmConfig, MmError, NotPresent, Object, ObjectConfig, PageIdentity, PageSplitError, PinError, Pins, Prot,
    StdEnv, VirtAddr,
};

use super::model::{Back, Cell, Mapped, Model, ModelObject, ModelSpace, Need, PAGE, UNIT};
use super::program::{OBJECTS, Op, SPACES, Span, Step, What};
use crate::common::accounts::Accounts;
use crate::common::{MIB, Mem, Sp, machine, pattern};

/// So much that memory never runs out but where it is told to.
const MEMORY: u64 = 160 * MIB;
/// Pins kept at a time.
const PINS: usize = 8;

pub fn run(steps: &[Step], config: MmConfig) {
    machine(MEMORY, config, |mm, zone, env| {
        let mut machine = Machine::new(mm, zone, env);
        for step in steps {
            machine.step(step);
        }
        machine.check();
        machine.end();
    });
}

struct LivePin<'z> {
    pins: Pins<'z, StdEnv>,
    pages: Vec<Cell>,
    frames: Vec<Pfn>,
    access: Access,
    /// Of each page, whether it lies in a hugetlb block.
    hugetlb: Vec<bool>,
}

struct Machine<'a, 'z> {
    mm: &'a Mem<'z>,
    zone: &'z Zone<'z>,
    env: &'z StdEnv,
    model: Model,
    spaces: Vec<Option<Sp<'z>>>,
    objects: Vec<Object<'z, StdEnv>>,
    pins: Vec<LivePin<'z>>,
    /// Whether allocations may fail in this step.
    failing: bool,
}

/// Parts of pages that `len` bytes at `addr` are in: where each begins, and which of the bytes.
fn pieces(addr: VirtAddr, len: u64) -> impl Iterator<Item = (VirtAddr, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = addr.offset(done);
        let n = (PAGE - at.get() % PAGE).min(len - done);
        let part = done as usize..(done + n) as usize;
        done += n;
        (n > 0).then_some((at, part))
    })
}

fn address(page: u64) -> VirtAddr {
    VirtAddr::new(page * PAGE)
}

impl Span {
    fn pages(self) -> Range<u64> {
        self.start.page()..self.start.page() + self.pages
    }

    fn bytes(self) -> u64 {
        self.pages * PAGE
    }

    /// Made of whole hugetlb units.
    fn rounded(self) -> Self {
        Self { start: self.start.align_down(UNIT * PAGE), pages: self.pages.next_multiple_of(UNIT) }
    }
}

impl<'a, 'z> Machine<'a, 'z> {
    fn new(mm: &'a Mem<'z>, zone: &'z Zone<'z>, env: &'z StdEnv) -> Self {
        let kinds = [
            (ObjectConfig::new(3 * MIB + 100), 1, false),
            (ObjectConfig::new(4 * MIB).huge(), 1, false),
            (ObjectConfig::new(4 * MIB).hugetlb(Order::HUGE), UNIT, false),
            (ObjectConfig::new(2 * MIB + 5000).tracks_writes(), 1, true),
        ];
        let mut model = Model::default();
        let mut objects = Vec::new();
        for (config, unit, tracks_writes) in kinds {
            let object = mm.object(config).unwrap();
            model.objects.push(ModelObject {
                len: object.len(),
                unit,
                tracks_writes,
                pages: Default::default(),
            });
            objects.push(object);
        }
        assert_eq!(objects.len(), OBJECTS);
        let mut spaces = Vec::new();
        for number in 0..SPACES {
            spaces.push((number == 0).then(|| mm.space().unwrap()));
            model.spaces.push((number == 0).then(ModelSpace::default));
        }
        Self { mm, zone, env, model, spaces, objects, pins: Vec::new(), failing: false }
    }

    fn sp(&self, space: usize) -> &Sp<'z> {
        self.spaces[space].as_ref().expect("the space is there")
    }

    fn step(&mut self, step: &Step) {
        let s = if self.spaces[step.space].is_some() {
            step.space
        } else if let Some(s) = self.spaces.iter().position(Option::is_some) {
            s
        } else {
            self.spaces[step.space] = Some(self.mm.space().unwrap());
            self.model.spaces[step.space] = Some(ModelSpace::default());
            step.space
        };
        self.failing = step.fail.is_some();
        self.env.fail_after(step.fail);
        self.perform(s, &step.op);
        self.env.fail_after(None);
        self.failing = false;
        self.check_pins();
        if matches!(step.op, Op::Check) {
            self.check();
        }
    }

    fn perform(&mut self, s: usize, op: &Op) {
        match *op {
            Op::Map { what, span, prot, huge, round } => self.map(s, what, span, (prot, huge), round),
            Op::Unmap { span, round } => {
                let span = self.fit(s, span, round);
                self.unmap(s, span);
            }
            Op::Anew { span, huge } => {
                let span = self.fit(s, span, true);
                if self.unmap(s, span) {
                    self.map(s, What::Anonymous, span, (Prot::READ_WRITE, huge), true);
                }
            }
            Op::Touch { at, seed } => {
                let start = at.align_down(UNIT * PAGE);
                for page in (0..UNIT).rev() {
                    self.write(s, start.offset(page * PAGE + u64::from(seed)), 1, seed);
                }
            }
            Op::Protect { span, prot, round } => {
                let span = self.fit(s, span, round);
                let mut expected = self.misaligned(s, span.pages());
                expected.extend(self.gap(s, span.pages()));
                let done = self.sp(s).protect(span.start, span.bytes(), prot);
                if self.agrees(done, &expected) {
                    self.model.space_mut(s).protect(span.pages(), prot);
                }
            }
            Op::Advise { span, advice, round } => self.advise(s, self.fit(s, span, round), advice),
            Op::Remap { span, to } => self.remap(s, span, to),
            Op::Read { at, len } => self.read(s, at, len),
            Op::Write { at, len, seed } => self.write(s, at, len, seed),
            Op::Store { at, value } => match self.sp(s).store_u32(at, value) {
                Ok(()) => {
                    let page = self.model.page(s, at, Need::Write).expect("a store needs the right to write");
                    page.write(at.get() % PAGE, &value.to_ne_bytes());
                }
                Err(NotPresent { addr }) => assert_eq!(addr, at),
            },
            Op::Fault { at, access } => {
                let done = self.sp(s).fault(at, access);
                if !self.ran_out(done.err()) {
                    assert_eq!(done, self.model.page(s, at, Need::of(access)).map(|_| ()));
                }
            }
            Op::Identify { at, access } => self.identify(s, at, access),
            Op::Fork { into } => {
                let done = self.sp(s).fork();
                let made = done.as_ref().map(|_| ()).map_err(|error| *error);
                if self.agrees(made, &[]) {
                    self.model.spaces[into] = Some(self.model.fork(s));
                    // The space that was there exits.
                    self.spaces[into] = done.ok();
                }
            }
            Op::Exit => (self.spaces[s], self.model.spaces[s]) = (None, None),
            Op::Pin { at, len, access, long } => self.pin(s, at, len, access, long),
            Op::PinWrite { pin, at, len, seed } => self.pin_write(pin, at, len, seed),
            Op::Unpin { pin } => {
                if pin < self.pins.len() {
                    self.pins.swap_remove(pin);
                }
            }
            Op::SplitMapping { at } => {
                let done = self.sp(s).split_mapping(at);
                self.split_agrees(s, at, done);
                if done.is_ok() {
                    let mapping = self.sp(s).mapping(at).expect("a page is present");
                    assert_eq!(mapping.order, Order::PAGE);
                }
            }
            Op::SplitPage { at, order } => {
                let order = Order::new(order).unwrap();
                let done = self.sp(s).split_page(at, order);
                self.split_agrees(s, at, done.map(|_| ()));
                if let Ok(now) = done {
                    assert!(now <= order, "asked for {order}, is {now}");
                    let frame = self.sp(s).mapping(at).expect("a page is present").frame;
                    assert_eq!(self.zone.head_of(frame).unwrap().1, now);
                }
            }
            Op::Collapse { at, max_none, max_shared } => self.collapse(s, at, max_none, max_shared),
            Op::Truncate { object, len, round } => {
                let unit = self.model.objects[object].unit;
                let unit = if unit > 1 { unit * PAGE } else { 1 };
                let len = if round { len / unit * unit } else { len };
                let done = self.objects[object].truncate(len);
                if len.is_multiple_of(unit) {
                    assert_eq!(done, Ok(()), "truncation needs no memory");
                    self.model.truncate(object, len);
                } else {
                    assert_eq!(done, Err(MmError::Misaligned { value: len, unit }));
                }
                assert_eq!(self.objects[object].len(), self.model.objects[object].len);
            }
            Op::PunchHole { object, from, len } => {
                self.objects[object].punch_hole(from..from + len);
                self.model.punch_hole(object, from..from + len);
            }
            Op::Check => {}
        }
    }

    /// The span, made of whole units where it meets a hugetlb mapping, if that is wanted.
    fn fit(&self, s: usize, span: Span, round: bool) -> Span {
        let space = self.model.space(s);
        let meets = space.mapped.range(span.pages()).any(|(_, mapped)| self.is_hugetlb(mapped));
        if round && meets { span.rounded() } else { span }
    }

    fn is_hugetlb(&self, mapped: &Mapped) -> bool {
        match mapped.back {
            Back::Shared(object) | Back::Private(object) => self.model.objects[object].unit > 1,
            Back::Anonymous | Back::Guard => false,
        }
    }

    /// Whether an operation did its work. It has to have done so, unless memory was let run out, or
    /// an error was to be expected; then it has to be one of those.
    fn agrees(&self, done: Result<(), MapError>, expected: &[MapError]) -> bool {
        match done {
            Ok(()) => assert_eq!(expected, &[], "an error was to be expected"),
            Err(MapError::OutOfMemory { .. }) if self.failing => {}
            Err(error) => assert!(expected.contains(&error), "{error:?} is none of {expected:?}"),
        }
        done.is_ok()
    }

    fn ran_out(&self, error: Option<FaultError>) -> bool {
        self.failing && matches!(error, Some(FaultError::OutOfMemory { .. }))
    }

    /// Ends of the pages that are inside a hugetlb block.
    fn misaligned(&self, s: usize, pages: Range<u64>) -> Vec<MapError> {
        let inside = |at: &u64| {
            let mapped = self.model.space(s).mapped.get(at);
            !at.is_multiple_of(UNIT) && mapped.is_some_and(|mapped| self.is_hugetlb(mapped))
        };
        let error = |at: u64| MapError::Misaligned { value: at * PAGE, unit: UNIT * PAGE };
        [pages.start, pages.end].into_iter().filter(inside).map(error).collect()
    }

    fn gap(&self, s: usize, pages: Range<u64>) -> Option<MapError> {
        self.model.space(s).first_gap(pages).map(|at| MapError::Unmapped { addr: address(at) })
    }

    fn unmap(&mut self, s: usize, span: Span) -> bool {
        let expected = self.misaligned(s, span.pages());
        let done = self.sp(s).unmap(span.start, span.bytes());
        let done = self.agrees(done, &expected);
        if done {
            self.model.space_mut(s).unmap(span.pages());
        }
        done
    }

    fn map(&mut self, s: usize, what: What, span: Span, how: (Prot, HugePages), round: bool) {
        let (prot, huge) = how;
        let (object, first) = match what {
            What::Shared { object, first } | What::Private { object, first } => (Some(object), first),
            What::Anonymous | What::Guard => (None, 0),
        };
        let unit = object.map_or(1, |object| self.model.objects[object].unit);
        let (span, first) =
            if unit > 1 && round { (span.rounded(), first / unit * unit) } else { (span, first) };
        let (len, offset) = (span.bytes(), first * PAGE);
        let (map, back, prot) = match what {
            What::Anonymous => (Map::anonymous(len, prot), Back::Anonymous, prot),
            What::Shared { object, .. } => {
                (Map::shared(&self.objects[object], offset, len, prot), Back::Shared(object), prot)
            }
            What::Private { object, .. } => {
                (Map::private(&self.objects[object], offset, len, prot), Back::Private(object), prot)
            }
            What::Guard => (Map::guard(len), Back::Guard, Prot::NONE),
        };
        let unit = unit * PAGE;
        let mut expected: Vec<_> = [len, offset, span.start.get()]
            .into_iter()
            .filter(|value| value % unit != 0)
            .map(|value| MapError::Misaligned { value, unit })
            .collect();
        let occupied = self.model.space(s).first_mapped(span.pages());
        expected.extend(occupied.map(|at| MapError::Occupied { addr: address(at) }));
        let done = self.sp(s).map(map.at(span.start).huge(huge));
        if self.agrees(done.map(|addr| assert_eq!(addr, span.start)), &expected) {
            for (i, at) in span.pages().enumerate() {
                let mapped = Mapped { back, index: first + i as u64, prot };
                self.model.space_mut(s).mapped.insert(at, mapped);
            }
        }
    }

    fn advise(&mut self, s: usize, span: Span, advice: Advice) {
        let done = self.sp(s).advise(span.start, span.bytes(), advice);
        let mut expected: Vec<_> = self.gap(s, span.pages()).into_iter().collect();
        if advice == Advice::Collapse {
            match done {
                // Whether a collapse is worth it is not for the model to say; no read may show it
                // either way.
                Ok(()) | Err(AdviseError::Collapse(_)) => assert_eq!(expected, []),
                Err(AdviseError::Map(error)) => assert!(expected.contains(&error), "{error:?}"),
            }
            return;
        }
        expected.extend(self.misaligned(s, span.pages()));
        if advice == Advice::Free {
            let mut mapped = self.model.space(s).mapped.range(span.pages());
            let other = mapped.find(|(_, mapped)| mapped.back != Back::Anonymous);
            expected.extend(other.map(|(at, _)| MapError::NotAnonymous { addr: address(*at) }));
        }
        let done = done.map_err(|error| match error {
            AdviseError::Map(error) => error,
            AdviseError::Collapse(error) => panic!("nothing was to be collapsed: {error}"),
        });
        if self.agrees(done, &expected) && matches!(advice, Advice::DontNeed | Advice::Free) {
            self.model.space_mut(s).discard(span.pages());
        }
    }

    fn remap(&mut self, s: usize, span: Span, to: VirtAddr) {
        let space = self.model.space(s);
        let hugetlb = space.mapped.range(span.pages()).any(|(_, mapped)| self.is_hugetlb(mapped));
        let target = to.page()..to.page() + span.pages;
        let mut expected = self.misaligned(s, span.pages());
        expected.extend(self.gap(s, span.pages()));
        let occupied = space.first_mapped(target);
        expected.extend(occupied.map(|at| MapError::Occupied { addr: address(at) }));
        let unit = if hugetlb { UNIT * PAGE } else { PAGE };
        if !to.get().abs_diff(span.start.get()).is_multiple_of(unit) {
            expected.push(MapError::Misaligned { value: to.get(), unit });
        }
        let done = self.sp(s).remap(span.start, span.bytes(), Some(to));
        if self.agrees(done.map(|addr| assert_eq!(addr, to)), &expected) {
            self.model.space_mut(s).remap(span.pages(), to.page());
        }
    }

    fn read(&mut self, s: usize, at: VirtAddr, len: u64) {
        let mut found = vec![0; len as usize];
        let done = self.sp(s).read(at, &mut found);
        for (addr, part) in pieces(at, len) {
            if self.ran_out(done.err()) && done.is_err_and(|error| error.addr() == addr) {
                return;
            }
            match self.model.page(s, addr, Need::Read) {
                Ok(page) => {
                    let from = (addr.get() % PAGE) as usize;
                    assert_eq!(found[part.clone()], page.bytes()[from..from + part.len()], "read at {addr}");
                }
                Err(error) => return assert_eq!(done, Err(error)),
            }
        }
        assert_eq!(done, Ok(()));
    }

    fn write(&mut self, s: usize, at: VirtAddr, len: u64, seed: u8) {
        let data = pattern(seed.into(), len as usize);
        let done = self.sp(s).write(at, &data);
        for (addr, part) in pieces(at, len) {
            if self.ran_out(done.err()) && done.is_err_and(|error| error.addr() == addr) {
                return; // What is before it has been written.
            }
            match self.model.page(s, addr, Need::Write) {
                Ok(page) => page.write(addr.get() % PAGE, &data[part]),
                Err(error) => return assert_eq!(done, Err(error)),
            }
        }
        assert_eq!(done, Ok(()));
    }

    fn identify(&mut self, s: usize, at: VirtAddr, access: Access) {
        let done = self.sp(s).identify(at, access);
        if self.ran_out(done.err()) {
            return;
        }
        if let Err(error) = self.model.page(s, at, Need::of(access)) {
            return assert_eq!(done, Err(error));
        }
        let space = self.model.space(s);
        let (mapped, own) = (space.mapped[&at.page()], space.own.contains_key(&at.page()));
        match (done.unwrap(), mapped.back) {
            (
                PageIdentity::Object { object, index, writable },
                Back::Shared(number) | Back::Private(number),
            ) => {
                assert!(!own, "the space has a page of its own at {at}");
                assert_eq!((object, index), (self.objects[number].id(), mapped.index));
                assert!(!writable || mapped.prot.write && matches!(mapped.back, Back::Shared(_)));
            }
            (PageIdentity::Anonymous { writable }, Back::Anonymous | Back::Private(_)) => {
                assert!(own || mapped.back == Back::Anonymous, "a page of the object's at {at}");
                assert!(mapped.prot.write || !writable);
            }
            (PageIdentity::Special, Back::Anonymous) => assert!(!own, "the page at {at} was written to"),
            (place, back) => panic!("{place:?} at {at}, which is {back:?}"),
        }
    }

    fn pin(&mut self, s: usize, at: VirtAddr, len: u64, access: Access, long: bool) {
        if self.pins.len() == PINS {
            self.pins.remove(0);
        }
        let space = self.sp(s);
        let done = if long { space.pin_long_term(at, len, access) } else { space.pin_pages(at, len, access) };
        let error = done.as_ref().err().copied();
        let (mut pages, mut hugetlb) = (Vec::new(), Vec::new());
        for (addr, _) in pieces(at, len) {
            let addr = addr.align_down(PAGE);
            // Pages before it may have become the space's own.
            let ran_out = |error| matches!(error, PinError::Fault(error) if self.ran_out(Some(error)) && error.addr() == addr);
            if error.is_some_and(ran_out) {
                return;
            }
            match self.model.page(s, addr, Need::pinned(access)) {
                Ok(page) => pages.push(page),
                Err(expected) => return assert_eq!(error, Some(PinError::Fault(expected))),
            }
            let mapped = self.model.space(s).mapped[&addr.page()];
            hugetlb.push(self.is_hugetlb(&mapped));
            if let Back::Shared(object) = mapped.back
                && self.model.objects[object].tracks_writes
                && long
                && access == Access::Write
            {
                return assert_eq!(error, Some(PinError::LongTerm { addr }));
            }
        }
        assert_eq!(error, None);
        let pins = done.unwrap();
        let frames: Vec<_> = pins.frames().collect();
        assert_eq!((frames.len(), pins.len()), (pages.len(), len));
        for (i, frame) in frames.iter().enumerate() {
            let addr = at.offset(i as u64 * PAGE);
            assert_eq!(self.sp(s).mapping(addr).map(|mapping| mapping.frame), Some(*frame), "{addr}");
        }
        self.pins.push(LivePin { pins, pages, frames, access, hugetlb });
    }

    fn pin_write(&mut self, pin: usize, at: u64, len: u64, seed: u8) {
        let Some(live) = self.pins.get(pin).filter(|live| live.access == Access::Write) else { return };
        let at = at % live.pins.len();
        let len = len.min(live.pins.len() - at);
        let data = pattern(seed.into(), len as usize);
        live.pins.write(at, &data);
        let from = live.pins.offset() + at;
        for (addr, part) in pieces(VirtAddr::new(from), len) {
            live.pages[addr.page() as usize].write(addr.get() % PAGE, &data[part]);
        }
    }

    fn split_agrees(&self, s: usize, at: VirtAddr, done: Result<(), PageSplitError>) {
        let mapped = self.model.space(s).mapped.get(&at.page());
        let hugetlb = mapped.is_some_and(|mapped| self.is_hugetlb(mapped));
        match done {
            Ok(()) => assert!(mapped.is_some() && !hugetlb),
            Err(PageSplitError::NotPresent { addr }) => {
                assert_eq!(addr, at);
                assert!(!self.model.space(s).own.contains_key(&at.page()), "what was written is present");
            }
            Err(PageSplitError::Unsplittable { addr }) => assert!(addr == at && hugetlb),
            Err(PageSplitError::OutOfMemory { addr }) => assert!(addr == at && self.failing),
            Err(error @ PageSplitError::CountLimit { .. }) => panic!("{error}"),
        }
    }

    fn collapse(&mut self, s: usize, at: VirtAddr, max_ptes_none: u32, max_ptes_shared: u32) {
        let done = self.sp(s).collapse(at, CollapseLimits { max_ptes_none, max_ptes_shared });
        let start = at.align_down(UNIT * PAGE);
        let pages = start.page()..start.page() + UNIT;
        let space = self.model.space(s);
        let first = space.mapped.get(&pages.start).copied();
        let one_kind = first.is_some_and(|first| {
            let same = |mapped: &Mapped| (mapped.back, mapped.prot) == (first.back, first.prot);
            !matches!(first.back, Back::Private(_) | Back::Guard)
                && !self.is_hugetlb(&first)
                && pages.clone().all(|at| space.mapped.get(&at).is_some_and(same))
        });
        match done {
            Ok(_) => {
                assert!(one_kind, "different things became one huge page");
                if first.is_some_and(|first| first.back == Back::Anonymous) {
                    assert_eq!(self.sp(s).mapping(start).unwrap().order, Order::HUGE);
                }
            }
            Err(CollapseError::NotEligible { addr } | CollapseError::NoHugePages { addr }) => {
                assert_eq!(addr, start);
            }
            Err(CollapseError::Pinned { addr }) => {
                let mut around = address(addr.page() & !(UNIT - 1)).page()..=addr.page() | (UNIT - 1);
                let pinned = |at| {
                    let cell = match space.mapped[&at].back {
                        Back::Shared(object) => {
                            self.model.objects[object].pages.get(&space.mapped[&at].index)
                        }
                        _ => space.own.get(&at).filter(|_| at == addr.page()),
                    };
                    let is = |page: &Cell| cell.is_some_and(|cell| std::rc::Rc::ptr_eq(cell, page));
                    self.pins.iter().any(|live| live.pages.iter().any(is))
                };
                assert!(around.any(pinned), "the page at {addr} is not pinned");
            }
            Err(CollapseError::TooManyAbsent { absent, .. }) => assert!(absent > max_ptes_none),
            Err(CollapseError::TooManyShared { shared, .. }) => assert!(shared > max_ptes_shared),
            Err(CollapseError::OutOfMemory { .. }) => assert!(self.failing, "memory ran out"),
            Err(CollapseError::Nothing { .. }) => {
                assert!(pages.into_iter().all(|at| !space.own.contains_key(&at)), "pages were written here");
            }
        }
    }

    /// Pins keep their frames and see what the model sees.
    fn check_pins(&self) {
        for live in &self.pins {
            for (i, page) in live.pages.iter().enumerate().filter(|(_, page)| page.is_touched()) {
                let first = (i as u64 * PAGE).max(live.pins.offset());
                let last = ((i as u64 + 1) * PAGE).min(live.pins.offset() + live.pins.len());
                let mut found = vec![0; (last - first) as usize];
                live.pins.read(first - live.pins.offset(), &mut found);
                let from = (first % PAGE) as usize;
                assert_eq!(found, page.bytes()[from..from + found.len()], "page {i} of a pin");
            }
            assert!(live.pins.frames().eq(live.frames.iter().copied()), "a pin's frames changed");
        }
    }

    /// Every page that was ever written, and where every frame is.
    fn check(&mut self) {
        for s in 0..SPACES {
            let Some(space) = &self.model.spaces[s] else { continue };
            let of_object = space.mapped.iter().filter_map(|(at, mapped)| match mapped.back {
                Back::Shared(object) | Back::Private(object) => {
                    self.model.objects[object].pages.contains_key(&mapped.index).then_some(*at)
                }
                Back::Anonymous | Back::Guard => None,
            });
            let mut pages: Vec<u64> = space.own.keys().copied().chain(of_object).collect();
            pages.dedup();
            assert_eq!(self.sp(s).usage().mapped_bytes, space.mapped.len() as u64 * PAGE);
            for at in pages {
                self.read(s, address(at), PAGE);
            }
        }
        self.check_accounts();
    }

    fn check_accounts(&self) {
        let mut accounts = Accounts::default();
        self.spaces.iter().flatten().for_each(|space| accounts.space(self.env, space));
        self.objects.iter().for_each(|object| accounts.object(object));
        self.pins.iter().for_each(|live| accounts.pins(&live.pins, |page| live.hugetlb[page]));
        accounts.settle(self.zone);
    }

    /// Everybody exits, objects go: what is left is what is pinned, to the page, unharmed.
    fn end(mut self) {
        self.spaces.clear();
        self.objects.clear();
        self.check_pins();
        self.check_accounts();
    }
}
