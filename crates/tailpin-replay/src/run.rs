//! Carrying out a plan: N copies of it at once on one zone.

use std::cell::Cell;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use tailpin::{
    Attach, Block, FrameRange, Misuse, Order, PageRef, Pfn, Protocol, Sink, Zone, ZoneConfig, ZoneLayout,
    ZoneMemory,
};

use super::error::ReplayError;
use super::gate::{Gate, OnTheWay};
use super::plan::{Plan, Refusal, Step};
use super::timeline::Sample;
use super::watch::Watch;

/// Steps between two words to who watches.
const STRIDE: usize = 1 << 16;

/// Misuse reports and audit findings that are kept as text; all are counted.
const FINDINGS_KEPT: usize = 16;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Blocks allocated.
    pub allocs: u64,
    /// Allocations that found no room.
    pub failed_allocs: u64,
    /// FREE records carried out.
    pub frees: u64,
    /// Blocks split.
    pub splits: u64,
    /// Of those, while a page in them was pinned.
    pub splits_under_pins: u64,
    /// Pins taken.
    pub pins: u64,
    /// Pins dropped.
    pub unpins: u64,
    /// Looks at a pageblock for something to merge.
    pub collapses: u64,
    /// Blocks merged.
    pub merges: u64,
    /// Splits that Linux refused and that were done.
    pub refused_by_linux: u64,
    /// Frames those freed at once.
    pub freed_at_once_frames: u64,
    /// Steps that could not be carried out.
    pub skipped: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.allocs += other.allocs;
        self.failed_allocs += other.failed_allocs;
        self.frees += other.frees;
        self.splits += other.splits;
        self.splits_under_pins += other.splits_under_pins;
        self.pins += other.pins;
        self.unpins += other.unpins;
        self.collapses += other.collapses;
        self.merges += other.merges;
        self.refused_by_linux += other.refused_by_linux;
        self.freed_at_once_frames += other.freed_at_once_frames;
        self.skipped += other.skipped;
    }
}

/// Everything one replay measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// What was done.
    pub tally: Tally,
    /// From the first copy's begin to the last one's end.
    pub elapsed_ns: u64,
    /// Misuse reports and audit findings, and a wrong number of frames in use at the end.
    pub violations: u64,
    /// The first of them in words.
    pub findings: Vec<String>,
    /// Frames in use with the trace's last state.
    pub live_frames_at_end: u64,
    /// Frames in use with everything dropped.
    pub leaked_frames: u64,
    /// Frames in use when the trace has most live.
    pub peak_used_frames: u64,
    /// 2 MiB pageblocks whole and free at that moment.
    pub huge_free_at_peak: u64,
    /// Frames of the zone.
    pub zone_frames: u64,
    /// Metadata of the zone.
    pub metadata_bytes: u64,
    /// What the zone had at the end of each interval of the timeline, if that was asked for.
    pub course: Vec<Sample>,
}

thread_local! {
    static COPY: Cell<usize> = const { Cell::new(0) };
}

/// Misuse reports of the zone.
#[derive(Default)]
struct Ledger {
    count: AtomicU64,
    first: Mutex<Vec<String>>,
}

impl Sink for Ledger {
    fn misuse(&self, misuse: &Misuse) {
        // Relaxed: read after the threads have been joined.
        self.count.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut first) = self.first.lock()
            && first.len() < FINDINGS_KEPT
        {
            first.push(misuse.to_string());
        }
    }
}

/// Memory for a zone, and who hears of misuse in it.
pub(crate) struct Ground {
    ranges: [FrameRange; 1],
    threads: usize,
    memory: ZoneMemory,
    ledger: Ledger,
}

impl Ground {
    /// For a zone of so many frames, under the protocol `P`.
    pub(crate) fn new<P: Protocol<Word = AtomicU64>>(
        frames: u64,
        threads: usize,
    ) -> Result<Self, ReplayError> {
        let ranges = [FrameRange::new(Pfn::new(0), frames)];
        let memory = ZoneMemory::try_for_protocol::<P>(&ZoneLayout::new(&ranges, threads)?)
            .map_err(|_| ReplayError::NoMemory { frames })?;
        Ok(Self { ranges, threads, memory, ledger: Ledger::default() })
    }

