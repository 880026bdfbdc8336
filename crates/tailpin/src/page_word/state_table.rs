//! The table of states in the module's text, walked: each of its transitions is applied to words of
//! every kind, and gives its arrows and no others.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeSet;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::layout::*;
use crate::alloc::config::{Request, ZoneConfig};
use crate::alloc::layout::ZoneLayout;
use crate::atomic::AtomicWord;
use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::zone::Zone;

type Arrows = BTreeSet<(&'static str, &'static str)>;

/// The kind of a word, as the table calls it.
fn state(word: PageWord) -> &'static str {
    match word.kind_bits() {
        TAIL if word.is_implicit() => "implicit",
        TAIL if word.pins() > 0 => "pinned tail",
        TAIL => "tail",
        FREE if word.0 & UNCOALESCED != 0 => "uncoalesced",
        FREE => "free",
        HEAD => "head",
        UNSPLITTABLE => "unsplittable",
        SPLITTING => "splitting",
        SPLITTING_HEADS_ONLY => "heads-only",
        MERGING => "merging",
        _ if word.is_hwpoison() => "offline",
        _ => "reserved",
    }
}

/// Whether the invariants of [`PageWord`] hold.
fn is_valid(word: PageWord) -> bool {
    let (order, drop) = (word.order(), word.drop_bits());
    let uncounted = word.0 & (REFS_FIELD | PIECE | HAS_HWPOISONED) == 0;
    let own_pageblock = order <= Order::HUGE;
    if order == Order::PAGE && !word.all_tails_implicit() && !matches!(word.kind_bits(), FREE | OUT) {
        return false;
    }
    match word.kind_bits() {
        TAIL => uncounted && drop == 0 && (word.is_implicit() || order > Order::PAGE),
        FREE => {
            let empty = word.0 & (PINS_MASK | REFS_FIELD | HWPOISON) == 0;
            let uncoalesced = word.0 & UNCOALESCED != 0;
            let place = order == Order::PAGE || uncoalesced && order <= Order::HUGE;
            // An uncoalesced block goes on saying what the one that was freed was part of.
            let past = if uncoalesced { drop <= 9 || drop == RISE_UNKNOWN } else { word.0 & PAST == 0 };
            empty && place && past
        }
        HEAD | MERGING => drop <= 9 || drop == RISE_UNKNOWN,
        UNSPLITTABLE => drop == 0 && word.0 & PIECE == 0,
        SPLITTING | SPLITTING_HEADS_ONLY => {
            let by = if drop > AGAIN { drop - AGAIN } else { drop } as u8;
            let lowest = if own_pageblock { Order::PAGE } else { Order::HUGE };
            let down = by > 0 && order.get() >= by + lowest.get();
            let is_heads_only = word.kind_bits() == SPLITTING_HEADS_ONLY;
            let heads_only =
                down && own_pageblock && word.target() > Order::PAGE && word.all_tails_implicit();
            // No tail of a dying block is going to name its order.
            down && if is_heads_only {
                heads_only
            } else {
                !own_pageblock || is_dying(word) || !word.all_tails_implicit()
            }
        }
        _ => uncounted && word.pins() == 0 && drop == 0 && order == Order::PAGE,
    }
}

/// Whether it is the head of a block without references that is being split to pages.
fn is_dying(word: PageWord) -> bool {
    word.kind_bits() == SPLITTING && word.target() == Order::PAGE && word.refs() == 0
}

