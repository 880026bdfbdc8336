//! object_store's own integration tests, over a store in memory and one of local files: with an
//! arena that has room, and with one that is always full.

use object_store::integration::*;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{DynObjectStore, ObjectStore};
use tailpin_arena::Arena;
use tailpin_object_store::{ArenaStore, WhenFull};

/// An arena with room for every read, and one that has none.
fn arenas() -> [Arena; 2] {
    [1 << 30, 0].map(|limit| Arena::builder().size(1 << 30).limit(limit).build().unwrap())
}

async fn all(storage: &DynObjectStore) {
    put_get_delete_list(storage).await;
    get_opts(storage).await;
    list_uses_directories_correctly(storage).await;
    list_with_delimiter(storage).await;
    list_with_offset_exclusivity(storage).await;
    rename_and_copy(storage).await;
    copy_if_not_exists(storage).await;
    copy_rename_nonexistent_object(storage).await;
    stream_get(storage).await;
    multipart_race_condition(storage, true).await;
    multipart_out_of_order(storage).await;
}

fn around<S: ObjectStore>(inner: S, arena: &Arena) -> ArenaStore<S> {
    // Each answer lands, however small.
    ArenaStore::new(inner, arena.clone()).smallest(1).when_full(WhenFull::Wait)
}

#[tokio::test]
async fn over_memory() {
    for arena in arenas() {
        let store = around(InMemory::new(), &arena);
        all(&store).await;
        put_opts(&store, true).await;
        put_get_attributes(&store).await;
        let told = store.counters();
        assert!(if arena.limit() == Some(0) {
            told.landed == 0 && told.fell_back > 0
        } else {
            told.landed > 0
        });
        drop(store);
        assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
    }
}

#[tokio::test]
async fn over_local_files() {
    for arena in arenas() {
        let root = tempfile::tempdir().unwrap();
        let store = around(LocalFileSystem::new_with_prefix(root.path()).unwrap(), &arena);
        all(&store).await;
        put_opts(&store, false).await;
        let missing = get_nonexistent_object(&store, None).await.unwrap_err();
        assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing}");
        let told = store.counters();
        assert!(if arena.limit() == Some(0) {
            told.landed == 0 && told.fell_back > 0
        } else {
            told.landed > 0
        });
        drop(store);
        assert_eq!((arena.in_use(), arena.audit().violations()), (0, 0));
    }
}
