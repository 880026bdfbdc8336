//! The plan against a plain model: a toy memory that carries out the steps, and a reading of the
//! same trace that knows nothing of places, patches or early splits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plan::{Plan, Step};
use super::{Reading, compile};
use crate::support::{Dice, Writer, covers, random_trace};
use crate::trace::{FreeKind, Op, Record, Trace, builtins, read};

/// A frame of ours: which allocation it came from and where in it.
type Frame = (u32, u32);

#[derive(Clone, Copy, Debug)]
struct ToyBlock {
    alloc: u32,
    offset: u32,
    order: u8,
}

impl ToyBlock {
    fn frames(self) -> impl Iterator<Item = Frame> {
        (self.offset..self.offset + (1 << self.order)).map(move |at| (self.alloc, at))
    }
}

#[derive(Default)]
struct Toy {
    blocks: Vec<Option<ToyBlock>>,
    cells: Vec<Vec<Frame>>,
    pins: HashMap<Frame, u32>,
    allocs: u32,
    pinned: Vec<Frame>,
    splits: u32,
    splits_under_pins: u32,
    merges: u32,
}

impl Toy {
    fn run(plan: &Plan) -> Self {
        let mut toy =
            Self { blocks: vec![None; plan.blocks], cells: vec![Vec::new(); plan.cells], ..Self::default() };
        plan.steps.iter().for_each(|step| toy.step(plan, *step));
        toy
    }

    fn put(&mut self, place: u32, block: ToyBlock) {
        let old = self.blocks[place as usize].replace(block);
        assert!(old.is_none(), "place {place} is taken by {old:?}");
    }

    fn take(&mut self, place: u32) -> ToyBlock {
        self.blocks[place as usize].take().expect("nothing at this place")
    }

    fn cut(&mut self, plan: &Plan, block: u32, to: u8, pieces: u32) -> bool {
        let whole = self.take(block);
        assert!(to < whole.order);
        for piece in 0..1 << (whole.order - to) {
            let part = ToyBlock { offset: whole.offset + (piece << to), order: to, ..whole };
            self.put(plan.places[(pieces + piece) as usize], part);
        }
        whole.frames().any(|frame| self.pins.contains_key(&frame))
    }

    fn step(&mut self, plan: &Plan, step: Step) {
        match step {
            Step::Alloc { order, block } => {
                self.put(block, ToyBlock { alloc: self.allocs, offset: 0, order: order.get() });
                self.allocs += 1;
            }
            Step::Free { block } | Step::Drop { block } => drop(self.take(block)),
            Step::Split { to, under_pins, block, pieces } => {
                let pinned = self.cut(plan, block, to.get(), pieces);
                assert_eq!(pinned, under_pins);
                self.splits += 1;
                self.splits_under_pins += u32::from(pinned);
            }
            Step::Unmerge { to, block, pieces } => drop(self.cut(plan, block, to.get(), pieces)),
            Step::Pin { refs, block, index, cell } => {
                let block = self.blocks[block as usize].expect("pin of nothing");
                let frame = block.frames().nth(index as usize).expect("pin beyond the block");
                self.pinned.push(frame);
                *self.pins.entry(frame).or_default() += u32::from(refs);
                self.cells[cell as usize].extend((0..refs).map(|_| frame));
                assert!(self.cells[cell as usize].iter().all(|other| *other == frame));
            }
            Step::Unpin { refs, cell } => {
                for _ in 0..refs {
                    let frame = self.cells[cell as usize].pop().expect("unpin of nothing");
                    let count = self.pins.get_mut(&frame).expect("counted");
                    *count -= 1;
                    if *count == 0 {
                        self.pins.remove(&frame);
                    }
                }
            }
            Step::Merge { count, pieces, block } => {
                let places = &plan.places[pieces as usize..][..usize::from(count)];
                let parts: Vec<ToyBlock> = places.iter().map(|&place| self.take(place)).collect();
                let first = parts[0];
                assert_eq!(first.offset % 512, 0);
                for (nth, part) in parts.iter().enumerate() {
                    assert_eq!((part.alloc, part.order), (first.alloc, first.order));
                    assert_eq!(part.offset, first.offset + ((nth as u32) << part.order));
                }
                self.put(block, ToyBlock { order: 9, ..first });
                self.merges += 1;
            }
            Step::Refuse { block, refusal } => {
                let whole = self.take(block);
                let refusal = &plan.refusals[refusal as usize];
                let kept: BTreeMap<u32, u32> = refusal.kept.iter().copied().collect();
                assert_eq!(kept.len(), refusal.kept.len());
                let mut freed = 0;
                let mut pinned = false;
                for (index, frame) in whole.frames().enumerate() {
                    let is_pinned = self.pins.contains_key(&frame);
                    pinned |= is_pinned;
                    if let Some(&place) = kept.get(&(index as u32)) {
                        self.put(place, ToyBlock { alloc: frame.0, offset: frame.1, order: 0 });
                    } else if !is_pinned {
                        freed += 1;
                    }
                }
                assert_eq!((freed, pinned), (refusal.freed, refusal.under_pins));
            }
            Step::FreeNothing | Step::Collapse | Step::RefuseAgain | Step::Nothing => {}
        }
    }

