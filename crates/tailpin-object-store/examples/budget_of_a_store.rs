//! Reads beyond the arena's limit: one that falls back to the heap, and one that waits for room.
//!
//! `cargo run -p tailpin-object-store --example budget_of_a_store`

use std::error::Error;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tailpin_arena::Arena;
use tailpin_object_store::{ArenaStore, WhenFull};

const MIB: u64 = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let inner = InMemory::new();
    let path = Path::from("object");
    inner.put(&path, vec![7; 4 * MIB as usize].into()).await?;
    let arena = Arena::builder().limit(2 * MIB as usize).build()?;

    // The default: what has no room is read into memory of the heap, and counted.
    let store = ArenaStore::new(inner.clone(), arena.clone());
    let full = store.get_range(&path, 0..2 * MIB).await?;
    let beyond = store.get_range(&path, 2 * MIB..3 * MIB).await?;
    println!("{} bytes beside the limit", store.counters().fell_back_bytes);
    assert_eq!((arena.in_use() as u64, store.counters().fell_back_bytes), (2 * MIB, MIB));
    drop((full, beyond));

    // The other way: the read waits, first come first served, until enough was given back.
    let store = ArenaStore::new(inner, arena.clone()).when_full(WhenFull::Wait);
    let full = store.get_range(&path, 0..2 * MIB).await?;
    let (next, ()) = tokio::join!(store.get_range(&path, 2 * MIB..3 * MIB), async {
        while store.counters().waited == 0 {
            tokio::task::yield_now().await;
        }
        drop(full);
    });
    assert_eq!((next?.len() as u64, store.counters().fell_back), (MIB, 0));
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
