//! A scenario: what is there, who runs, what is left at the end.

use std::sync::Arc;

use crate::changes;
use crate::engine::{Engine, MAIN, enter_thread};
use crate::fixture::Fixture;
use crate::gather;
use crate::lock_wait;
use crate::protocol_kind::ProtocolKind;
use crate::safeguards::{self, Safeguard};
use crate::tested_protocol::TestedProtocol;
use crate::trace;
use crate::word::{CheckWord, unscheduled};

/// What one thread of a scenario does.
pub(crate) struct Thread<E: Engine, F> {
    /// What it does, for the head of its column.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) body: fn(&Fixture<E, F>),
}

/// A scenario for one engine and protocol.
pub(crate) struct Scenario<E: Engine, F> {
    /// Name on the command line and in reports.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) title: &'static str,
    /// Protocols it is for.
    pub(crate) protocols: &'static [ProtocolKind],
    /// Switches that it finds.
    pub(crate) finds: &'static [Safeguard],
    /// Frames there are.
    pub(crate) frames: u64,
    /// Whether the words of a frame are explored.
    pub(crate) explored: fn(u64) -> bool,
    /// Whether frames are allocated again after they were freed.
    pub(crate) reuses: bool,
    /// Caches of the allocator, where the scenario runs on a whole zone.
    pub(crate) slots: Option<usize>,
    /// Whether set-up and audit act on plain words, for speed. Not where a scenario brings words of
    /// its own along.
    pub(crate) plain_setup: bool,
    /// Preemptions per execution that are explored by default.
    pub(crate) preemptions: usize,
    /// Before the threads start.
    pub(crate) setup: fn(&Fixture<E, F>),
    /// The threads, each in a thread of its own.
    pub(crate) threads: Vec<Thread<E, F>>,
    /// After all threads have ended: gives back whatever is left, so that every frame must be free.
    pub(crate) finish: fn(&Fixture<E, F>),
}

impl<E: Engine, F> Clone for Thread<E, F> {
    fn clone(&self) -> Self {
        Self { name: self.name, body: self.body }
    }
}

impl<E: Engine, F: TestedProtocol<CheckWord<E>>> Scenario<E, F> {
    /// One execution. Everything that acts at once runs in a spawned thread: a checker may treat
    /// the main thread, which starts the others, as if it came first.
    pub(crate) fn execute(&self) {
        safeguards::begin();
        trace::begin();
        changes::begin();
        lock_wait::begin();
        enter_thread(MAIN);
        let fixture = Arc::new(Fixture::<E, F>::new(self.frames, self.explored, self.reuses, self.slots));
        self.alone(|| (self.setup)(&fixture));
        fixture.begin();
        let threads: Vec<_> = self
            .threads
            .iter()
            .enumerate()
            .map(|(index, thread)| {
                let (fixture, body) = (Arc::clone(&fixture), thread.body);
                E::spawn(move || {
                    enter_thread(index);
                    gather::part(|| body(&fixture));
                })
            })
            .collect();
        threads.into_iter().for_each(E::join);
        enter_thread(MAIN);
        fixture.end();
        let finish = || {
            self.alone(|| {
                (self.finish)(&fixture);
                fixture.audit_all_free();
            });
        };
        if gather::part(|| ()) {
            gather::part(finish);
        }
        gather::compare();
    }

    fn alone(&self, body: impl FnOnce()) {
        if self.plain_setup { unscheduled(body) } else { body() }
    }
}
