//! A page table that a CPU has in its root register ([`RootRef`](tailpin_mm::RootRef)).

use tailpin::{Kind, Zone};
use tailpin_mm::{Map, MmConfig, Prot, RootRef, StdEnv};

use crate::common::*;

/// Whether the table's frame is still a page of one reference, and maps nothing.
fn is_kept(zone: &Zone<'_>, env: &StdEnv, loaded: &RootRef<'_, StdEnv>) -> bool {
    use tailpin_mm::DirectMap;
    let state = zone.state(loaded.root());
    let table = env.frame(loaded.root()).cast::<[std::sync::atomic::AtomicU64; 512]>();
    // SAFETY: the frames are memory of the environment, and used as atomic words.
    #[allow(unsafe_code)]
    let empty =
        unsafe { table.as_ref() }.iter().all(|entry| entry.load(std::sync::atomic::Ordering::Relaxed) == 0);
    empty && state.is_some_and(|state| state.kind == Kind::Page && state.refs == 1)
}

#[test]
fn a_table_outlives_its_space_while_a_cpu_has_it() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, env| {
        let space = mm.space().unwrap();
        let addr = space.map(Map::anonymous(2 * HUGE, Prot::READ_WRITE)).unwrap();
        space.write(addr, b"mapped").unwrap();
        let (first, id) = (space.load(), space.id());
        let second = first.clone();
        assert_eq!((first.id(), first.root()), (id, second.root()));
        drop(space);
        assert!(is_kept(zone, env, &first), "the table is gone, or maps what is gone");
        // Everything else is free: the table and the page of zeroes are left, for as long as one
        // CPU has it.
        assert_eq!(zone.used_frames(), 2);
        // No other space is given it.
        let others: Vec<_> = (0..64).map(|_| mm.space().unwrap()).collect();
        assert!(others.iter().all(|other| other.load().root() != first.root()));
        drop(others);
        drop(first);
        assert!(is_kept(zone, env, &second));
        assert_eq!(zone.used_frames(), 2);
        drop(second);
        assert_eq!(zone.used_frames(), 1);
    });
}

#[test]
fn spaces_end_on_one_thread_while_others_have_them_loaded() {
    machine(32 * MIB, MmConfig::default(), |mm, zone, env| {
        for _ in 0..100 {
            let space = mm.space().unwrap();
            let addr = space.map(Map::anonymous(HUGE, Prot::READ_WRITE)).unwrap();
            std::thread::scope(|scope| {
                for cpu in 0..3 {
                    let loaded = space.load();
                    let mapped = (cpu > 0).then(|| space.mapping(addr));
                    scope.spawn(move || {
                        assert!(zone.state(loaded.root()).is_some_and(|state| state.refs == 1));
                        let _ = mapped;
                        drop(loaded);
                    });
                }
                space.write(addr, b"mapped").unwrap();
                let last = space.load();
                drop(space);
                assert!(is_kept(zone, env, &last));
            });
        }
        assert_eq!(zone.used_frames(), 1);
    });
}