/// Words of every kind, with all orders, flags and drops and the counts at which something changes.
fn words() -> Vec<PageWord> {
    let mut all = Vec::new();
    let orders = [0, 1, 2, 8, 9, 10, 17, 18].map(Order::wrap);
    for (kind, order) in (TAIL..=UNSPLITTABLE).flat_map(|kind| orders.map(|order| (kind, order))) {
        for (pins, refs) in
            [0, 1, 2, PIN_LIMIT].into_iter().flat_map(|p| [0, 1, 2, REF_LIMIT].map(|r| (p, r)))
        {
            for flags in 0..16 {
                for (drop, generation) in
                    (0..=DROP_MASK).flat_map(|drop| [0, GEN_MASK].map(|generation| (drop, generation)))
                {
                    let counts = pins | refs << REFS_SHIFT;
                    let marks = flags << FLAGS_SHIFT | drop << DROP_SHIFT | generation << GEN_SHIFT;
                    all.push(PageWord::build(kind, order, counts | marks));
                }
            }
        }
    }
    all.retain(|word| is_valid(*word));
    all
}

/// What a row's functions make of the words that its caller may have: those for which it asks.
type Step = fn(PageWord, &mut dyn FnMut(PageWord));

/// The steps of the table: what is done, where, and how.
fn steps() -> Vec<(&'static str, &'static str, Step)> {
    fn orders() -> impl Iterator<Item = Order> {
        [0, 1, 8, 9, 10, 18].map(Order::wrap).into_iter()
    }
    fn tails_of() -> impl Iterator<Item = Order> {
        orders().skip(1)
    }
    fn uncoalesced_orders() -> impl Iterator<Item = Order> {
        (0..=Order::HUGE.get()).map(Order::wrap)
    }
    fn is_settled(word: PageWord) -> bool {
        word.is_settled_head()
    }
    fn is_splittable(word: PageWord) -> bool {
        word.is_settled_head() && !word.is_unsplittable()
    }
    fn targets(word: PageWord) -> impl Iterator<Item = Order> {
        let lowest = word.smallest_pieces();
        orders().filter(move |target| lowest <= *target && *target < word.order())
    }
    /// Splits under way of a block that `tail` may be in.
    fn splits_over(tail: PageWord) -> impl Iterator<Item = PageWord> {
        let whole = tails_of().filter(move |order| tail.is_implicit() || tail.order() == *order);
        let heads = whole.flat_map(|order| {
            let head = PageWord::build(HEAD, order, 2 * ONE_REF);
            [head, head.with_explicit_tails(), head.mark_has_hwpoisoned()]
        });
        heads.flat_map(|head| targets(head).map(move |target| head.begin_split(target)))
    }
    fn unpinned_tail(word: PageWord) -> bool {
        word.is_tail() && word.pins() == 0
    }
    Vec::from([
        (
            "`as_free`",
            "life::prepare_tails",
            (|w, to| {
                if w.is_idle() {
                    [true, false].into_iter().for_each(|implicit| to(w.as_free(implicit)));
                }
            }) as Step,
        ),
        ("`tail_of`", "life::prepare_tails", |w, to| {
            if w.is_idle() {
                tails_of().for_each(|order| to(w.tail_of(order)));
            }
        }),
        ("`publish`", "life::publish", |w, to| {
            if w.is_idle() {
                for order in orders() {
                    [true, false].into_iter().for_each(|unsplittable| to(w.publish(order, unsplittable)));
                }
            }
        }),
        ("`publish`", "life::claim_as", |w, to| {
            for order in uncoalesced_orders().filter(|order| w.is_uncoalesced(*order)) {
                [true, false].into_iter().for_each(|unsplittable| to(w.publish(order, unsplittable)));
            }
        }),
        ("`publish`", "life::claim_left", |w, to| {
            if w.is_uncoalesced(Order::PAGE) {
                [true, false].into_iter().for_each(|unsplittable| to(w.publish(Order::PAGE, unsplittable)));
            }
        }),
        ("`claimed`", "life::claim_as", |w, to| {
            if uncoalesced_orders().any(|order| w.is_uncoalesced(order)) {
                to(w.claimed());
            }
        }),
        ("`as_uncoalesced`", "life::leave_uncoalesced", |w, to| {
            if w.is_idle() {
                uncoalesced_orders().for_each(|order| to(w.as_uncoalesced(order)));
            }
        }),
        ("`frees_uncoalesced`", "life::free_uncoalesced_at", |w, to| {
            for order in uncoalesced_orders() {
                w.frees_uncoalesced(order).into_iter().for_each(&mut *to);
            }
        }),
        ("`drop_refs`, `frees_at_once`, `as_uncoalesced`", "life::free_at_once", |w, to| {
            let frees_uncoalesced = w.order() == Order::PAGE || w.order() == Order::HUGE;
            if is_settled(w) && w.refs() > 0 && frees_uncoalesced {
                let freed = w.drop_refs(w.refs()).unwrap().frees_at_once();
                freed.into_iter().for_each(|freed| to(freed.as_uncoalesced(w.order())));
            }
        }),
        ("`drop_refs`, `frees_at_once`", "life::free_at_once", |w, to| {
            if is_settled(w) && w.refs() > 0 {
                w.drop_refs(w.refs()).unwrap().frees_at_once().into_iter().for_each(to);
            }
        }),
        ("`freed`", "life::free_block", |w, to| {
            if is_settled(w) && !w.is_live_head() {
                to(w.freed());
            }
        }),
        ("`freed`, `as_uncoalesced`", "life::free_block", |w, to| {
            let lone = is_settled(w) && !w.is_live_head() && !w.is_hwpoison() && !w.has_hwpoisoned();
            if lone && (w.order() == Order::PAGE || w.order() == Order::HUGE) {
                to(w.freed().as_uncoalesced(w.order()));
            }
        }),
        ("`freed`", "life::store_freed", |w, to| {
            let dead = is_settled(w) && !w.is_live_head();
            if dead || unpinned_tail(w) {
                to(w.freed());
            }
        }),
        ("`as_implicit`", "life::scrub", |w, to| {
            if w.is_idle() {
                to(w.as_implicit());
            }
        }),
        ("`pin`", "pin::try_get", |w, to| {
            let counted = w.is_live_head() || w.is_tail() && w.pins() > 0;
            if counted {
                w.pin(1).into_iter().for_each(to);
            }
        }),
        ("`hold_settled`", "pin::hold", |w, to| {
            if w.is_live_head() && is_splittable(w) && w.order() > Order::PAGE {
                to(w.hold_settled());
            }
        }),
        ("`hold`", "pin::count_on", |w, to| {
            let part = w.is_tail() && w.pins() > 0 && w.order() > Order::HUGE;
            let head = w.is_live_head() && !w.is_unsplittable() && w.order() > Order::PAGE;
            if part || head {
                to(w.hold(1));
            }
        }),
        ("`tail_of`, `pin`", "pin::pin_first", |w, to| {
            if unpinned_tail(w) {
                tails_of().for_each(|order| w.tail_of(order).pin(1).into_iter().for_each(&mut *to));
            }
        }),
        ("`tail_of`, `hold`", "pin::pin_first", |w, to| {
            if unpinned_tail(w) {
                tails_of().for_each(|order| to(w.tail_of(order).hold(1)));
            }
        }),
        ("`unpin`", "pin::unpin_step", |w, to| {
            if w.is_head() || w.is_tail() {
                w.unpin(1).into_iter().for_each(to);
            }
        }),
        ("`add_refs`", "blocks::get_refs_on", |w, to| {
            if is_settled(w) && w.refs() > 0 {
                w.add_refs(1).into_iter().for_each(to);
            }
        }),
        ("`drop_refs`", "blocks::drop_refs_from", |w, to| {
            if is_settled(w) && w.refs() > 0 {
                w.drop_refs(1).into_iter().for_each(to);
            }
        }),
        ("`adopted`", "token::raw_adopt", |w, to| {
            if is_settled(w) && w.refs() == 1 {
                to(w.adopted());
            }
        }),
        ("`begin_split`", "split::split_piece", |w, to| {
            if is_splittable(w) && w.refs() > 0 {
                targets(w).for_each(|target| to(w.begin_split(target)));
            }
        }),
        ("`begin_self_split`", "split::self_split", |w, to| {
            if is_splittable(w) && w.refs() == 0 && w.pins() > 0 && w.order() > Order::PAGE {
                let target = if w.order() > Order::HUGE { Order::HUGE } else { Order::PAGE };
                to(w.begin_self_split(target));
            }
        }),
        ("`piece`, `begin_self_split`", "split::scatter_pageblock", |w, to| {
            if w.is_tail() && w.pins() > 0 && w.order() > Order::HUGE {
                let begun = PageWord::build(HEAD, w.order(), 0).begin_self_split(Order::HUGE);
                to(w.piece(begun, 0).begin_self_split(Order::PAGE));
            }
        }),
        ("`end_split`, `begin_last_split`", "split::scatter_pageblocks", |w, to| {
            if w.is_splitting() && w.target() == Order::HUGE && w.refs() == 0 && w.pins() > 0 {
                to(w.hold(1).end_split().begin_last_split(Order::PAGE));
            }
        }),
        ("`page`", "split::convert_all", |w, to| {
            if w.is_tail() && (w.is_implicit() || w.order() <= Order::HUGE) {
                to(w.page(2));
            }
        }),
        ("`piece`", "split::convert", |w, to| {
            if w.is_tail() {
                splits_over(w).for_each(|begun| to(w.piece(begun, begun.refs())));
            }
        }),
        ("`tail_of`", "split::convert", |w, to| {
            if w.is_tail() {
                splits_over(w).for_each(|begun| {
                    if begun.target() > Order::PAGE {
                        to(w.tail_of(begun.target()));
                    }
                });
            }
        }),
        ("`with_explicit_tails`", "split::convert", |w, to| {
            if is_splittable(w) && Order::PAGE < w.order() && w.order() < Order::HUGE {
                to(w.with_explicit_tails());
            }
        }),
        ("`end_split`", "split::settle", |w, to| {
            if w.is_splitting() && !w.is_heads_only_split() {
                to(w.end_split());
            }
        }),
        ("`end_split`", "split::split_heads_only", |w, to| {
            if w.is_heads_only_split() {
                to(w.end_split());
            }
        }),
        ("`page`", "split::scatter_tails", |w, to| {
            if w.is_tail() && w.pins() > 0 && w.order() <= Order::HUGE {
                to(w.page(0));
            }
        }),
        ("`freed`", "split::scatter_tails", |w, to| {
            if unpinned_tail(w) && (w.is_implicit() || w.order() <= Order::HUGE) {
                to(w.freed());
            }
        }),
        ("`end_split`, `unpin`", "split::scatter_pages", |w, to| {
            if is_dying(w) && w.pins() > 1 {
                to(PageWord(w.end_split().0 - 1));
            }
        }),
        ("`end_split`, `unpin`, `freed`", "split::scatter_pages", |w, to| {
            if is_dying(w) {
                to(PageWord(w.end_split().0 - w.pins()).freed());
            }
        }),
        ("`set_apart`", "token::set_apart", |w, to| {
            if w.is_mergeable() {
                to(w.set_apart());
            }
        }),
        ("`adopted`, `begin_split`", "merge::to_pages", |w, to| {
            if w.is_merging() && w.refs() == 1 && Order::PAGE < w.order() && w.order() <= Order::HUGE {
                to(w.end_merge().adopted().begin_split(Order::PAGE));
            }
        }),
        ("`begin_merge`", "merge::join", |w, to| {
            if w.is_mergeable() || w.is_merging() && w.refs() == 1 {
                for order in orders().filter(|order| w.order() < *order) {
                    [true, false].into_iter().for_each(|implicit| to(w.begin_merge(order, implicit)));
                }
            }
        }),
        ("`as_implicit`", "merge::adopt", |w, to| {
            let piece = w.is_mergeable() || w.is_merging();
            if (piece || unpinned_tail(w) && !w.is_implicit()) && w.pins() == 0 && !w.is_hwpoison() {
                to(w.as_implicit());
            }
        }),
        ("`tail_of`", "merge::adopt", |w, to| {
            let piece = w.is_mergeable() || w.is_merging();
            if (piece || unpinned_tail(w) && !w.is_implicit()) && w.pins() == 0 {
                tails_of().filter(|order| w.order() < *order).for_each(|order| to(w.tail_of(order)));
            }
        }),
        ("`tail_of`", "merge::adopt_pinned", |w, to| {
            if (w.is_mergeable() || w.is_merging() || w.is_tail()) && w.pins() > 0 {
                tails_of().filter(|order| w.order() < *order).for_each(|order| to(w.tail_of(order)));
            }
        }),
        ("`mark_has_hwpoisoned`, `with_explicit_tails`", "merge::join", |w, to| {
            if w.is_merging() && w.order() > Order::PAGE {
                [w.mark_has_hwpoisoned(), w.with_explicit_tails()].into_iter().for_each(to);
            }
        }),
        ("`end_merge`", "merge::join", |w, to| {
            if w.is_merging() {
                to(w.end_merge());
            }
        }),
        ("`mark_hwpoison`", "misuse::mark_hwpoison", |w, to| {
            if w.is_live_head() || w.is_tail() && w.pins() > 0 {
                to(w.mark_hwpoison());
            }
        }),
        ("`mark_has_hwpoisoned`", "misuse::mark_hwpoison_pinned", |w, to| {
            if w.is_live_head() {
                to(w.mark_has_hwpoisoned());
            }
        }),
        ("`mark_has_hwpoisoned`", "split::mark_pieces_hwpoisoned", |w, to| {
            if w.is_head() && !w.is_unsplittable() && w.order() > Order::PAGE {
                to(w.mark_has_hwpoisoned());
            }
        }),
        ("`hold`, `mark_has_hwpoisoned`", "misuse::mark_hwpoison_held", |w, to| {
            if w.is_live_head() && w.order() > Order::PAGE {
                to(w.hold(0).mark_has_hwpoisoned());
            }
        }),
        ("`with_explicit_tails`", "misuse::mark_hwpoison_held", |w, to| {
            if w.is_tail() && w.order() > Order::HUGE {
                to(w.with_explicit_tails());
            }
        }),
        ("`tail_of`, `mark_hwpoison`", "misuse::mark_hwpoison_held", |w, to| {
            if w.is_implicit() {
                tails_of().for_each(|order| to(w.tail_of(order).mark_hwpoison()));
            }
        }),
        ("`mark_hwpoison`", "misuse::mark_hwpoison_held", |w, to| {
            if w.is_tail() && !w.is_implicit() {
                to(w.mark_hwpoison());
            }
        }),
        ("`reserved`", "life::reserve", |w, to| {
            if w == PageWord(0) {
                to(PageWord::reserved());
            }
        }),
        ("`as_offline`", "life::take_offline", |w, to| {
            if w.is_idle() {
                to(w.as_offline());
            }
        }),
        ("`back_in_service`", "life::enter_service", |w, to| {
            if w.kind_bits() == OUT {
                to(w.back_in_service());
            }
        }),
    ])
}

