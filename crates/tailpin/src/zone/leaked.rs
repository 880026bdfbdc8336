//! A zone for as long as the program runs.

use std::boxed::Box;

use crate::alloc::config::ZoneConfig;
use crate::alloc::layout::ZoneLayout;
use crate::error::ZoneError;
use crate::frame::FrameRange;

use super::Zone;
use super::memory::ZoneMemory;

impl Zone<'static> {
    /// A zone of `ranges`, with caches for `cpus` CPUs, that is never given back: neither it nor
    /// its metadata. So nothing borrows from a place that has to outlive it, and the zone, its
    /// blocks, its pins and what is built on it (the spaces of `tailpin-mm`) fit side by side in
    /// one struct and go to any thread.
    ///
    /// A program has few such zones, each for all of its life. One that makes zones again and again
    /// keeps the [`ZoneMemory`] itself.
    ///
    /// # Errors
    /// Those of [`ZoneLayout::new`].
    ///
    /// # Panics
    /// If there is no memory for the metadata, 8.3 bytes for each frame.
    ///
    /// ```
    /// use tailpin::{AllocError, Block, FrameRange, Order, PageRef, Pfn, Zone, ZoneConfig};
    ///
    /// struct Cache {
    ///     zone: &'static Zone<'static>,
    ///     open: Block<'static>,
    ///     kept: Vec<PageRef<'static>>,
    /// }
    ///
    /// impl Cache {
    ///     fn keep(&mut self, page: u64) -> Result<(), Box<dyn std::error::Error>> {
    ///         self.kept.push(self.open.pin(page)?);
    ///         Ok(())
    ///     }
    ///
    ///     fn next(&mut self) -> Result<(), AllocError> {
    ///         self.open = self.zone.alloc(Order::HUGE)?; // of the one before, what is kept stays
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let ranges = [FrameRange::new(Pfn::new(0), 4096)];
    /// let zone = Zone::leaked(&ranges, 4, ZoneConfig::default())?;
    /// let mut cache = Cache { zone, open: zone.alloc(Order::HUGE)?, kept: Vec::new() };
    /// cache.keep(7)?;
    /// std::thread::spawn(move || cache.next().map(|()| cache)).join().unwrap()?;
    /// assert_eq!(zone.used_frames(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leaked(
        ranges: &[FrameRange],
        cpus: usize,
        config: ZoneConfig<'static>,
    ) -> Result<&'static Self, ZoneError> {
        let layout = ZoneLayout::new(ranges, cpus)?;
        let memory: &'static ZoneMemory = Box::leak(Box::new(ZoneMemory::for_layout(&layout)));
        Ok(Box::leak(Box::new(memory.zone(layout, config)?)))
    }
}
