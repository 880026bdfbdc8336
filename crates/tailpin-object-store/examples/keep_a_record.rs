//! Keeps 200 bytes of an answer of 1 MiB, without the answer.
//!
//! `cargo run -p tailpin-object-store --example keep_a_record`

use std::error::Error;

use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use tailpin_arena::{Arena, PAGE_SIZE};
use tailpin_object_store::ArenaStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = ArenaStore::new(
        LocalFileSystem::new_with_prefix(folder.path())?,
        Arena::builder().limit(64 << 20).build()?,
    );
    let path = Path::from("log");
    store.put(&path, vec![7; 1 << 20].into()).await?;

    let answer = store.get(&path).await?.bytes().await?;
    assert_eq!(store.arena().in_use(), 1 << 20);
    // A cut of the answer would keep all of it. What is detached keeps its pages, or is a copy.
    let record = tailpin_arena::bytes::detach(&answer.slice(5000..5200));
    drop(answer);
    println!("{} bytes are kept by a record of {}", store.arena().in_use(), record.len());
    assert!(store.arena().in_use() <= PAGE_SIZE);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn Error>> {
    main()
}