/// The arrows of the table, by what makes them and where.
fn table() -> Vec<(String, String, Arrows)> {
    let text = include_str!("mod.rs").split_once("# States").unwrap().1;
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.skip(2).map(|row| row.trim_end_matches(" |").split(" | ").collect::<Vec<_>>());
    let mut table: Vec<(String, String, Arrows)> = Vec::new();
    for row in rows {
        let [from, to, by, place] = row[..] else { panic!("four columns: {row:?}") };
        let arrows = from.split(", ").flat_map(|from| {
            let to = if to == "the same" { from } else { to };
            to.split(", ").map(move |to| (from, to))
        });
        match table.iter_mut().find(|(b, p, _)| (b.as_str(), p.as_str()) == (by, place)) {
            Some((.., more)) => more.extend(arrows),
            None => table.push((by.to_string(), place.to_string(), arrows.collect())),
        }
    }
    table
}

#[test]
fn each_transition_makes_the_arrows_of_the_table_and_no_others() {
    let words = words();
    let mut walked = Vec::new();
    for (by, place, step) in steps() {
        let mut arrows = Arrows::new();
        let mut invalid = None;
        for word in &words {
            step(*word, &mut |new| {
                if !is_valid(new) {
                    invalid = Some((*word, new));
                }
                arrows.insert((state(*word), state(new)));
            });
        }
        assert_eq!(invalid, None, "{by} in {place} makes no valid word of a valid one");
        walked.push((by.to_string(), format!("`{place}`"), arrows));
    }
    let mut table = table();
    walked.sort();
    table.sort();
    for (walked, told) in walked.iter().zip(&table) {
        assert_eq!(walked, told, "arrows that there are, and those of the table");
    }
    assert_eq!(walked.len(), table.len());
}

