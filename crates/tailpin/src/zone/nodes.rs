//! Several zones, one per NUMA node, and the order in which each node falls back on the others.

use crate::error::AllocError;
use crate::frame::Order;
use crate::one_word::OneWord;
use crate::protocol::Protocol;
use crate::zone::handle::Block;

use super::Zone;
use crate::alloc::config::Request;

/// Zones by node, with a fallback order for each (a kernel's zonelist).
///
/// ```
/// # use tailpin::*;
/// # let ranges = [[FrameRange::new(Pfn::new(0), 512)], [FrameRange::new(Pfn::new(4096), 512)]];
/// # let layouts = ranges.each_ref().map(|r| ZoneLayout::new(r, 1).unwrap());
/// # let memory = layouts.each_ref().map(ZoneMemory::for_layout);
/// # let zones: [Zone; 2] = [0, 1].map(|i| memory[i].zone(layouts[i], ZoneConfig::default()).unwrap());
/// let zones = [&zones[0], &zones[1]];
/// let fallback: [&[usize]; 2] = [&[0, 1], &[1, 0]];
/// let nodes = Nodes::new(&zones, &fallback);
/// let here = nodes.alloc(1, Order::HUGE)?;
/// let fallen_back = nodes.alloc(1, Order::HUGE)?;
/// assert!(fallen_back.pfn() < here.pfn());
/// # Ok::<(), AllocError>(())
/// ```
pub struct Nodes<'z, 'a, P: Protocol = OneWord<'z>> {
    zones: &'a [&'z Zone<'z, P>],
    fallback: &'a [&'a [usize]],
}

impl<'z, 'a, P: Protocol> Nodes<'z, 'a, P> {
    /// `fallback[node]` lists indices into `zones` in the order in which `node` tries them.
    ///
    /// # Panics
    /// If a fallback list names a zone that is not there.
    pub fn new(zones: &'a [&'z Zone<'z, P>], fallback: &'a [&'a [usize]]) -> Self {
        assert!(
            fallback.iter().all(|list| list.iter().all(|zone| *zone < zones.len())),
            "a fallback list names a zone that is not there"
        );
        Self { zones, fallback }
    }

    /// A block for `node`: from the first zone of its list that has one.
    ///
    /// # Errors
    /// The error of the last zone tried; for an unknown node or an empty list,
    /// [`AllocError::Exhausted`] with nothing left.
    pub fn alloc(&self, node: usize, order: Order) -> Result<Block<'z, P>, AllocError> {
        self.alloc_with(node, Request::new(order))
    }

    /// As [`Nodes::alloc`], with all options.
    ///
    /// # Errors
    /// As [`Nodes::alloc`].
    pub fn alloc_with(&self, node: usize, request: Request) -> Result<Block<'z, P>, AllocError> {
        let nothing = AllocError::Exhausted { order: request.order(), free_frames: 0, free_pageblocks: 0 };
        let mut got = Err(nothing);
        for zone in self.fallback.get(node).copied().unwrap_or_default() {
            got = self.zones[*zone].alloc_with(request);
            if got.is_ok() {
                break;
            }
        }
        got
    }
}