    /// Carries out `plan` once on each thread, all on one zone.
    /// `course`: notes what the zone has after each interval, in the first copy, which takes time.
    pub(crate) fn replay<'m, P>(
        &'m self,
        plan: &Plan,
        watch: &dyn Watch,
        course: bool,
    ) -> Result<Measured, ReplayError>
    where
        P: Attach<'m> + Protocol<Word = AtomicU64>,
    {
        let layout = ZoneLayout::new(&self.ranges, self.threads)?;
        let config = ZoneConfig::default().sink(&self.ledger).cpu(|| COPY.get());
        let zone: Zone<'m, P> = self.memory.zone_with_protocol(layout, config)?;
        let gate = Gate::new(self.threads);
        let mut workers: Vec<Worker<'_, P>> = std::thread::scope(|scope| {
            let copies: io::Result<Vec<_>> = (0..self.threads)
                .map(|copy| {
                    let (zone, gate) = (&zone, &gate);
                    std::thread::Builder::new().spawn_scoped(scope, move || {
                        COPY.set(copy);
                        let on_the_way = OnTheWay(gate);
                        watch.begins(copy);
                        let mut worker = Worker::new(zone, plan);
                        let all_came = gate.pass();
                        drop(on_the_way);
                        all_came.then(|| {
                            match course && copy == 0 {
                                true => worker.all_intervals(),
                                false => worker.all_steps(copy == 0, watch),
                            }
                            worker
                        })
                    })
                })
                .collect();
            let copies = copies.map_err(|error| {
                gate.give_up();
                ReplayError::Thread { threads: self.threads, cause: error.kind() }
            })?;
            // All are waited for before a panic goes on.
            let ended: Vec<_> = copies.into_iter().map(|copy| copy.join()).collect();
            let workers =
                ended.into_iter().map(|copy| copy.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            // A copy that did not run had one beside it that panicked.
            Ok::<_, ReplayError>(workers.flatten().collect())
        })?;

        let mut measured = Measured {
            zone_frames: zone.usable_frames(),
            metadata_bytes: layout.metadata_bytes::<P>() as u64,
            elapsed_ns: elapsed_ns(&workers),
            peak_used_frames: workers.iter().map(|worker| worker.peak_used_frames).max().unwrap_or(0),
            huge_free_at_peak: workers.iter().map(|worker| worker.huge_free_at_peak).max().unwrap_or(0),
            live_frames_at_end: zone.used_frames(),
            course: workers.first_mut().map(|first| std::mem::take(&mut first.course)).unwrap_or_default(),
            ..Measured::default()
        };
        workers.iter().for_each(|worker| measured.tally.add(&worker.tally));
        let expected = plan.frames_at_end * self.threads as u64;
        if measured.live_frames_at_end != expected && measured.tally.failed_allocs == 0 {
            let live = measured.live_frames_at_end;
            measured.violation(format!("{live} frames are in use at the end, the trace leaves {expected}"));
        }
        measured.audit(&zone, "with the trace's last state");
        drop(workers);
        measured.audit(&zone, "after everything was dropped");
        measured.leaked_frames = zone.used_frames();
        measured.violations += self.ledger.count.load(Ordering::Relaxed);
        if let Ok(mut first) = self.ledger.first.lock() {
            measured.findings.append(&mut first);
        }
        Ok(measured)
    }
}

