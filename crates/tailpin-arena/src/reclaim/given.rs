//! Free frames whose memory goes, and what became of it.

use tailpin::OneWord;

/// Free frames that no one else can be handed while their memory goes.
pub(crate) type Claimed<'z> = tailpin::Claimed<'z, OneWord<'static>>;

/// What became of some frames' memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GivenBack {
    /// Went back: it was there before and is not any more, and its huge page is none any more.
    pub(crate) returned: usize,
    /// The kernel would not let go of: something else holds the huge page.
    pub(crate) stuck: usize,
}
