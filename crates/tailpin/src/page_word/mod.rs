//! The page word: everything there is to know about one 4 KiB frame, in 64 bits.
//!
//! ```text
//!  63   61 60   56 55    52 51 ... 48 47 ... 42 41 ...... 24 23 ....... 0
//! | kind  | order | drop   | flags    | generation | refs     | pins      |
//! ```
//!
//! | field | on a head | on a tail |
//! | --- | --- | --- |
//! | `pins` | pins of its own first page, plus one *hold* for each of its tails that has pins, plus holds in passing | pins of this page (on the first page of a 2 MiB part of a larger block: also one hold for each pinned tail of that part) |
//! | `refs` | references to the whole block | 0 |
//! | `order` | order of the block | order of the block; 0 in an implicit tail |
//!
//! | field | written by (each in one atomic step on the whole word) |
//! | --- | --- |
//! | `pins` | a thread that has one of them, by an add or a subtraction; the first on a tail under a hold on its head |
//! | `refs` | a thread that has one of them, while nothing happens to the block; frozen during a split or merge |
//! | `kind`, `order`, `drop` | on a head, a thread that has a reference (of a merge: the only one); on a tail, a thread that splits or merges its block |
//! | `flags` | a thread with a pin or a hold, or one that marks a frame hwpoison |
//! | `generation` | the thread that begins a block |
//! | all, by a plain store | the thread that owns the free frame |
//!
//! An ordinary page is a head of order 0. A word that is zero but for its generation is *implicit*:
//! a free frame, or a tail without pins, whose head is the one that covers it. A zero-filled map is
//! thus a valid map of free frames, and a whole 2 MiB block is handed out by writing one word.
//!
//! A head (and the first word of each 2 MiB part of a larger block) says by a flag whether any 4
//! KiB tail below it may be *explicit*, that is, name its order. While none is, all of them are
//! implicit, and a split has nothing to do but to make the heads of the pieces.
//!
//! A free frame may be *uncoalesced*: not in the allocator's pool but there for the first thread
//! that claims it, by a compare-and-swap on this very word. A page's life is then one such step out
//! of it and one back.
//!
//! A token of the raw interface names a block by its first frame, order and generation. It still
//! stands for its pieces when another holder has split the block, so a word tells which blocks it
//! was part of. A head that a split made says so by a flag. A settled head has its *rise* in the
//! place of `drop`: how many orders larger the block was when its generation began. So no two
//! blocks that were handed out one by one can pass for one.
//!
//! Every change of state is a pure function from word to word in `transitions.rs`; only where a
//! word is known to have room is a pin or a reference added to its number at once. The loops that
//! apply them live with the protocol. This is the answer to "can never be changed to point to this
//! page" of the mail: there is no pointer, and *is it a tail*, *of which head* and *how often
//! pinned* are one load.
//!
//! # States
//!
//! Every change of a page word, and nothing else happens to one. A test of this module applies each
//! function to all kinds of words as its caller may meet them, and finds these arrows and no
//! others; another runs the protocol over words that note each change. *Head* is a page or larger
//! block that may be split, *unsplittable* one that may not, *heads-only* a split that has no tail
//! to rewrite. An *implicit* word is zero but for its generation; *tail* is a tail without pins
//! that names its head's order. *Uncoalesced* is a free frame outside the allocator's pool. "The
//! same" means that the kind stays and a count or a flag changes.
//!
//! | from | to | by | in |
//! | --- | --- | --- | --- |
//! | free, implicit, tail | free | `as_free` | `life::prepare_tails` |
//! | free, implicit, tail | tail | `tail_of` | `life::prepare_tails` |
//! | free, implicit, tail | head, unsplittable | `publish` | `life::publish` |
//! | uncoalesced | head, unsplittable | `publish` | `life::claim_as` |
//! | uncoalesced | head, unsplittable | `publish` | `life::claim_left` |
//! | uncoalesced | free | `claimed` | `life::claim_as` |
//! | free, implicit, tail | uncoalesced | `as_uncoalesced` | `life::leave_uncoalesced` |
//! | head | uncoalesced | `frees_uncoalesced` | `life::free_uncoalesced_at` |
//! | head, unsplittable | uncoalesced | `drop_refs`, `frees_at_once`, `as_uncoalesced` | `life::free_at_once` |
//! | head, unsplittable | free | `drop_refs`, `frees_at_once` | `life::free_at_once` |
//! | head, unsplittable | free, offline | `freed` | `life::free_block` |
//! | head, unsplittable | uncoalesced | `freed`, `as_uncoalesced` | `life::free_block` |
//! | implicit | free | `freed` | `life::store_freed` |
//! | head, unsplittable, tail | free, offline | `freed` | `life::store_freed` |
//! | free, implicit, tail | implicit | `as_implicit` | `life::scrub` |
//! | head, unsplittable, splitting, heads-only, merging, pinned tail | the same | `pin` | `pin::try_get` |
//! | head | the same | `hold_settled` | `pin::hold` |
//! | head, splitting, merging, pinned tail | the same | `hold` | `pin::count_on` |
//! | heads-only | splitting | `hold` | `pin::count_on` |
//! | implicit, tail | pinned tail | `tail_of`, `pin` | `pin::pin_first` |
//! | implicit, tail | pinned tail | `tail_of`, `hold` | `pin::pin_first` |
//! | head, unsplittable, splitting, heads-only, merging, pinned tail | the same | `unpin` | `pin::unpin_step` |
//! | pinned tail | tail | `unpin` | `pin::unpin_step` |
//! | head, unsplittable | the same | `add_refs` | `blocks::get_refs_on` |
//! | head, unsplittable | the same | `drop_refs` | `blocks::drop_refs_from` |
//! | head, unsplittable | the same | `adopted` | `token::raw_adopt` |
//! | head | splitting, heads-only | `begin_split` | `split::split_piece` |
//! | head | splitting | `begin_self_split` | `split::self_split` |
//! | pinned tail | splitting | `piece`, `begin_self_split` | `split::scatter_pageblock` |
//! | splitting | splitting | `end_split`, `begin_last_split` | `split::scatter_pageblocks` |
//! | implicit, tail, pinned tail | head | `page` | `split::convert_all` |
//! | implicit, tail, pinned tail | head | `piece` | `split::convert` |
//! | implicit, tail | tail | `tail_of` | `split::convert` |
//! | pinned tail | the same | `tail_of` | `split::convert` |
//! | head | the same | `with_explicit_tails` | `split::convert` |
//! | splitting | head | `end_split` | `split::settle` |
//! | splitting | head | `end_split`, `unpin` | `split::scatter_pages` |
//! | splitting | free, offline | `end_split`, `unpin`, `freed` | `split::scatter_pages` |
//! | heads-only | head | `end_split` | `split::split_heads_only` |
//! | pinned tail | head | `page` | `split::scatter_tails` |
//! | implicit | free | `freed` | `split::scatter_tails` |
//! | tail | free, offline | `freed` | `split::scatter_tails` |
//! | head | merging | `set_apart` | `token::set_apart` |
//! | merging | splitting | `adopted`, `begin_split` | `merge::to_pages` |
//! | head, merging | merging | `begin_merge` | `merge::join` |
//! | head, merging, tail | implicit | `as_implicit` | `merge::adopt` |
//! | head, merging, tail | tail | `tail_of` | `merge::adopt` |
//! | head, merging, pinned tail | pinned tail | `tail_of` | `merge::adopt_pinned` |
//! | merging | merging | `mark_has_hwpoisoned`, `with_explicit_tails` | `merge::join` |
//! | merging | head | `end_merge` | `merge::join` |
//! | head, unsplittable, splitting, heads-only, merging, pinned tail | the same | `mark_hwpoison` | `misuse::mark_hwpoison` |
//! | head, unsplittable, splitting, heads-only, merging | the same | `mark_has_hwpoisoned` | `misuse::mark_hwpoison_pinned` |
//! | head, splitting, heads-only, merging | the same | `mark_has_hwpoisoned` | `split::mark_pieces_hwpoisoned` |
//! | head, unsplittable, splitting, merging | the same | `hold`, `mark_has_hwpoisoned` | `misuse::mark_hwpoison_held` |
//! | heads-only | splitting | `hold`, `mark_has_hwpoisoned` | `misuse::mark_hwpoison_held` |
//! | tail, pinned tail | the same | `with_explicit_tails` | `misuse::mark_hwpoison_held` |
//! | implicit | tail | `tail_of`, `mark_hwpoison` | `misuse::mark_hwpoison_held` |
//! | tail, pinned tail | the same | `mark_hwpoison` | `misuse::mark_hwpoison_held` |
//! | implicit | reserved | `reserved` | `life::reserve` |
//! | free, implicit, tail | offline | `as_offline` | `life::take_offline` |
//! | reserved, offline | free | `back_in_service` | `life::enter_service` |

mod layout;
#[cfg(test)]
mod state_table;
#[cfg(test)]
mod tests;
mod transitions;

pub(crate) use layout::ONE_REF;
pub use layout::{PIN_LIMIT, PageWord, REF_LIMIT};