impl Measured {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let Tally { skipped, failed_allocs, .. } = self.tally;
        (self.violations, self.leaked_frames, skipped, failed_allocs) == (0, 0, 0, 0)
    }

    /// Of two rounds the faster, with what went wrong in either.
    #[must_use]
    pub fn fastest(self, other: Self) -> Self {
        let (mut fast, slow) =
            if self.elapsed_ns <= other.elapsed_ns { (self, other) } else { (other, self) };
        fast.violations += slow.violations;
        fast.leaked_frames += slow.leaked_frames;
        fast.tally.skipped += slow.tally.skipped;
        fast.tally.failed_allocs += slow.tally.failed_allocs;
        fast.findings.extend(slow.findings);
        fast.findings.truncate(3 * FINDINGS_KEPT);
        fast
    }

    fn violation(&mut self, finding: String) {
        self.violations += 1;
        self.findings.push(finding);
    }

    fn audit<P: Protocol>(&mut self, zone: &Zone<'_, P>, when: &str) {
        let audit = zone.audit();
        self.violations += audit.violations();
        self.findings
            .extend(audit.findings().take(FINDINGS_KEPT).map(|finding| format!("{when}: {finding}")));
    }
}

fn elapsed_ns<P: Protocol>(workers: &[Worker<'_, P>]) -> u64 {
    let first = workers.iter().map(|worker| worker.began).min();
    let last = workers.iter().map(|worker| worker.ended).max();
    first.zip(last).map_or(0, |(first, last)| last.duration_since(first).as_nanos() as u64)
}

/// One copy of the replay.
struct Worker<'z, P: Protocol> {
    zone: &'z Zone<'z, P>,
    plan: &'z Plan,
    blocks: Vec<Option<Block<'z, P>>>,
    cells: Vec<Vec<PageRef<'z, P>>>,
    tally: Tally,
    began: Instant,
    ended: Instant,
    peak_used_frames: u64,
    huge_free_at_peak: u64,
    course: Vec<Sample>,
}

impl<'z, P: Protocol> Worker<'z, P> {
    fn new(zone: &'z Zone<'z, P>, plan: &'z Plan) -> Self {
        let now = Instant::now();
        Self {
            zone,
            plan,
            blocks: (0..plan.blocks).map(|_| None).collect(),
            cells: (0..plan.cells).map(|_| Vec::with_capacity(1)).collect(),
            tally: Tally::default(),
            began: now,
            ended: now,
            peak_used_frames: 0,
            huge_free_at_peak: 0,
            course: Vec::new(),
        }
    }

    /// All steps, with a look at the zone after each interval.
    fn all_intervals(&mut self) {
        let plan = self.plan;
        self.began = Instant::now();
        let mut done = 0;
        for &mark in &plan.marks {
            plan.steps[done..mark].iter().for_each(|step| self.step(*step));
            done = mark;
            self.zone.drain();
            let (used_frames, free_pageblocks) = (self.zone.used_frames(), self.zone.free_pageblocks());
            self.course.push(Sample { used_frames, free_pageblocks });
        }
        // Steps that no record stands for come last.
        plan.steps[done..].iter().for_each(|step| self.step(*step));
        self.ended = Instant::now();
    }

    /// The timed part.
    fn all_steps(&mut self, samples: bool, watch: &dyn Watch) {
        let plan = self.plan;
        self.began = Instant::now();
        let mut done = 0;
        while done < plan.steps.len() {
            let mut end = plan.steps.len().min(done + STRIDE);
            let peak = samples && (done..end).contains(&plan.peak_step);
            if peak {
                end = plan.peak_step + 1;
            }
            for step in &plan.steps[done..end] {
                self.step(*step);
            }
            if peak {
                self.peak_used_frames = self.zone.used_frames();
                // Uncoalesced pages come together first, as they would for a caller that wants a
                // huge page.
                self.zone.drain();
                self.huge_free_at_peak = self.zone.free_pageblocks();
            }
            watch.progress(end - done);
            done = end;
        }
        self.ended = Instant::now();
    }

