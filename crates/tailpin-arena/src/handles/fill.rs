//! What is being filled from its front to its end.

/// A buffer with room behind what is filled.
pub(crate) trait Fill {
    /// The next bytes of the room that lie side by side; none if it is full.
    fn spare(&mut self) -> &mut [u8];
    /// Bytes that still fit.
    fn room(&self) -> usize;
    /// Counts the first `n` bytes of the room as filled.
    fn advance(&mut self, n: usize);
}
