//! Random programs against a model that knows only who holds which pages.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;
use tailpin::PAGE_SIZE as PAGE;
use tailpin_arena::{Arena, Backing, Buffer, Slice};

/// A handle, and what the model knows of it.
struct Handle {
    slice: Slice,
    /// Which buffer, by number.
    buffer: usize,
    /// Which of the buffer's bytes.
    bytes: Range<usize>,
    hold: Hold,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    Nothing,
    /// Of the whole block.
    Whole,
    /// Of one page.
    Page,
    /// Shared counts on several pages, or of a buffer of several blocks, by number.
    Pages(usize),
    Blocks(usize),
}

#[derive(Default)]
struct Model {
    handles: Vec<Handle>,
    writable: Vec<(Buffer, usize)>,
    /// Pages of each buffer ever made.
    sizes: Vec<usize>,
    groups: usize,
}

fn pages(bytes: &Range<usize>) -> Range<usize> {
    if bytes.is_empty() { 0..0 } else { bytes.start / PAGE..bytes.end.div_ceil(PAGE) }
}

fn stamp(buffer: usize, at: usize) -> u8 {
    (buffer * 31 + at * 7 + at / PAGE) as u8
}

impl Model {
    fn of(&self, buffer: usize) -> impl Iterator<Item = &Handle> {
        self.handles.iter().filter(move |handle| handle.buffer == buffer)
    }

    /// References to the blocks of a buffer.
    fn references(&self, buffer: usize) -> usize {
        let single = self.of(buffer).filter(|handle| handle.hold == Hold::Whole).count();
        let shared = self.of(buffer).any(|handle| matches!(handle.hold, Hold::Blocks(_)));
        single + usize::from(shared)
    }

    /// Pins of a page of a buffer.
    fn pins(&self, buffer: usize, page: usize) -> usize {
        let on = |handle: &&Handle| pages(&handle.bytes).contains(&page);
        let single = self.of(buffer).filter(on).filter(|handle| handle.hold == Hold::Page).count();
        let groups: BTreeSet<usize> = self
            .of(buffer)
            .filter(on)
            .filter_map(|handle| if let Hold::Pages(group) = handle.hold { Some(group) } else { None })
            .collect();
        single + groups.len()
    }

    fn in_group(&self, hold: Hold) -> usize {
        self.handles.iter().filter(|handle| handle.hold == hold).count()
    }

    fn retained(&self, handle: &Handle) -> usize {
        let buffer = handle.buffer;
        let references = self.references(buffer);
        let all = 0..self.sizes[buffer];
        let unpinned = all.filter(|page| self.pins(buffer, *page) == 0).count();
        let alone = |page: &usize| references == 0 && self.pins(buffer, *page) == 1;
        let n = match handle.hold {
            Hold::Nothing => 0,
            Hold::Whole => {
                if references == 1 {
                    unpinned
                } else {
                    0
                }
            }
            Hold::Page => pages(&handle.bytes).filter(alone).count(),
            Hold::Blocks(_) | Hold::Pages(_) if self.in_group(handle.hold) > 1 => 0,
            Hold::Blocks(_) => unpinned,
            Hold::Pages(_) => pages(&handle.bytes).filter(alone).count(),
        };
        n * PAGE
    }

    fn sharers(&self, handle: &Handle) -> usize {
        let (buffer, all) = (handle.buffer, 0..self.sizes[handle.buffer]);
        let most = |mut on: Range<usize>| {
            let counted = |page| self.pins(buffer, page) + self.references(buffer);
            on.by_ref().map(counted).max().unwrap_or(1)
        };
        match handle.hold {
            Hold::Nothing => 1,
            Hold::Whole => most(all),
            Hold::Page => most(pages(&handle.bytes)),
            Hold::Blocks(_) => most(all) + self.in_group(handle.hold) - 1,
            Hold::Pages(_) => most(pages(&handle.bytes)) + self.in_group(handle.hold) - 1,
        }
    }

    fn freeze(&mut self, buffer: Buffer, number: usize) {
        let bytes = 0..buffer.len();
        self.sizes[number] = buffer.capacity() / PAGE;
        let hold = if bytes.is_empty() {
            Hold::Nothing
        } else if self.sizes[number].is_power_of_two() {
            Hold::Whole
        } else {
            self.groups += 1;
            Hold::Blocks(self.groups)
        };
        self.handles.push(Handle { slice: buffer.freeze(), buffer: number, bytes, hold });
    }