    fn take(&mut self, place: u32) -> Option<Block<'z, P>> {
        let block = self.blocks[place as usize].take();
        self.tally.skipped += u64::from(block.is_none());
        block
    }

    #[inline]
    fn step(&mut self, step: Step) {
        match step {
            Step::Alloc { order, block } => match self.zone.alloc(order) {
                Ok(new) => {
                    self.blocks[block as usize] = Some(new);
                    self.tally.allocs += 1;
                }
                Err(_) => self.tally.failed_allocs += 1,
            },
            Step::Free { block } => {
                let block = self.take(block);
                self.tally.frees += u64::from(block.is_some());
            }
            Step::FreeNothing => self.tally.frees += 1,
            Step::Drop { block } => drop(self.take(block)),
            Step::Split { to, under_pins, block, pieces } => {
                if self.split(to, block, pieces) {
                    self.tally.splits += 1;
                    self.tally.splits_under_pins += u64::from(under_pins);
                }
            }
            Step::Unmerge { to, block, pieces } => drop(self.split(to, block, pieces)),
            Step::Pin { refs, block, index, cell } => self.pin(refs, block, index, cell),
            Step::Unpin { refs, cell } => {
                for _ in 0..refs {
                    let pin = self.cells[cell as usize].pop();
                    match pin.is_some() {
                        true => self.tally.unpins += 1,
                        false => self.tally.skipped += 1,
                    }
                }
            }
            Step::Collapse => self.tally.collapses += 1,
            Step::Merge { count, pieces, block } => self.merge(count, pieces, block),
            Step::Refuse { block, refusal } => self.refuse(block, &self.plan.refusals[refusal as usize]),
            Step::RefuseAgain => self.tally.refused_by_linux += 1,
            Step::Nothing => {}
        }
    }

    fn split(&mut self, to: Order, block: u32, pieces: u32) -> bool {
        let Some(whole) = self.take(block) else { return false };
        match whole.split_to(to) {
            Ok(parts) => {
                for (part, &place) in parts.zip(&self.plan.places[pieces as usize..]) {
                    self.blocks[place as usize] = Some(part);
                }
                true
            }
            Err((whole, _)) => {
                self.blocks[block as usize] = Some(whole);
                self.tally.skipped += 1;
                false
            }
        }
    }

    fn pin(&mut self, refs: u16, block: u32, index: u32, cell: u32) {
        for _ in 0..refs {
            let block = self.blocks[block as usize].as_ref();
            match block.and_then(|block| block.pin(u64::from(index)).ok()) {
                Some(pin) => {
                    self.cells[cell as usize].push(pin);
                    self.tally.pins += 1;
                }
                None => self.tally.skipped += 1,
            }
        }
    }

    fn merge(&mut self, count: u16, pieces: u32, block: u32) {
        self.tally.collapses += 1;
        let plan = self.plan;
        let mut places = plan.places[pieces as usize..][..usize::from(count)].iter();
        let Some(first) = places.next().and_then(|&place| self.take(place)) else { return };
        let mut run = first.into_pieces();
        for &place in places {
            if let Some(part) = self.take(place)
                && run.append(part).is_err()
            {
                self.tally.skipped += 1;
            }
        }
        match run.merge() {
            Ok(whole) => {
                self.blocks[block as usize] = Some(whole);
                self.tally.merges += 1;
            }
            Err(_) => self.tally.skipped += 1,
        }
    }

    /// The owner lets go of a block whose split Linux refused; pages that are pinned or kept stay.
    fn refuse(&mut self, block: u32, refusal: &Refusal) {
        let Some(whole) = self.take(block) else { return };
        if P::REARRANGES && refusal.kept.is_empty() {
            // The block splits itself under what pins there are.
            drop(whole);
        } else {
            let Ok(pages) = whole.split_to(Order::PAGE) else {
                self.tally.skipped += 1;
                return;
            };
            let mut kept = refusal.kept.iter().peekable();
            for (index, page) in (0..).zip(pages) {
                if let Some(&(_, place)) = kept.next_if(|&&(kept, _)| kept == index) {
                    self.blocks[place as usize] = Some(page);
                }
            }
        }
        self.tally.refused_by_linux += 1;
        self.tally.splits += 1;
        self.tally.splits_under_pins += u64::from(refusal.under_pins);
        self.tally.freed_at_once_frames += refusal.freed;
    }
}
