//! Keys over random sequences of everything that may happen to pages.

use proptest::prelude::*;
use tailpin_futex::model::{Mapping, Model, Size};
use tailpin_futex::{Futex, Futexes, Key, StdScheduler};

const PAGES: usize = 16;

#[derive(Clone, Debug)]
enum Event {
    Split(usize),
    Migrate(usize),
    Collapse(usize),
    /// The object is mapped elsewhere in the second space, by blocks or by pages.
    Remap(usize, bool),
    Touch(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..PAGES).prop_map(Event::Split),
        (0..PAGES).prop_map(Event::Migrate),
        (0..PAGES).prop_map(Event::Collapse),
        (0..3_usize, any::<bool>()).prop_map(|(block, huge)| Event::Remap(block * 8, huge)),
        (0..PAGES).prop_map(Event::Touch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_are_invariant_and_distinct(events in prop::collection::vec(event(), 0..60)) {
        let futexes = Futexes::new(StdScheduler::new(), 1);
        let model = Model::new(Size { frames: 96, pages: 64, ..Size::default() });
        let object = model.object(PAGES, true);
        let (here, there) = (model.space(), model.space());
        here.map_shared(0, PAGES, object, true);
        let anonymous = here.map_anonymous(32, 8, true);
        let mut moved = 8;
        let mapping = |page, huge| Mapping { page, pages: PAGES, object, index: 0, writable: true, private: false, huge };
        there.map(mapping(moved, false));

        let key = |space, page: usize, word: usize| -> Key {
            let at = (page * 4096 + word * 4) as u64;
            futexes.key(&Futex::shared(space, at), tailpin_futex::Access::Read).unwrap()
        };
        let all = |from| -> Vec<Key> {
            let words = (0..PAGES).flat_map(|page| (0..2).map(move |word| (page, word)));
            words.map(|(page, word)| key(if from == 0 { &here } else { &there }, from + page, word)).collect()
        };
        let anonymous_keys = || -> Vec<Key> { (32..40).map(|page| key(&here, page, 1)).collect() };
        let (before, private) = (all(0), anonymous_keys());
        for event in events {
            match event {
                Event::Split(page) => {
                    model.split(object, page);
                    model.split(anonymous, page % 8);
                }
                Event::Migrate(page) => {
                    model.relocate(object, page, 0);
                    model.relocate(anonymous, page % 8, 0);
                }
                Event::Collapse(page) => {
                    model.relocate(object, page, 3);
                    model.relocate(anonymous, page % 8, 3);
                }
                Event::Remap(page, huge) => {
                    there.remap(moved, Some(mapping(page, huge)));
                    moved = page;
                }
                Event::Touch(page) => here.store(page as u64 * 4096, 1),
            }
            prop_assert_eq!(&all(0), &before);
            // From the other space, wherever it maps the object. (From 0 the closure would take the
            // first space.)
            if moved > 0 {
                prop_assert_eq!(&all(moved), &before);
            }
            prop_assert_eq!(&anonymous_keys(), &private);
        }
        let mut distinct: Vec<String> = before.iter().chain(&private).map(ToString::to_string).collect();
        let count = distinct.len();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), count);
    }
}
