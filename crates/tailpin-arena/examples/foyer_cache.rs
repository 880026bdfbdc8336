//! A `foyer` cache of small slices, weighed by what they keep and by their length.
//!
//! `cargo run -p tailpin-arena --example foyer_cache --features foyer`

use foyer::{Cache, CacheBuilder};
use tailpin_arena::foyer::weigher;
use tailpin_arena::{Arena, Slice};

const CAPACITY: usize = 1 << 20;

fn fill(name: &str, cache: &Cache<usize, Slice>) -> Result<(), Box<dyn std::error::Error>> {
    // Address space; memory comes with the first touch.
    let arena = Arena::builder().size(1 << 30).build()?;
    for block in 0..10_000 {
        let read = arena.alloc(64 << 10)?.freeze();
        cache.insert(block, read.slice(1000..1200));
    }
    println!("{name}: capacity {CAPACITY}, kept {} bytes", arena.stats().in_use());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let builder = || CacheBuilder::new(CAPACITY).with_shards(1);
    fill("by length   ", &builder().with_weighter(|_: &usize, slice: &Slice| slice.len()).build())?;
    fill("by footprint", &builder().with_weighter(weigher()).build())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
