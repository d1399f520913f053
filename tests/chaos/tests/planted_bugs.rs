//! That the bugs which the checker must catch are still there to be caught. By the text, since what is built here has none.

use std::path::Path;
use std::{fs, io};

/// All Rust sources in a folder.
fn sources(folder: &Path) -> io::Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(text)
}

#[test]
fn every_bug_is_in_what_a_real_server_or_client_is_made_of() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(root.join("protocol/src/planted.rs"))?;
    let (_, list) = list.split_once("ALL: [Self; 10] = [").expect("the list of the ten");
    let (list, _) = list.split_once(']').expect("its end");
    let bugs: Vec<&str> = list.split(',').filter_map(|bug| bug.trim().strip_prefix("Self::")).collect();
    assert_eq!(bugs.len(), 10, "{bugs:?}");
    let folders = ["state/src", "server/src", "client-core/src"].map(|folder| sources(&root.join(folder)));
    let text = folders.into_iter().collect::<io::Result<String>>()?;
    for bug in bugs {
        assert!(text.contains(&format!("Bug::{bug})")), "{bug} is planted nowhere");
    }
    Ok(())
}
