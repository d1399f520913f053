//! A data directory has one process, one format, one cluster and one owner, and says so.
#![allow(clippy::unwrap_used, reason = "in a test it is the clearest failure there is")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;

use common::*;
use hither_protocol::ClusterId;
use hither_state::device::LogDevice;
use hither_storage::{DataDir, StorageError, Vacancy};

fn refusal(path: &Path) -> StorageError {
    open(path).map(drop).unwrap_err()
}

#[test]
fn a_directory_that_is_no_nodes_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    for path in [missing.as_path(), directory.path()] {
        let error = refusal(path);
        assert!(matches!(error, StorageError::NotInitialised { .. }), "{error}");
        assert_eq!(error.exit_code(), 78);
        assert!(!DataDir::exists(path));
    }
    assert!(!missing.exists());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_node_is_created_once_and_in_an_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    drop(create(&path));
    assert!(DataDir::exists(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(DataDir::identify(&path).unwrap(), IDENTITY);
    assert_eq!(DataDir::open(&path, Some(IDENTITY.cluster)).unwrap().identity(), &IDENTITY);

    let error = DataDir::create(&path, IDENTITY).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyInitialised { .. }), "{error}");
    let error = DataDir::create(directory.path(), IDENTITY).unwrap_err();
    assert!(matches!(&error, StorageError::NotEmpty { found, .. } if found == "a"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "and nothing was put beside it");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_creation_that_was_interrupted_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    fs::remove_file(path.join("IDENT")).unwrap();
    let error = DataDir::create(&path, IDENTITY).unwrap_err();
    assert!(matches!(error, StorageError::NotEmpty { .. }), "data without IDENT is not thrown away: {error}");
    fs::write(path.join("CREATING"), "").unwrap();
    let (mut log, _state) = create(&path);
    assert_eq!(log.recover().unwrap().range, None);
    assert!(!path.join("CREATING").exists());
}

#[test]
fn a_creation_that_was_interrupted_at_its_very_end_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    fs::write(path.join("CREATING"), "").unwrap();
    open(&path).unwrap();
    assert!(!path.join("CREATING").exists(), "or a later loss of IDENT would make leftovers of the data");
}

#[test]
fn the_second_to_open_is_told_who_was_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let (log, state) = create(&path);
    let reader = log.reader();
    let held = || {
        let error = refusal(&path);
        assert!(matches!(error, StorageError::Held { pid: Some(pid), .. } if pid == process::id()), "{error}");
        assert!(error.to_string().contains(&format!("process {}", process::id())), "{error}");
        assert_eq!(error.exit_code(), 75);
    };
    held();
    drop(log);
    held();
    drop(state);
    held();
    drop(reader);
    open(&path).unwrap();
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    let ident = fs::read_to_string(path.join("IDENT")).unwrap();
    fs::write(path.join("IDENT"), ident.replace("hither-data 1", "hither-data 7")).unwrap();
    let error = refusal(&path);
    assert_eq!(error.exit_code(), 76);
    assert!(error.to_string().contains("format 7") && error.to_string().contains("up to 1"), "{error}");
}

#[test]
fn another_cluster_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(create(directory.path()));
    let other = ClusterId(*b"fedcba9876543210");
    let error = DataDir::open(directory.path(), Some(other)).unwrap_err();
    assert!(error.to_string().contains(&other.to_string()), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_directory_that_everybody_may_write_in_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let error = refusal(&path);
    assert_eq!(error.exit_code(), 77, "{error}");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    open(&path).unwrap();
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::write(&path, "").unwrap();
    assert_eq!(refusal(&path).exit_code(), 77);
    assert!(DataDir::create(&path, IDENTITY).is_err());
}

#[test]
fn a_directory_that_cannot_be_made_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DataDir::create(file.join("data"), IDENTITY).unwrap_err();
    assert_eq!(error.exit_code(), 74, "{error}");
    assert!(error.to_string().contains("file/data: cannot create it"), "{error}");
}

#[test]
fn a_state_that_current_state_does_not_name_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(create(&path));
    crash_image(&path.join("state-1"), &path.join("state-2"));
    fs::create_dir(path.join("state-notes")).unwrap();
    drop(open(&path).unwrap());
    assert!(!path.join("state-2").exists());
    assert!(path.join("state-notes").exists(), "what is not ours stays");

    fs::write(path.join("CURRENT_STATE"), "nonsense").unwrap();
    assert_eq!(refusal(&path).exit_code(), 74);
    fs::write(path.join("CURRENT_STATE"), "state-3\n").unwrap();
    assert_eq!(refusal(&path).exit_code(), 74);
    assert!(path.join("state-1").exists(), "and nothing is removed on the word of a damaged file");
    fs::write(path.join("CURRENT_STATE"), "state-1\n").unwrap();
    drop(open(&path).unwrap());
}

#[test]
fn of_two_who_would_create_a_node_one_is_told_of_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let first = Vacancy::claim(directory.path()).unwrap();
    let error = Vacancy::claim(directory.path()).unwrap_err();
    assert!(matches!(error, StorageError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    drop(first.create(IDENTITY).unwrap());
    let error = Vacancy::claim(directory.path()).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyInitialised { .. }), "{error}");
}
