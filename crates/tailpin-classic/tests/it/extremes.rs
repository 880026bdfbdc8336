//! Each public function that takes a number, with the smallest and the largest there are: a page
//! without words is a panic that says so, one that is free is not in use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;

use tailpin::{FrameMask, FrameWords, FreeSink, Misuse, Order, Pfn};
use tailpin_classic::Classic;

/// Nothing is freed here.
struct NoSink;

impl FreeSink for NoSink {
    fn freed_block(&self, head: Pfn, _: Order) {
        panic!("block {head} was freed");
    }
    fn freed_frames(&self, pageblock: Pfn, _: &FrameMask) {
        panic!("frames of {pageblock} were freed");
    }
    fn freed_offline(&self, frame: Pfn) {
        panic!("frame {frame} left service");
    }
    fn misuse(&self, misuse: &Misuse) {
        panic!("{misuse}");
    }
}

#[test]
fn pages_by_their_numbers() {
    let numbers = || (0..64).flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift]).chain([u64::MAX]);
    const PAGES: usize = 8;
    let words: Vec<AtomicU64> =
        (0..PAGES * Classic::<'_, AtomicU64>::WORDS_PER_FRAME).map(|_| AtomicU64::new(0)).collect();
    for (base, n) in numbers().flat_map(|base| numbers().step_by(3).map(move |n| (base, n))) {
        let made = catch_unwind(|| Classic::<'_>::new(&words, Pfn::new(base)));
        assert_eq!(made.is_ok(), base % 512 == 0);
        let Ok(classic) = made else { continue };
        let (page, there) = (Pfn::new(n), n.wrapping_sub(base) < PAGES as u64);
        assert_eq!(classic.covers(page), there, "{base}, {n}");
        let got = catch_unwind(AssertUnwindSafe(|| classic.get_compound_page(page, &NoSink)));
        assert_eq!(got.ok(), there.then_some(None), "{base}, {n}");
        let counted = catch_unwind(AssertUnwindSafe(|| classic.compound_tail_refcounted(page)));
        assert_eq!(counted.is_ok(), there, "{base}, {n}");
        if !there {
            let put = catch_unwind(AssertUnwindSafe(|| classic.put_compound_tail(page, &NoSink)));
            assert!(put.is_err(), "{base}, {n}");
        }
    }
}
