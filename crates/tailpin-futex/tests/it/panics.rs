//! A wait that ends by a panic of its scheduler: the waiter has left its queues.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use tailpin_futex::model::ModelMemory;
use tailpin_futex::{
    Clock, Deadline, Expect, Futex, Futexes, Priority, Scheduler, StdScheduler, StdThread, Tid,
};

/// A scheduler that panics where a thread is to block.
struct Failing(StdScheduler);

impl Scheduler for Failing {
    type Thread = StdThread;
    fn current(&self) -> StdThread {
        self.0.current()
    }
    fn tid(&self) -> Tid {
        self.0.tid()
    }
    fn park(&self, _: Option<Deadline>) {
        panic!("as the test asks");
    }
    fn unpark(&self, thread: &StdThread) {
        self.0.unpark(thread);
    }
    fn now(&self, clock: Clock) -> Duration {
        self.0.now(clock)
    }
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
    fn urgency(&self) -> Priority {
        self.0.urgency()
    }
    fn priority(&self, thread: Tid) -> Option<Priority> {
        self.0.priority(thread)
    }
    fn boost(&self, thread: Tid, to: Priority) {
        self.0.boost(thread, to);
    }
    fn relax(&self, turns: u32) {
        self.0.relax(turns);
    }
}

#[test]
fn a_waiter_whose_wait_panics_leaves_its_queues_and_lends_nothing() {
    let (futexes, memory) = (Futexes::new(Failing(StdScheduler::new()), 1), ModelMemory::anonymous(1));
    let [lock, word, other] = [0, 4, 8].map(|at| Futex::private(&memory, at));
    futexes.lock_pi(&lock, None).unwrap();
    let me = futexes.scheduler().current();
    let words = [word, other].map(|futex| Expect { futex, value: 0 });
    let waits: [&(dyn Fn() + Sync); 4] = [
        &|| _ = futexes.lock_pi(&lock, None),
        &|| _ = futexes.wait(&word, 0, None),
        &|| _ = futexes.wait_multiple(&words, None),
        &|| _ = futexes.wait_requeue_pi(&word, 0, !0, &lock, None),
    ];
    for wait in waits {
        thread::scope(|scope| {
            scope.spawn(|| {
                futexes.scheduler().current().set_priority(Priority(9));
                assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
            });
        });
        assert!(futexes.is_idle());
        assert_eq!(me.effective_priority(), Priority::NORMAL);
    }
}
