//! Replicas that apply the same log are equal to the byte, wherever they were stopped and loaded again.

mod common;

use bytes::Bytes;
use hither_state::device::{MemoryState, Space, StateDevice};
use hither_state::image::{self, Meta};
use hither_state::{Applied, Command, Position, State, decode_batch, encode_batch};
use proptest::prelude::*;

use crate::common::{LIMITS, deeds, log};

fn image(state: &State) -> (Vec<(Space, Bytes, Bytes)>, Meta) {
    (image::all_rows(state).collect(), Meta::of(state, 0, Bytes::new()))
}

fn apply(state: &mut State, log: &[(Position, Command)]) -> Vec<Applied> {
    log.iter().map(|(position, command)| state.apply(*position, command)).collect()
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_answers_changes_and_image(deeds in deeds(80)) {
        let log = log(&deeds);
        let (mut one, mut other) = (State::new(LIMITS), State::new(LIMITS));
        let commands: Vec<Command> = log.iter().map(|(_, command)| command.clone()).collect();
        let decoded = decode_batch(&encode_batch(&commands)).unwrap();
        let decoded: Vec<_> = log.iter().map(|(position, _)| *position).zip(decoded).collect();
        prop_assert_eq!(apply(&mut one, &log), apply(&mut other, &decoded));
        prop_assert_eq!(image(&one), image(&other));
    }

    #[test]
    fn a_replica_loaded_from_its_image_goes_on_as_if_it_had_never_stopped(deeds in deeds(80), stop in 0..80usize) {
        let log = log(&deeds);
        let (before, after) = log.split_at(stop.min(log.len()));
        let mut state = State::new(LIMITS);
        let mut device = MemoryState::default();
        for applied in apply(&mut state, before) {
            let mut rows = Vec::new();
            image::rows(&applied.delta, &mut rows);
            device.write(&rows, &Meta::of(&state, 0, Bytes::new()).encode()).unwrap();
        }
        let mut loaded = match image::load(&device).unwrap() {
            Some(loaded) => loaded.state,
            None => State::new(LIMITS),
        };
        prop_assert_eq!(image(&loaded), image(&state));
        prop_assert_eq!(apply(&mut loaded, after), apply(&mut state, after));
        prop_assert_eq!(image(&loaded), image(&state));
    }

    #[test]
    fn a_replica_made_of_all_rows_is_equal(deeds in deeds(80)) {
        let mut state = State::new(LIMITS);
        apply(&mut state, &log(&deeds));
        let mut device = MemoryState::default();
        let meta = Meta::of(&state, 9, Bytes::from_static(b"opaque"));
        device.replace(&mut image::all_rows(&state), &meta.encode()).unwrap();
        let loaded = image::load(&device).unwrap().unwrap();
        prop_assert_eq!(loaded.meta, meta);
        prop_assert_eq!(image(&loaded.state), image(&state));
        let rows: Vec<_> = image::all_rows(&state).map(|(space, key, _)| (space, key)).collect();
        prop_assert!(rows.is_sorted(), "the rows are in the order that a device wants");
    }
}
