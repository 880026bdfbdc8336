//! Reads two ranges of an object with one request and keeps one of them.
//!
//! `cargo run -p tailpin-object-store --example ranges`

use std::error::Error;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tailpin_arena::Arena;
use tailpin_object_store::ArenaStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arena = Arena::builder().limit(64 << 20).build()?;
    let store = ArenaStore::new(InMemory::new(), arena.clone());
    let path = Path::from("object");
    store.put(&path, vec![7; 8 << 20].into()).await?;

    let parts = store.get_ranges(&path, &[0..65_536, 1_000_000..1_065_536]).await?;
    println!("{} requests, {} bytes kept", store.counters().requests, arena.in_use());
    assert_eq!((store.counters().requests, arena.in_use()), (1, 2 * 65_536));
    let kept = parts.into_iter().next_back().ok_or("two ranges were asked for")?;
    assert_eq!((kept.len(), arena.in_use()), (65_536, 65_536));
    drop(kept);
    assert_eq!(arena.in_use(), 0);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
