//! The allocator from inside: which frames are free, and what leads to them.

mod parked;
mod uncoalesced;
mod where_from;

use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use std::thread_local;
use std::vec::Vec;

use crate::frame::{FrameRange, Order, Pfn};
use crate::one_word::OneWord;
use crate::protocol::{BlockLife, BlockRefs};

use super::allocator::Allocator;
use super::config::{Request, ZoneConfig};
use super::cpu_cache::Places;
use super::layout::ZoneLayout;

/// The zone's first frame.
const BASE: u64 = 1024;
/// CPU caches of each test's zone.
const CPUS: usize = 2;
/// A CPU that can't be told.
const UNKNOWN: usize = usize::MAX;

/// Numbers below a limit, the same ones for a seed.
pub(super) fn random(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |limit| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % limit
    }
}

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

type OneWords<'m> = Allocator<'m, OneWord<'m>>;

/// Runs `test` on an allocator of so many pageblocks, as the CPU that [`CPU`] says.
fn on_an_allocator(pageblocks: u64, test: impl FnOnce(&OneWords<'_>)) {
    let ranges = [FrameRange::new(Pfn::new(BASE), pageblocks * 512)];
    let layout = ZoneLayout::new(&ranges, CPUS).unwrap();
    let words = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (pages, others) = (words(layout.page_words::<OneWord<'_>>()), words(layout.allocator_words()));
    let config = ZoneConfig::default().cpu(|| {
        assert_ne!(CPU.get(), UNKNOWN, "which CPU it is can't be said");
        CPU.get()
    });
    let allocator = OneWords::over(&layout, config, &pages, &others).unwrap();
    allocator.begin(&layout);
    CPU.set(0);
    test(&allocator);
}

fn order(order: u8) -> Order {
    Order::wrap(order)
}

fn frame(number: u64) -> Pfn {
    Pfn::new(BASE + number)
}

/// A block as a caller of the zone gets it: the number of its first frame.
fn take(allocator: &OneWords<'_>, order: Order) -> Option<u64> {
    let (request, cache) = (Request::new(order), allocator.cpu_cache());
    let head = allocator.alloc_fast(request, cache, Places::Shared);
    let head = head.or_else(|| allocator.alloc_slow(request, cache).ok())?;
    Some(allocator.pool.number(head))
}

/// The last reference to a block goes.
fn free(allocator: &OneWords<'_>, number: u64, order: Order) {
    allocator.protocol.put_block(frame(number), order, allocator);
}

/// All pages of the zone, in use.
fn take_all_pages(allocator: &OneWords<'_>) {
    while take(allocator, Order::PAGE).is_some() {}
}

/// The uncoalesced blocks of `order`.
fn uncoalesced(allocator: &OneWords<'_>, order: Order) -> Vec<u64> {
    let heads = allocator.pool.span().iter().filter(|frame| frame.is_aligned(order));
    let found = heads.filter(|head| allocator.protocol.is_uncoalesced(*head, order));
    found.map(|head| allocator.pool.number(head)).collect()
}