    fn in_use(&self) -> BTreeSet<Frame> {
        let owned = self.blocks.iter().flatten().flat_map(|block| block.frames());
        owned.chain(self.pins.keys().copied()).collect()
    }
}

/// What a trace says, read without any cleverness.
#[derive(Default)]
struct Plain {
    /// Of each trace frame, the frame of ours that it is.
    identity: HashMap<u32, Frame>,
    pinned: Vec<Frame>,
    live: BTreeMap<u32, u8>,
    early: Vec<(usize, u64)>,
    under_pins_as_recorded: u32,
    peak: u64,
    peak_alloc: u32,
}

fn plain(trace: &Trace) -> Plain {
    let records: Vec<Record> = trace.records().map(Result::unwrap).collect();
    let times: Vec<u64> = records
        .iter()
        .scan(0, |time, record| {
            *time += u64::from(record.dt);
            Some(*time)
        })
        .collect();
    let mut plain = Plain::default();
    let mut allocs = 0;
    let mut pins: HashMap<u32, i64> = HashMap::new();
    let mut frames = 0_u64;
    for (at, record) in records.iter().enumerate() {
        match record.op {
            Op::Alloc { pfn, order } => {
                for offset in 0..order.frames() as u32 {
                    plain.identity.insert(pfn + offset, (allocs, offset));
                }
                plain.live.insert(pfn, order.get());
                frames += order.frames();
                if frames > plain.peak {
                    (plain.peak, plain.peak_alloc) = (frames, allocs);
                }
                allocs += 1;
            }
            Op::Free { pfn, order, kind } => {
                let order = order.get();
                let gone: Vec<u32> = match kind {
                    FreeKind::Larger => {
                        plain.live.keys().copied().filter(|&block| covers(pfn, order, block)).collect()
                    }
                    _ => vec![pfn],
                };
                for pfn in gone {
                    frames -= 1 << plain.live.remove(&pfn).unwrap();
                }
            }
            Op::Split { pfn, order, to } => {
                let (order, to) = (order.get(), to.get());
                let held = pins.iter().any(|(&frame, &refs)| refs > 0 && covers(pfn, order, frame));
                plain.under_pins_as_recorded += u32::from(held);
                // Back to where this block began.
                let mut last_unpin = None;
                let mut refused = false;
                for (before, record) in records[..at].iter().enumerate().rev() {
                    match record.op {
                        Op::Alloc { pfn: born, .. } if born == pfn => break,
                        Op::Alloc { pfn: born, order } if covers(born, order.get(), pfn) => break,
                        Op::Split { pfn: born, order, .. } if covers(born, order.get(), pfn) => break,
                        Op::SplitFail { pfn: whole, .. } if whole == pfn => refused = true,
                        Op::Unpin { pfn: frame, .. } if covers(pfn, order, frame) => {
                            last_unpin = last_unpin.or(Some(before));
                        }
                        _ => {}
                    }
                }
                if let Some(unpin) = last_unpin.filter(|_| !held && !refused) {
                    plain.early.push((unpin, times[at] - times[unpin]));
                }
                plain.live.remove(&pfn);
                plain.live.extend((0..1 << (order - to)).map(|piece| (pfn + (piece << to), to)));
            }
            Op::Pin { pfn, refs } => {
                plain.pinned.push(plain.identity[&pfn]);
                *pins.entry(pfn).or_default() += i64::from(refs);
            }
            Op::Unpin { pfn, refs } => *pins.get_mut(&pfn).unwrap() -= i64::from(refs),
            Op::Collapse { .. } | Op::Time | Op::SplitFail { .. } => {}
        }
    }
    plain
}

impl Plain {
    fn live_frames(&self) -> BTreeSet<Frame> {
        let frames = self.live.iter().flat_map(|(&pfn, &order)| pfn..pfn + (1 << order));
        frames.map(|frame| self.identity[&frame]).collect()
    }
}

/// Every reading of a trace; returns what the default one gives with merges.
fn check(trace: &Trace) -> (Toy, Plan) {
    check_readings(trace, &[(true, false), (true, true), (false, false), (false, true)])
}