#[test]
fn the_table_names_each_transition_and_where_it_is() {
    let functions = |text: &'static str| {
        let names = text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap());
        names.collect::<BTreeSet<_>>()
    };
    let table = table();
    let by: BTreeSet<_> = table.iter().flat_map(|row| row.0.split(", ")).collect();
    let helpers = ["next_generation", "with_kind", "renewed"];
    for name in functions(include_str!("transitions.rs")) {
        assert!(by.contains(format!("`{name}`").as_str()) != helpers.contains(&name), "{name}");
    }
    let files = [
        ("blocks", include_str!("../one_word/blocks.rs")),
        ("life", include_str!("../one_word/life.rs")),
        ("merge", include_str!("../one_word/merge.rs")),
        ("misuse", include_str!("../one_word/misuse.rs")),
        ("mod", include_str!("../one_word/mod.rs")),
        ("pin", include_str!("../one_word/pin.rs")),
        ("split", include_str!("../one_word/split.rs")),
        ("token", include_str!("../one_word/token.rs")),
    ];
    for (_, place, _) in &table {
        let (file, name) = place.trim_matches('`').split_once("::").unwrap();
        let (_, text) = files.iter().find(|(stem, _)| *stem == file).unwrap();
        assert!(functions(text).contains(name), "{place} is gone or renamed");
    }
}

