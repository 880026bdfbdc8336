use std::collections::BTreeSet;
use std::sync::Mutex;

use super::{Frames, Group, with_subjects};
use crate::effort::Effort;
use crate::recorder::{Run, Sample};

const FRAMES: u64 = 1 << 14;

/// Takes blocks of mixed orders until there is none, then looks at every frame of every block.
struct Distinct;

impl Group for Distinct {
    fn case<'s, S: Frames>(&self, subject: &'s S) -> Run<'s> {
        Box::new(move |_| {
            let mut taken = Vec::new();
            for order in (0..).map(|i| [9, 0, 3, 0, 8, 1, 5, 6][i % 8]).take(FRAMES as usize / 64) {
                taken.extend(subject.take(order).map(|held| (held, order)));
            }
            while let Some(held) = subject.take(0) {
                taken.push((held, 0));
            }
            let mut frames = BTreeSet::new();
            for (held, order) in &taken {
                let first = subject.frame(held);
                assert_eq!(first % (1 << order), 0, "{}: order {order} at {first}", S::NAME);
                for frame in first..first + (1 << order) {
                    assert!(frame < FRAMES, "{}: frame {frame} is beyond the end", S::NAME);
                    assert!(frames.insert(frame), "{}: frame {frame} handed out twice", S::NAME);
                }
            }
            for (held, order) in taken {
                subject.give(held, order);
            }
            let whole: Vec<_> = std::iter::from_fn(|| subject.take(9)).collect();
            let n = whole.len() as u64;
            for held in whole {
                subject.give(held, 9);
            }
            // frame-alloc keeps its bitmap in the memory it manages.
            assert!(n + 1 >= FRAMES / 512, "{}: {n} whole pageblocks after giving all back", S::NAME);
            vec![Sample::new("distinct", 1, frames.len() as f64)]
        })
    }
}

#[test]
fn blocks_are_distinct_and_aligned() {
    let checked = Mutex::new(Vec::new());
    with_subjects(FRAMES, &Distinct, |cases| {
        for (subject, mut run) in cases {
            for _ in 0..2 {
                let frames = run(&Effort::tiny())[0].ns_per_op;
                assert!(frames > FRAMES as f64 * 0.9, "{subject}: only {frames} frames were had");
            }
            checked.lock().unwrap().push(subject);
        }
    });
    assert_eq!(checked.into_inner().unwrap().len(), 8);
}