fn check_readings(trace: &Trace, readings: &[(bool, bool)]) -> (Toy, Plan) {
    let plain = plain(trace);
    let live = plain.live_frames();
    let mut result = None;
    for &(as_recorded, merges) in readings {
        let plan = compile(trace, Reading { as_recorded, merges }).unwrap();
        let toy = Toy::run(&plan);
        assert_eq!(toy.pinned, plain.pinned, "every pin must hit the page it was recorded on");
        let in_use = toy.in_use();
        assert_eq!(plan.frames_at_end, in_use.len() as u64);
        assert_eq!(plan.trace_frames_at_end, live.len() as u64);
        if plan.refusals.is_empty() {
            assert_eq!(in_use, live);
        } else {
            assert!(in_use.is_subset(&live));
        }
        assert_eq!(plan.peak_frames, plain.peak);
        let peak_alloc =
            plan.steps[..plan.peak_step].iter().filter(|step| matches!(step, Step::Alloc { .. }));
        assert_eq!(peak_alloc.count() as u32, plain.peak_alloc);
        if plan.refusals.is_empty() && as_recorded {
            assert_eq!(toy.splits_under_pins, plain.under_pins_as_recorded);
        }
        if plan.refusals.is_empty() && !as_recorded && !merges {
            let waited: u64 = plain.early.iter().map(|(_, waited)| waited).sum();
            assert_eq!(
                toy.splits_under_pins as usize,
                plain.early.len() + plain.under_pins_as_recorded as usize
            );
            assert_eq!(plan.waited_ns, waited);
        }
        result = Some((toy, plan));
    }
    result.unwrap()
}

fn written(writer: &Writer) -> Trace {
    read("test".into(), writer.file().as_slice(), 1 << 26).unwrap()
}

#[test]
fn builtins_agree_with_the_plain_model() {
    for (builtin, splits_under_pins, left) in [(&builtins()[0], 53, 65), (&builtins()[1], 0, 17_216)] {
        let trace = builtin.open().unwrap();
        let (toy, plan) = check_readings(&trace, &[(false, false)]);
        assert_eq!(toy.splits_under_pins, splits_under_pins);
        assert_eq!(plan.trace_frames_at_end, left);
        assert!(trace.text.contains(&format!("stat live_pages_at_end {left}\n")));
    }
}

#[test]
fn a_split_moves_before_the_pin_it_waited_for() {
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).pin(600, 1).pin(601, 1).unpin(601, 1).unpin(600, 1).time().split(512, 9, 0);
    writer.free_pages(512..1024);
    let (toy, plan) = check(&written(&writer));
    assert_eq!((toy.splits, toy.splits_under_pins, plan.waited_ns), (1, 1, 2000));
    assert!(toy.in_use().is_empty());
}

#[test]
fn a_split_that_never_waited_stays_where_it_is() {
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).pin(600, 1).unpin(600, 1).free(512, 9).alloc(512, 9).split(512, 9, 3);
    let (toy, plan) = check(&written(&writer));
    assert_eq!((toy.splits, toy.splits_under_pins, plan.waited_ns), (1, 0, 0));
}

#[test]
fn a_refused_split_frees_what_nobody_uses() {
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).pin(600, 2).split_fail(512, 9).split_fail(512, 9).pin(700, 1).unpin(600, 2);
    writer.unpin(700, 1).split(512, 9, 0);
    let (_, plan) = check(&written(&writer));
    // Page 700 is pinned again after the refusal, so it was still in use; page 600 went with its
    // pin.
    assert_eq!((plan.refusals[0].freed, plan.frames_at_end, plan.trace_frames_at_end), (510, 1, 512));
    writer.free_pages(512..1024);
    let (_, plan) = check(&written(&writer));
    assert_eq!((plan.frames_at_end, plan.trace_frames_at_end), (0, 0));
}

#[test]
fn pieces_of_one_block_merge_under_pins_and_split_again() {
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).split(512, 9, 2).pin(520, 1).collapse(600).pin(521, 1).free(512, 2);
    let (toy, _) = check(&written(&writer));
    assert_eq!((toy.merges, toy.in_use().len()), (1, 508));
    // A page that is not of the same block stands against it.
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).split(512, 9, 0).free(700, 0).alloc(700, 0).collapse(600);
    assert_eq!(check(&written(&writer)).0.merges, 0);
    // A larger block has several pageblocks.
    let mut writer = Writer::new(2048);
    writer.alloc(0, 10).split(0, 10, 1).collapse(512).collapse(0).split(512, 1, 0).collapse(512);
    assert_eq!(check(&written(&writer)).0.merges, 2);
}

#[test]
fn a_free_that_is_larger_takes_all_it_covers() {
    let mut writer = Writer::new(2048);
    writer.alloc(512, 9).split(512, 9, 0).alloc(0, 0).record(2, 512, 2, 9, 0);
    assert_eq!(check(&written(&writer)).0.in_use().len(), 1);
    let mut writer = Writer::new(2048);
    writer.alloc(8, 1).alloc(12, 0).record(2, 8, 2, 3, 0);
    assert!(check(&written(&writer)).0.in_use().is_empty());
}

#[test]
fn random_traces_agree_with_the_plain_model() {
    let mut seen = (0, 0, 0, 0);
    for seed in 1..400 {
        let trace = written(&random_trace(&mut Dice(seed)));
        let (toy, plan) = check(&trace);
        seen.0 += toy.splits_under_pins;
        seen.1 += toy.merges;
        seen.2 += plan.refusals.len();
        seen.3 += plan.refusals.iter().map(|refusal| refusal.kept.len()).sum::<usize>();
    }
    assert!(seen.0 > 100 && seen.1 > 100 && seen.2 > 100 && seen.3 > 100, "{seen:?}");
}
