//! Programs that once failed, as short as the property test could make them.

use tailpin_mm::{Access, Advice, Cow, HugePages, MmConfig, Prot, VirtAddr};

use super::program::{Op, Span, Step, What};
use super::run::run;

const START: VirtAddr = VirtAddr::new(0x4000_0000);

fn steps(ops: impl IntoIterator<Item = Op>) -> Vec<Step> {
    ops.into_iter().map(|op| Step { space: 0, op, fail: None }).collect()
}

fn anonymous(pages: u64) -> Op {
    let (span, prot, huge) = (Span { start: START, pages }, Prot::READ_WRITE, HugePages::Default);
    Op::Map { what: What::Anonymous, span, prot, huge, round: true }
}

/// A huge leaf reached over the border that the advice made between two regions, and a fork counted
/// it twice.
#[test]
fn advice_that_ends_inside_a_huge_page_keeps_its_count() {
    let span = Span { start: START, pages: 513 };
    let program = steps([
        anonymous(1536),
        Op::Write { at: START.offset(2 << 20), len: 1, seed: 1 },
        Op::Advise { span, advice: Advice::Huge, round: false },
        Op::Fork { into: 0 },
    ]);
    run(&program, MmConfig::default());
}

/// Of a pin over the border of two mappings the accounts took all for hugetlb where a part is.
#[test]
fn a_pin_from_private_memory_into_an_object() {
    let (prot, huge) = (Prot::READ_WRITE, HugePages::Default);
    let map = |what, start, pages| Op::Map { what, span: Span { start, pages }, prot, huge, round: true };
    for object in 0..4 {
        let program = steps([
            map(What::Anonymous, START, 1024),
            map(What::Anonymous, VirtAddr::new(0x8000_0000), 1536),
            map(What::Shared { object, first: 0 }, START.offset(4 << 20), 1),
            Op::Pin { at: START.offset((4 << 20) - 6), len: 7, access: Access::Read, long: false },
        ]);
        for cow in [Cow::Page, Cow::Whole] {
            run(&program, MmConfig { cow, ..MmConfig::default() });
        }
    }
}
