//! A scenario: what is there, who runs, what is left at the end.

use std::sync::Arc;

use crate::engine::{Engine, MAIN, enter_role};
use crate::family::{Family, Which};
use crate::lock_wait;
use crate::switches::Switch;
use crate::trace;
use crate::word::{CheckWord, unscheduled};
use crate::world::World;

/// What one thread of a scenario does.
pub struct Role<E: Engine, F> {
    /// What it does, for the head of its column.
    pub name: &'static str,
    /// Does it.
    pub body: fn(&World<E, F>),
}

/// A scenario for one engine and protocol.
pub struct Plan<E: Engine, F> {
    /// Name on the command line and in reports.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Protocols it is for.
    pub protocols: &'static [Which],
    /// Switches that it finds.
    pub finds: &'static [Switch],
    /// Frames there are.
    pub frames: u64,
    /// Whether the words of a frame are explored.
    pub explored: fn(u64) -> bool,
    /// Whether frames are allocated again after they were freed.
    pub reuses: bool,
    /// Caches of the allocator, where the scenario runs on a whole zone.
    pub slots: Option<usize>,
    /// Whether set-up and audit act on plain words, for speed. Not where a scenario brings words of
    /// its own along.
    pub quiet_ends: bool,
    /// Preemptions per execution that are explored by default.
    pub preemptions: usize,
    /// Before the roles start.
    pub setup: fn(&World<E, F>),
    /// The roles, each in a thread of its own.
    pub roles: Vec<Role<E, F>>,
    /// After all roles have ended: gives back whatever is left, so that every frame must be free.
    pub finish: fn(&World<E, F>),
}

impl<E: Engine, F> Clone for Role<E, F> {
    fn clone(&self) -> Self {
        Self { name: self.name, body: self.body }
    }
}

impl<E: Engine, F: Family<CheckWord<E>>> Plan<E, F> {
    /// One execution. Everything that acts at once runs in a spawned thread: a checker may treat
    /// the main thread, which starts the others, as if it came first.
    pub fn execute(&self) {
        trace::begin();
        lock_wait::begin();
        enter_role(MAIN);
        let world = Arc::new(World::<E, F>::new(self));
        self.alone(|| (self.setup)(&world));
        world.begin();
        let threads: Vec<_> = self
            .roles
            .iter()
            .enumerate()
            .map(|(index, role)| {
                let (world, body) = (Arc::clone(&world), role.body);
                E::spawn(move || {
                    enter_role(index);
                    body(&world);
                })
            })
            .collect();
        threads.into_iter().for_each(E::join);
        enter_role(MAIN);
        world.end();
        self.alone(|| {
            (self.finish)(&world);
            world.audit_all_free();
        });
    }

    fn alone(&self, body: impl FnOnce()) {
        if self.quiet_ends { unscheduled(body) } else { body() }
    }
}