    fn slice(&mut self, of: usize, from: usize, to: usize) {
        let parent = &self.handles[of];
        let (from, to) = (from % (parent.bytes.len() + 1), to % (parent.bytes.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let slice = parent.slice.slice(from..to);
        let bytes = parent.bytes.start + from..parent.bytes.start + to;
        let mut hold = parent.hold;
        if bytes.is_empty() {
            hold = Hold::Nothing;
        } else if pages(&bytes) != pages(&parent.bytes) {
            hold = if pages(&bytes).len() == 1 {
                Hold::Page
            } else {
                self.groups += 1;
                Hold::Pages(self.groups)
            };
        }
        let handle = Handle { slice, buffer: parent.buffer, bytes, hold };
        self.handles.push(handle);
    }

    fn try_into_unique(&mut self, of: usize) {
        let handle = self.handles.swap_remove(of);
        let whole = matches!(handle.hold, Hold::Whole | Hold::Blocks(_));
        let free = whole
            && handle.bytes.start == 0
            && self.references(handle.buffer) == 0
            && (0..self.sizes[handle.buffer]).all(|page| self.pins(handle.buffer, page) == 0);
        match handle.slice.try_into_unique() {
            Ok(buffer) => {
                assert!(free, "another handle has it");
                self.writable.push((buffer, handle.buffer));
            }
            Err(slice) => {
                assert!(!free, "no other handle has it");
                self.handles.push(Handle { slice, ..handle });
            }
        }
    }

    fn check(&self, arena: &Arena) {
        let (mut whole, mut several, mut last) = (0, 0, 0);
        for buffer in 0..self.sizes.len() {
            if self.references(buffer) > 0 {
                whole += self.sizes[buffer];
                continue;
            }
            for page in 0..self.sizes[buffer] {
                match self.pins(buffer, page) {
                    0 => {}
                    1 => last += 1,
                    _ => several += 1,
                }
            }
        }
        whole += self.writable.iter().map(|(buffer, _)| buffer.capacity() / PAGE).sum::<usize>();
        let stats = arena.stats();
        assert_eq!(stats.in_use_whole, whole * PAGE);
        assert_eq!(stats.in_use_pages, several * PAGE);
        assert_eq!(stats.pinned_by_last_slice, last * PAGE);
        assert_eq!(stats.free + stats.given_back + stats.in_use(), stats.size);
        let kept: usize = arena.worst_holders(usize::MAX).iter().map(|holder| holder.kept_bytes).sum();
        assert_eq!(kept, stats.in_use());
        for handle in &self.handles {
            assert_eq!(
                handle.slice.retained_bytes(),
                self.retained(handle),
                "{:?} {:?}",
                handle.hold,
                handle.bytes
            );
            assert_eq!(handle.slice.sharers(), self.sharers(handle), "{:?} {:?}", handle.hold, handle.bytes);
            let number = handle.buffer;
            let expected = |i: usize| stamp(number, handle.bytes.start + i);
            assert!(handle.slice.iter().enumerate().step_by(61).all(|(i, byte)| *byte == expected(i)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_accounted_for(
        program in proptest::collection::vec((0u8..20, any::<u32>(), any::<u32>(), any::<u32>()), 1..80),
        on_heap in any::<bool>(),
    ) {
        let backing = if on_heap { Backing::Heap } else { Backing::default() };
        let arena = Arena::builder().size(4 << 20).backing(backing).build().unwrap();
        let mut model = Model::default();
        for (action, a, b, c) in program {
            let (a, b, c) = (a as usize, b as usize, c as usize);
            let any = if model.handles.is_empty() { None } else { Some(a % model.handles.len()) };
            match (action, any) {
                (0..=3, _) => {
                    if let Ok(mut buffer) = arena.alloc(a % (40 * PAGE)) {
                        let number = model.sizes.len();
                        model.sizes.push(0);
                        buffer.truncate(b % (60 * PAGE));
                        buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = stamp(number, i));
                        model.freeze(buffer, number);
                    }
                }
                (4..=9, Some(of)) => model.slice(of, b, c),
                (10, Some(of)) => model.slice(of, 0, model.handles[of].bytes.len()),
                (11..=13, Some(of)) => drop(model.handles.swap_remove(of)),
                (14..=16, Some(of)) => model.try_into_unique(of),
                (17, _) => {
                    if let Some((mut buffer, number)) = model.writable.pop() {
                        buffer.truncate(b % (buffer.len() + 1));
                        buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = stamp(number, i));
                        model.freeze(buffer, number);
                    }
                }
                (18, _) => {
                    let released = arena.release(b % (4 << 20));
                    assert!(released.is_ok() || arena.backing() == Backing::Heap);
                }
                _ => {}
            }
            model.check(&arena);
        }
        drop(model);
        prop_assert_eq!(arena.stats().in_use(), 0);
        prop_assert_eq!(arena.audit().violations(), 0);
        prop_assert!(arena.alloc(4 << 20).is_ok());
    }
}