std::thread_local! {
    static SEEN: RefCell<BTreeSet<(u64, u64)>> = const { RefCell::new(BTreeSet::new()) };
}

/// A word that notes each change of it, if it is a page word.
struct Noting {
    word: AtomicU64,
    is_page: bool,
}

impl Noting {
    fn words(n: usize, is_page: bool) -> Vec<Self> {
        (0..n).map(|_| Self { word: AtomicU64::new(0), is_page }).collect()
    }

    fn note(&self, before: u64, after: u64) -> u64 {
        if self.is_page {
            // What a step does depends on nothing of the generation.
            let told = [before, after].map(|word| word & !(GEN_MASK << GEN_SHIFT));
            SEEN.with_borrow_mut(|seen| seen.insert((told[0], told[1])));
        }
        before
    }
}

impl AtomicWord for Noting {
    fn load(&self, order: Ordering) -> u64 {
        self.word.load(order)
    }
    fn store(&self, value: u64, _: Ordering) {
        self.note(self.word.swap(value, Ordering::SeqCst), value);
    }
    fn compare_exchange(&self, current: u64, new: u64, ok: Ordering, err: Ordering) -> Result<u64, u64> {
        self.word.compare_exchange(current, new, ok, err).map(|seen| self.note(seen, new))
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        let seen = self.word.fetch_add(value, order);
        self.note(seen, seen.wrapping_add(value))
    }
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        let seen = self.word.fetch_sub(value, order);
        self.note(seen, seen.wrapping_sub(value))
    }
    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_and(value, order)
    }
    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.word.fetch_or(value, order)
    }
    fn fence(order: Ordering) {
        core::sync::atomic::fence(order);
    }
    fn relax() {
        std::thread::yield_now();
    }
}

/// Blocks are had, shared, pinned, split, merged and freed at random by one of several threads.
fn use_at_random(zone: &Zone<'_, OneWord<'_, Noting>>, mut random: u64) {
    let mut dice = |sides: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % sides
    };
    let (mut blocks, mut pins) = (Vec::new(), Vec::new());
    for _ in 0..3_000 {
        let order = Order::wrap([0, 0, 1, 3, 8, 9, 9, 10, 11][dice(9)]);
        let block = if blocks.is_empty() { None } else { Some(blocks.swap_remove(dice(blocks.len()))) };
        match (dice(12), block) {
            (0 | 1, kept) | (_, kept @ None) => {
                let request = Request::new(order);
                let request = if dice(6) == 0 { request.unsplittable() } else { request };
                blocks.extend(zone.alloc_with(request));
                blocks.extend(kept);
            }
            (2 | 3, Some(block)) => {
                pins.extend(block.pin(dice(block.order().frames() as usize) as u64));
                pins.extend(zone.try_pin(Pfn::new(dice(4096) as u64)));
                blocks.push(block);
            }
            (4, Some(block)) => {
                blocks.push(block.clone());
                blocks.push(block);
            }
            (5, Some(block)) => match block.split_to(order) {
                Ok(pieces) if dice(2) == 0 => match pieces.merge() {
                    Ok(block) => blocks.push(block),
                    Err((pieces, _)) => blocks.extend(pieces.take(20)),
                },
                Ok(pieces) => blocks.extend(pieces.take(20)),
                Err((block, _)) => blocks.push(block),
            },
            (6, Some(block)) => match block.split_around(0, Order::PAGE) {
                Ok(pieces) => blocks.extend(pieces),
                Err((block, _)) => blocks.push(block),
            },
            (7, Some(block)) => {
                let raw = zone.raw();
                let token = block.into_raw();
                let _ = raw.split(token, order);
                match dice(2) {
                    0 => drop(raw.merge(raw.tokens(token.frames())).map(|token| raw.put_many(token, 1))),
                    _ => drop(raw.put_many(token, 1)),
                }
            }
            (8, Some(block)) if dice(20) == 0 => {
                zone.set_aside(block.pfn());
                zone.restore(Pfn::new(dice(4096) as u64));
                blocks.push(block);
            }
            _ => pins.truncate(dice(20)),
        }
    }
}

#[test]
fn the_protocol_makes_no_arrow_beyond_the_table() {
    let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    let layout = ZoneLayout::new(&ranges, 1).unwrap();
    let pages = Noting::words(layout.page_words::<OneWord<'_, Noting>>(), true);
    let allocator = Noting::words(layout.allocator_words(), false);
    let zone: Zone<'_, OneWord<'_, Noting>> =
        Zone::new(layout, ZoneConfig::default(), &pages, &allocator).unwrap();
    let seen = std::thread::scope(|scope| {
        let threads = [1, 2, 3].map(|seed| {
            scope.spawn({
                let zone = &zone;
                move || {
                    use_at_random(zone, seed);
                    SEEN.take()
                }
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
    });
    let told: Arrows = table().iter().flat_map(|row| row.2.clone()).collect();
    let mut made = Arrows::new();
    for (before, after) in seen.into_iter().map(|(before, after)| (PageWord(before), PageWord(after))) {
        let arrow = (state(before), state(after));
        assert!(told.contains(&arrow), "{arrow:?}: {before:?} to {after:?}");
        made.insert(arrow);
    }
    assert!(made.len() >= 40, "of {} arrows of the table it has made {}", told.len(), made.len());
    assert_eq!(zone.audit().violations(), 0);
}
